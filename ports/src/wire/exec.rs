use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Unacknowledged bytes of standard input that a caller may have on their way on a WebSocket.
pub const EXEC_WINDOW: usize = 1 << 20;
/// First byte of a binary message that carries standard output.
pub const EXEC_STDOUT: u8 = 1;
/// First byte of a binary message that carries standard error.
pub const EXEC_STDERR: u8 = 2;

/// Starts one command as the session's user.
///
/// It ends when the caller goes away: its process group gets TERM, and KILL five seconds later. So it does when its
/// time or its output is used up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecRequest {
    /// Program and arguments: 1 to 1,024 items, together at most 128 KiB. A program without a slash is looked up in PATH.
    pub argv: Vec<String>,
    /// Working folder, absolute; default is the first root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Additional variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// After so many milliseconds the command is ended; at most 24 hours, default one hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Standard input, whole; empty unless given. At most 128 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// The same as base64, for what is no text. Not both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin_b64: Option<String>,
    /// After so many bytes of output the command is ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_limit: Option<u64>,
    /// Runs it at a terminal of this size. Everything it writes is standard output then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tty: Option<TtySize>,
    /// Goes on when the caller goes away, until its time is over.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub detach: bool,
}

impl ExecRequest {
    /// Whether an agent without [`super::capability::EXEC_STREAMS`] would refuse it.
    #[must_use]
    pub const fn needs_streams(&self) -> bool {
        self.stdin.is_some()
            || self.stdin_b64.is_some()
            || self.output_limit.is_some()
            || self.tty.is_some()
            || self.detach
    }
}

/// Size of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TtySize {
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
}

/// What a caller says on a WebSocket, as text, after the [`ExecRequest`] that is its first message. Standard input
/// comes as binary messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecInput {
    /// Standard input ends.
    Eof,
    /// The terminal has another size.
    Resize(TtySize),
    /// Sends a signal (`INT`, `TERM`, …) to the command's process group.
    Signal(String),
}

/// One line of a command's output. Bytes that are UTF-8 come as text, others as base64; the order within a
/// stream is kept. On a WebSocket output comes as binary messages, [`EXEC_STDOUT`] or [`EXEC_STDERR`] first, and
/// these as text messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecOutput {
    /// Standard output, as text.
    Stdout(String),
    /// Standard output, as base64.
    StdoutB64(String),
    /// Standard error, as text.
    Stderr(String),
    /// Standard error, as base64.
    StderrB64(String),
    /// So many bytes of standard input were taken so far; on a WebSocket only.
    Ack(u64),
    /// The command ended by itself with this status. Last line.
    Exit(u8),
    /// The command was ended by this signal (`KILL`, `TERM`, …). Last line.
    Signal(String),
    /// Its time, in milliseconds, was over; it was ended. Last line.
    TimedOut(u64),
    /// Its output reached the limit, in bytes; it was ended. Last line.
    OutputLimit(u64),
    /// The command could not be started. Last line.
    Error(String),
}
