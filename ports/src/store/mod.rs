//! Records: one small trait of reads per aggregate, and one way to write, [`Store::commit`].
//!
//! The weakest store shapes this port: no interactive transaction, one atomic batch. So every decision that two
//! callers could race for (revision, uniqueness, single use, quota) is a [`Guard`] in the commit.
//!
//! Reads never write. Each is one indexed query, scoped by workspace where the record is; another workspace's id
//! is simply not found. Lists are newest first (by id), at most [`PAGE_LIMIT`] a page.

mod change;
mod check;
mod read;

pub use change::{Bump, ChangeSet, CommitError, Counter, Family, Guard, Key, Put, SingleUse, Spend, Unique};
pub use check::{EVENT_DATA_LIMIT, LOG_CHUNK_LIMIT};
pub use read::{
    Accounts, Builds, Journal, Outbox, Packs, Page, Previews, Releases, Secrets, Sessions, Snapshots,
    Templates, Workspaces,
};

use async_trait::async_trait;

/// The most items a page holds.
pub const PAGE_LIMIT: usize = 200;
/// The most guards one commit may carry.
pub const GUARD_LIMIT: usize = 16;
/// The most packs one [`Guard::Unreferenced`] may name.
pub const UNREFERENCED_LIMIT: usize = 90;

/// Everything a backend of records implements.
#[async_trait]
pub trait Store:
    Accounts
    + Workspaces
    + Templates
    + Builds
    + Releases
    + Sessions
    + Previews
    + Snapshots
    + Packs
    + Secrets
    + Journal
    + Outbox
{
    /// Applies a change, all of it or nothing. When it answers, the change is on stable storage.
    ///
    /// # Errors
    /// [`CommitError::Refused`] with the guard that did not hold; `Invalid` for a change that does not keep
    /// [`ChangeSet::check`]; `Conflict` where it breaks a reference or repeats what may exist once. Nothing was
    /// changed then.
    async fn commit(&self, change: &ChangeSet) -> Result<(), CommitError>;

    /// Whether the store answers: for readiness probes.
    async fn ping(&self) -> crate::error::PortResult<()>;
}
