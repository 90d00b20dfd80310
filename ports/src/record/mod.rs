//! Plain records: what is stored, and nothing about how.
//!
//! Two families. The **directory**: users, sign-ins, tokens, grants, workspaces, memberships. **Workspace data**, whose every
//! key begins with the workspace: templates, versions, builds, log chunks, releases, sessions, port settings, tickets,
//! snapshots, packs, counters. One commit touches one family, and of workspace data one workspace only.
//!
//! `revision` counts the commits of a record, from 1; a writer guards on the one it read.

mod access;
mod audit;
mod build;
mod event;
mod outbox;
mod pack;
mod preview;
mod release;
mod secret;
mod session;
mod snapshot;
mod template;
mod workspace;

pub use access::{
    Grant, GrantKind, Principal, Scope, SecretHash, SignIn, Ticket, TicketPurpose, Token, TokenKind,
};
pub use audit::{Actor, AuditEntry, Origin, StoredAudit};
pub use build::{Build, BuildState, LogChunk};
pub use event::{Event, StoredEvent};
pub use outbox::{Effect, StoredEffect};
pub use pack::{Pack, PackState};
pub use preview::PortSetting;
pub use release::{Release, ReleaseCause};
pub use secret::{SecretEntry, SecretKey};
pub use session::{Failure, Goal, Session, SessionKeys, SessionState, Sharing, StopCause};
pub use snapshot::{SharedPacks, Snapshot, SnapshotKind, SnapshotPack, SnapshotState};
pub use template::{BundleRef, PortSpec, Template, Version, VersionSpec, VersionState, Visibility};
pub use workspace::{Membership, Role, User, Workspace};

pub use crate::machine::LayerRef;
