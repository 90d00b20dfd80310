//! The only place that prints. Results go to standard output, everything else to standard error.

use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::Value;

use crate::exit::Failure;

/// What every pipe takes at once that takes anything (PIPE_BUF).
const AT_ONCE: usize = 4096;
/// What is kept of an answer that is heard instead of shown.
const HEARD: usize = 1 << 20;

/// How results are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Human,
    /// The API's resources, one JSON document.
    Json,
}

/// Where and how to print.
#[derive(Debug)]
pub struct Output {
    format: Format,
    quiet: bool,
    colour_out: bool,
    colour_err: bool,
    terminal_err: bool,
    line: Mutex<Line>,
    never_waits: AtomicBool,
    /// What commands answered, where nobody is shown it.
    heard: Option<Mutex<Vec<u8>>>,
}

/// The one line of progress that a terminal shows.
#[derive(Debug, Default)]
struct Line {
    last: String,
    open: bool,
}

/// Colours with a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// Went well.
    Good,
    /// Went wrong.
    Bad,
    /// Takes attention.
    Warn,
    /// Less important.
    Dim,
    /// A title.
    Bold,
}

impl Output {
    /// Looks at the terminal and the environment once.
    #[must_use]
    pub fn new(format: Format, quiet: bool, no_color: bool) -> Self {
        // https://no-color.org: present and not empty.
        let wanted = !no_color
            && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self {
            format,
            quiet,
            colour_out: wanted && io::stdout().is_terminal(),
            colour_err: wanted && io::stderr().is_terminal(),
            terminal_err: io::stderr().is_terminal(),
            line: Mutex::default(),
            never_waits: AtomicBool::new(false),
            heard: None,
        }
    }

    /// An output for a command that another one runs: what it answers is kept for [`Output::heard`], as JSON and at most
    /// 1 MiB of it, and its remarks are left out. Progress and warnings are shown.
    #[must_use]
    pub fn hearing(&self) -> Self {
        Self {
            format: Format::Json,
            quiet: self.quiet,
            colour_out: false,
            colour_err: self.colour_err,
            terminal_err: self.terminal_err,
            line: Mutex::default(),
            never_waits: AtomicBool::new(false),
            heard: Some(Mutex::default()),
        }
    }

    /// What was answered since the last time.
    #[must_use]
    pub fn heard(&self) -> Vec<u8> {
        let kept = self.heard.as_ref().and_then(|heard| heard.lock().ok());
        kept.map(|mut kept| std::mem::take(&mut *kept)).unwrap_or_default()
    }

    /// Whether results are JSON.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// A result: the API's document as JSON, or what `human` makes of it.
    pub fn result(&self, document: &Value, human: impl FnOnce() -> String) {
        match self.format {
            Format::Json => self.out(&format!("{document}\n")),
            Format::Human => {
                let mut text = human();
                if !text.is_empty() && !text.ends_with('\n') {
                    text.push('\n');
                }
                self.out(&text);
            }
        }
    }

    /// Plain text on standard output, in either format.
    pub fn out(&self, text: &str) {
        self.out_bytes(text.as_bytes());
    }

    /// Bytes on standard output.
    pub fn out_bytes(&self, bytes: &[u8]) {
        self.end_progress();
        if let Some(heard) = &self.heard {
            if let Ok(mut kept) = heard.lock() {
                let room = HEARD.saturating_sub(kept.len()).min(bytes.len());
                kept.extend_from_slice(bytes.get(..room).unwrap_or_default());
            }
            return;
        }
        let mut stdout = io::stdout().lock();
        if let Err(error) = stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            gone(&error);
        }
    }

    /// From now on, what standard error does not take at once is left out: for programs that others started, and that
    /// must end although nobody reads there.
    pub fn never_wait(&self) {
        self.never_waits.store(true, Ordering::Relaxed);
    }

    fn err(&self, text: &str) {
        let stream = io::stderr();
        let mut stderr = stream.lock();
        if !self.never_waits.load(Ordering::Relaxed) {
            // Without anybody to hear it there is nothing to be said about that either.
            let _ = stderr.write_all(text.as_bytes());
            return;
        }
        for piece in text.as_bytes().chunks(AT_ONCE) {
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            let ready = poll(&mut [PollFd::new(&stream, PollFlags::OUT)], Some(&now));
            if ready != Ok(1) || stderr.write_all(piece).is_err() {
                return;
            }
        }
    }

    /// Bytes on standard error, as a remote command wrote them.
    pub fn err_bytes(&self, bytes: &[u8]) {
        self.end_progress();
        let mut stderr = io::stderr().lock();
        if let Err(error) = stderr.write_all(bytes) {
            gone(&error);
        }
    }

    /// A remark beside the result.
    pub fn note(&self, text: &str) {
        if !self.quiet && self.heard.is_none() {
            self.end_progress();
            self.err(&format!("{}\n", clean(text)));
        }
    }

    /// As [`Output::note`], on a terminal that somebody else may have put into raw mode.
    pub fn note_raw(&self, text: &str) {
        if !self.quiet {
            let end = if self.terminal_err { "\r\n" } else { "\n" };
            self.err(&format!("{}{end}", clean(text)));
        }
    }

    /// Something the user should know; not silenced by `--quiet`.
    pub fn warn(&self, text: &str) {
        self.end_progress();
        self.err(&format!("{} {}\n", self.paint_err(Paint::Warn, "warning:"), clean(text)));
    }

    /// Where a longer action is. A terminal shows the newest state in one line, a file gets a line per change.
    pub fn progress(&self, text: &str) {
        if self.quiet {
            return;
        }
        let Ok(mut line) = self.line.lock() else { return };
        if line.last == text {
            return;
        }
        text.clone_into(&mut line.last);
        if self.terminal_err {
            let width = usize::from(width());
            let short: String = clean(text).chars().take(width.saturating_sub(1)).collect();
            self.err(&format!("\r\x1b[K{}", self.paint_err(Paint::Dim, &short)));
            line.open = true;
        } else {
            self.err(&format!("{}\n", clean(text)));
        }
    }

    /// Removes the line of progress.
    pub fn end_progress(&self) {
        let Ok(mut line) = self.line.lock() else { return };
        if line.open {
            self.err("\r\x1b[K");
            line.open = false;
        }
        line.last.clear();
    }

    /// Says why the command failed and what to do next.
    pub fn failure(&self, failure: &Failure) {
        self.end_progress();
        let mut text = format!("{} {}\n", self.paint_err(Paint::Bad, "error:"), clean(&failure.message));
        if let Some(hint) = &failure.hint {
            text += &format!("{} {}\n", self.paint_err(Paint::Bold, "hint:"), clean(hint));
        }
        if let Some(id) = &failure.request_id {
            text += &format!("{}\n", self.paint_err(Paint::Dim, &format!("request: {}", clean(id))));
        }
        self.err(&text);
    }

    /// Text in a colour for standard output.
    #[must_use]
    pub fn paint(&self, paint: Paint, text: &str) -> String {
        coloured(self.colour_out, paint, text)
    }

    fn paint_err(&self, paint: Paint, text: &str) -> String {
        coloured(self.colour_err, paint, text)
    }
}

fn coloured(on: bool, paint: Paint, text: &str) -> String {
    let code = match paint {
        Paint::Good => "32",
        Paint::Bad => "1;31",
        Paint::Warn => "33",
        Paint::Dim => "2",
        Paint::Bold => "1",
    };
    if on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// The reader of our output went away: that ends the program without a word, as it ends every filter.
fn gone(error: &io::Error) {
    let code = if error.kind() == io::ErrorKind::BrokenPipe { 141 } else { 1 };
    std::process::exit(code);
}

/// Width of the terminal, 80 where there is none.
#[must_use]
pub fn width() -> u16 {
    let size = rustix::termios::tcgetwinsize(io::stderr())
        .or_else(|_| rustix::termios::tcgetwinsize(io::stdout()))
        .map(|size| size.ws_col);
    size.ok().filter(|columns| *columns >= 20).unwrap_or(80)
}

/// Text from elsewhere without control characters, so that it cannot steer a terminal. Lines and tabs stay.
#[must_use]
pub fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

/// Output of a build or command for a terminal: colours stay, everything else that steers goes.
#[must_use]
pub fn clean_log(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\x1b') {
        kept.push_str(&clean(&rest[..at]));
        rest = &rest[at + 1..];
        let Some(sequence) = rest.strip_prefix('[') else { continue };
        let end = sequence.find(|c: char| !c.is_ascii_digit() && c != ';').unwrap_or(sequence.len());
        if sequence[end..].starts_with('m') {
            kept.push_str("\x1b[");
            kept.push_str(&sequence[..=end]);
        }
        let skip = end + sequence[end..].chars().next().map_or(0, char::len_utf8);
        rest = &sequence[skip..];
    }
    kept.push_str(&clean(rest));
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_elsewhere_cannot_steer_a_terminal() {
        assert_eq!(clean("a\x1b[2Jb\rc\u{9b}d\n"), "a[2Jbcd\n");
        assert_eq!(clean_log("\x1b[1;32mok\x1b[0m\x1b[2J\x1b]0;t\x07!"), "\x1b[1;32mok\x1b[0m]0;t!");
        assert_eq!(clean_log("end\x1b["), "end");
        assert_eq!(clean_log("\x1b[12é"), "");
    }
}
