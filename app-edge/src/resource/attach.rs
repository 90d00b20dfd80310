use std::collections::BTreeMap;

use burstflare_ports::record::TicketPurpose;
use burstflare_ports::secret::Secret;
use burstflare_ports::time::Timestamp;
use burstflare_ports::wire;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Session;
use super::schema::PurposeWord;

/// Asks for a way into a running session.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AttachRequest {
    /// What for.
    #[schema(value_type = PurposeWord)]
    pub purpose: TicketPurpose,
    /// The public key that may log in, in OpenSSH's one-line format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh_key: Option<String>,
    /// The port, for the purposes `preview` and `forward`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// A single-use ticket.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Attached {
    /// Goes into the `ticket` parameter of [`Self::url_path`]; good for one connection.
    #[schema(value_type = String)]
    pub ticket: Secret<String>,
    /// From when on it is refused.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// Path of the WebSocket (of a page for the purpose `preview`), without the ticket; for a terminal `/` and its number
    /// follow.
    pub url_path: String,
    /// For the purpose `preview`: where a browser enters, without the ticket.
    pub url: Option<String>,
    /// The session.
    pub session: Session,
    /// Its public SSH host key, in OpenSSH's one-line format.
    pub ssh_host_key: String,
}

/// Runs one command.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecRequest {
    /// Program and arguments: 1 to 1,024 items, together at most 128 KiB.
    #[schema(min_items = 1, max_items = 1024)]
    pub argv: Vec<String>,
    /// Working folder, absolute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Additional variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// After so many milliseconds the command's process group gets TERM, and KILL five seconds later; at most 24 hours,
    /// default one hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Standard input, at most 128 KiB; empty unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// Standard input as base64, for what is no text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin_b64: Option<String>,
    /// After so many bytes of output the command is ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_limit: Option<u64>,
    /// Runs it at a terminal of this size; all its output is standard output then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tty: Option<TtySize>,
    /// Goes on when the caller goes away, until its time is over. Otherwise it is ended then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub detach: bool,
}

/// Size of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TtySize {
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
}

impl From<ExecRequest> for wire::ExecRequest {
    fn from(request: ExecRequest) -> Self {
        Self {
            argv: request.argv,
            cwd: request.cwd,
            env: request.env,
            timeout_ms: request.timeout_ms,
            stdin: request.stdin,
            stdin_b64: request.stdin_b64,
            output_limit: request.output_limit,
            tty: request.tty.map(|size| wire::TtySize { cols: size.cols, rows: size.rows }),
            detach: request.detach,
        }
    }
}
