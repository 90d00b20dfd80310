use std::io::IsTerminal;
use std::time::{Duration, Instant};

use crate::context::Context;
use crate::text::bytes;

/// Shown for the first time after this long, and then not more often.
const TERMINAL: Duration = Duration::from_millis(200);
/// The same where every change is a line.
const FILE: Duration = Duration::from_secs(10);

/// How far a copy is.
pub(super) struct Progress<'a> {
    context: &'a Context,
    total: Option<u64>,
    done: u64,
    pause: Duration,
    shown: Instant,
}

impl<'a> Progress<'a> {
    pub(super) fn new(context: &'a Context, total: Option<u64>) -> Self {
        let pause = if std::io::stderr().is_terminal() { TERMINAL } else { FILE };
        Self { context, total, done: 0, pause, shown: Instant::now() }
    }

    /// So many more bytes went by.
    pub(super) fn add(&mut self, count: usize) {
        self.done += count as u64;
        if self.shown.elapsed() >= self.pause {
            self.shown = Instant::now();
            let total = self.total.map_or_else(String::new, |total| format!(" of {}", bytes(total)));
            self.context.output.progress(&format!("copying: {}{total}", bytes(self.done)));
        }
    }
}
