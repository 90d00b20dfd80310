//! The API's resources: what requests and answers look like as JSON, one file per aggregate.
//!
//! Requests refuse fields they do not know. Answers may grow fields, so readers ignore unknown ones.

mod account;
mod attach;
mod audit;
mod build;
mod event;
mod file;
mod invite;
mod member;
mod metrics;
mod page;
mod port;
mod problem;
mod release;
pub mod schema;
mod secret;
mod server;
mod session;
mod snapshot;
mod template;
mod terminal;
mod token;
mod version;
mod workspace;

pub use account::{Me, RecoverRequest, RefreshRequest, RegisterRequest, Registered, SignedIn, Tokens, User};
pub use attach::{AttachRequest, Attached, ExecRequest, TtySize};
pub use audit::AuditLine;
pub use build::Build;
pub use event::Event;
pub use file::{ChangeFile, File, FileHit, FilesFound, FilesUnpacked};
pub use invite::{CreateInvite, CreatedInvite, Invite};
pub use member::Member;
pub use metrics::{Gauge, SessionMetrics};
pub use page::{ListQuery, Page};
pub use port::{Port, PortList, PortVisibility, SetPortRequest};
pub use problem::{Failure, Problem, Warning};
pub use release::{PromoteRequest, Release};
pub use secret::{Secret, SetSecret};
pub use server::{Health, Probe, Ready, Runtime, Server};
pub use session::{Awake, ChangeSession, CreateSession, Idle, RestartRequest, Session};
pub use snapshot::{
    ChangeSnapshot, CreateSnapshot, Diff, Difference, ForkSession, RestoreSnapshot, Snapshot,
};
pub use template::{CreateTemplate, Template};
pub use terminal::{CreateTerminal, Terminal, TerminalEnd};
pub use token::{CreateToken, CreatedToken, Token};
pub use version::{Bundle, CreateVersion, Layer, Uploaded, Version};
pub use workspace::{Workspace, WorkspaceMembership};
