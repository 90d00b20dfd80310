//! What users remember of what was acknowledged to them.

use std::collections::BTreeMap;

use burstflare_core::service::Recover;
use burstflare_ports::id::Id;
use burstflare_ports::record::{Build, Release, Session, Snapshot, Template, Version, Workspace};
use burstflare_ports::secret::Secret;

use super::machines::Files;

#[derive(Default)]
pub(super) struct Ledger {
    pub(super) accounts: Vec<Account>,
    pub(super) templates: BTreeMap<Id<Template>, (Id<Workspace>, String)>,
    pub(super) versions: BTreeMap<Id<Version>, VersionNote>,
    pub(super) releases: Vec<Release>,
    pub(super) sessions: BTreeMap<Id<Session>, SessionNote>,
    /// Snapshots that people asked for.
    pub(super) snapshots: BTreeMap<Id<Snapshot>, SnapshotNote>,
    /// Promises that were broken before everybody's eyes.
    pub(super) broken: Vec<String>,
    /// Access tokens of sign-ins that a reused refresh token has revoked.
    pub(super) revoked: Vec<Secret<String>>,
    /// Actions that sent a request.
    pub(super) steps: u64,
    /// Numbers names.
    pub(super) next: u64,
    /// How often each action was acknowledged.
    pub(super) done: BTreeMap<&'static str, u64>,
}

/// Somebody who registered.
#[derive(Clone)]
pub(super) struct Account {
    pub(super) workspace: Id<Workspace>,
    pub(super) access: Secret<String>,
    pub(super) ways_back: Vec<Recover>,
}

pub(super) struct VersionNote {
    pub(super) workspace: Id<Workspace>,
    pub(super) template: Id<Template>,
    /// The build and the text of the file `mark`, once the upload was acknowledged.
    pub(super) uploaded: Option<(Id<Build>, String)>,
}

/// A snapshot that somebody asked for.
pub(super) struct SnapshotNote {
    pub(super) workspace: Id<Workspace>,
    pub(super) session: Id<Session>,
    /// The session's life then.
    pub(super) epoch: u64,
    /// What was acknowledged until then.
    pub(super) files: Files,
    /// Somebody tried to delete it.
    pub(super) deleting: bool,
    /// Deleting was acknowledged.
    pub(super) deleted: bool,
}

/// What somebody wanted last of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Run,
    Sleep,
    /// Several at once, or nobody knows whether it was heard.
    Unclear,
}

pub(super) struct SessionNote {
    pub(super) workspace: Id<Workspace>,
    /// Somebody tried to delete it.
    pub(super) deleting: bool,
    /// Deleting was acknowledged.
    pub(super) deleted: bool,
    /// Files that were written, synced and acknowledged.
    pub(super) files: Files,
    pub(super) wish: Wish,
    /// Wishes under way now.
    pub(super) wishing: u32,
    /// Since there was none, there was more than one at a time.
    pub(super) overlapped: bool,
    /// How often its files were asked to go back.
    pub(super) rolls: u64,
    /// The restore that was acknowledged last, unless somebody asked for another one since.
    pub(super) restoring: Option<RestoreNote>,
}

/// A restore that was acknowledged.
pub(super) struct RestoreNote {
    pub(super) snapshot: Id<Snapshot>,
    /// Listeners are told behind this event what became of it.
    pub(super) after: u64,
}

impl Ledger {
    pub(super) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(super) fn count(&mut self, action: &'static str) {
        *self.done.entry(action).or_default() += 1;
    }
}
