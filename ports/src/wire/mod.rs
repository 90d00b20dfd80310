//! What the edge and the agent of a machine say to each other, version 2.
//!
//! HTTP/1.1 on one listener. Every request carries `Authorization: Bearer KEY` and [`EPOCH_HEADER`]; a wrong key is
//! 401, another epoch 409. Errors are JSON [`Refusal`]s. Machines outlive servers: the edge speaks this version and
//! the one before, and unknown fields are ignored on both sides. A call that an agent does not know is 404
//! [`UNKNOWN_CALL`]; what it can beyond version 1 stands in [`Ready::capabilities`], see [`capability`].
//!
//! | call | body → answer |
//! |---|---|
//! | `GET /ready` | → [`Ready`] |
//! | `POST /v1/exec` | [`ExecRequest`] → JSON lines of [`ExecOutput`], the last one `exit`, `signal`, `timed_out`, `output_limit` or `error` |
//! | `GET /v1/exec` (WebSocket) | [`ExecRequest`], then standard input and [`ExecInput`] → output and [`ExecOutput`] |
//! | `GET /v1/ssh` (WebSocket) | [`SSH_KEY_HEADER`] names the one public key that may log in; binary messages carry the SSH stream, as it is or, by subprotocol, so that it survives a cut ([`resume`]) |
//! | `GET /v1/metrics` | → [`Metrics`] |
//! | `… /v1/files`, `GET /v1/search` | see [`files`] |
//! | `PUT /v1/bundle` | a tar.zst or tar.gz, unpacked into `/workspace` → [`tree::Summary`] |
//! | `GET /v1/tree` | → [`frame`]d archive of all roots, then [`tree::Summary`] |
//! | `PUT /v1/tree` | such an archive (unframed): the roots become exactly that tree, verified → [`tree::Summary`] |
//! | `POST /v1/snapshots/scan`, `POST /v1/snapshots/packs`, `PUT /v1/snapshots` | [`snapshot`], where [`Ready::capabilities`] names it |
//! | `GET /v1/ports` | → [`port::OpenPorts`] |
//! | `GET /v1/ports/watch` | → JSON lines of [`port::OpenPorts`]: one at once, then one for each change |
//! | any `/v1/ports/{port}/http/…` | an application's request and answer, see [`port`] |
//! | `GET /v1/ports/{port}/tcp` (WebSocket) | one TCP connection, see [`port`] |
//! | `PUT /v1/secrets` | [`Secrets`] → 204 (capability [`capability::SECRETS`]) |
//! | `POST /v1/hooks/start` | runs `on_start` once for this life, in the background → 204 |
//! | `GET /v1/terminals` | → [`terminal::Terminals`] (capability [`capability::TERMINALS`], as the next four) |
//! | `POST /v1/terminals` | [`terminal::NewTerminal`] → [`terminal::Terminal`] |
//! | `GET /v1/terminals/{id}` | → [`terminal::Terminal`] |
//! | `DELETE /v1/terminals/{id}` | hangs up its programs and forgets it → 204 |
//! | `GET /v1/terminals/{id}/view` (WebSocket) | one viewer's conversation, see [`terminal`] |
//! | `GET /v1/activity` | → [`Activity`]; asking is none itself (capability [`ACTIVITY`]) |
//! | `POST /v1/quiesce` | [`Quiesce`]: ends the user's processes (TERM, wait, KILL) and flushes the roots' file systems; → 204, the agent stays; 409 `busy` where it was to happen only to an idle machine |
//! | `POST /v1/shutdown` | [`Shutdown`]: TERM, wait, KILL, flush; → 204, then the agent exits 0 |

mod activity;
mod boot;
pub mod bundle;
pub mod capability;
mod exec;
pub mod files;
pub mod frame;
mod metrics;
pub mod path;
pub mod port;
mod ready;
pub mod resume;
mod secrets;
pub mod snapshot;
pub mod terminal;
pub mod tree;

pub use activity::{Activity, Busy, Quiesce, Reason};
pub use boot::{Boot, Egress, run_folder};
pub use capability::ACTIVITY;
pub use exec::{EXEC_STDERR, EXEC_STDOUT, EXEC_WINDOW, ExecInput, ExecOutput, ExecRequest, TtySize};
pub use metrics::{Metrics, MetricsSource};
pub use ready::{Ready, Refusal, Shutdown};
pub use secrets::{SECRETS_TOTAL, Secrets, is_reserved};

/// The protocol version of this build.
pub const PROTOCOL: u16 = 2;
/// The oldest protocol version that this build still speaks.
pub const OLDEST_PROTOCOL: u16 = 1;
/// [`Refusal::code`] for a call that the agent does not know.
pub const UNKNOWN_CALL: &str = "unknown_call";
/// [`Refusal::message`] for the same. Agents of version 1 say it under the code `not_found`, which later ones use for things.
pub const UNKNOWN_CALL_MESSAGE: &str = "This agent knows no such call.";
/// Carries the epoch the caller speaks for, in decimal digits.
pub const EPOCH_HEADER: &str = "flare-epoch";
/// Carries the one public key (OpenSSH's one-line format) that may log in on this SSH connection.
pub const SSH_KEY_HEADER: &str = "flare-ssh-key";
/// The agent's TCP port where a runtime offers no unix socket; never previewable.
pub const AGENT_PORT: u16 = 61780;
/// Where `argv[0]` is this, the process is an agent; the boot pipe is fd 3 and the listening socket fd 4.
pub const AGENT_ARGV0: &str = "flare-agent";
/// In a container the agent takes the [`Boot`] message from this environment variable, as base64, where it is set, and
/// erases it; otherwise from standard input. For platforms that offer nothing else.
pub const BOOT_VARIABLE: &str = "FLARE_BOOT";
/// The longest accepted [`Boot`] message, in bytes.
pub const BOOT_LIMIT: usize = 1 << 20;

#[cfg(test)]
mod golden_tests;
#[cfg(test)]
mod terminal_tests;
