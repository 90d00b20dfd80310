use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Starts one command as the session's user, without a terminal, with an empty standard input.
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
    /// After so many milliseconds the command's process group is killed; at most 24 hours, default one hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// One line of a command's output. Bytes that are UTF-8 come as text, others as base64; the order within a
/// stream is kept.
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
    /// The command ended by itself with this status. Last line.
    Exit(u8),
    /// The command was ended by this signal (`KILL`, `TERM`, …). Last line.
    Signal(String),
    /// The command could not be started, or its deadline passed. Last line.
    Error(String),
}
