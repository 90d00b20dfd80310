//! The terminal we are started in: raw while somebody attaches, and as it was before on every way out.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use burstflare_ports::wire::terminal::{Size, USUAL};
use rustix::termios::{OptionalActions, Termios};

/// Brings the terminal's screen to its usual state: the first screen, no modes of a program's, a visible cursor.
const USUAL_STATE: &str = "\x18\x1b[?1049l\x1b[!p\x1b[?1;5;6;9;1000;1002;1003;1004;1005;1006;1007;1015;2004l\
    \x1b[?7;25h\x1b[4;20l\x1b[r\x1b(B\x1b)B\x0f\x1b>\x1b[<9u\x1b[0 q\x1b[0m";

/// What to go back to; there is one terminal.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// While it lives the terminal is raw.
#[derive(Debug)]
pub struct Raw(());

/// Whether standard input and output are a terminal.
#[must_use]
pub fn is_there() -> bool {
    rustix::termios::isatty(io::stdin()) && rustix::termios::isatty(io::stdout())
}

/// The window's size.
#[must_use]
pub fn size() -> Size {
    match rustix::termios::tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => {
            Size { rows: size.ws_row, columns: size.ws_col }.clamped()
        }
        _ => USUAL,
    }
}

impl Raw {
    /// Makes the terminal raw: every key is ours, nothing is echoed.
    ///
    /// # Errors
    /// When it is no terminal.
    pub fn enter() -> io::Result<Self> {
        let before = rustix::termios::tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        let guard = Self(());
        rustix::termios::tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        // What is on the screen scrolls up and out instead of being written over.
        show(&"\n".repeat(usize::from(size().rows)));
        Ok(guard)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(before) = before {
            show(USUAL_STATE);
            show(&format!("\x1b[{};1H\r\n", size().rows));
            let _ = rustix::termios::tcsetattr(io::stdin(), OptionalActions::Drain, &before);
        }
    }
}

fn show(text: &str) {
    let mut stdout = io::stdout().lock();
    // A terminal that is gone needs no cleaning up.
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}
