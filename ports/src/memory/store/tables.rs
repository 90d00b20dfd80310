use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::{ErrorKind, PortError};
use crate::id::Id;
use crate::record::{
    Build, Grant, LogChunk, Membership, Pack, PortSetting, Release, SecretEntry, SecretKey, Session, SignIn,
    Snapshot, Template, Ticket, Token, User, Version, Workspace,
};

/// Rows by key. Cloning shares them until one side writes.
pub(super) type Table<K, V> = Arc<BTreeMap<K, V>>;
/// Rows of workspace data by workspace and id.
pub(super) type Owned<V> = Table<(Id<Workspace>, Id<V>), V>;

/// A snapshot names a pack.
type Naming = (Id<Workspace>, Id<Snapshot>, Id<Pack>);

/// Everything that a commit may write over.
#[derive(Debug, Default, Clone)]
pub(super) struct Tables {
    pub(super) users: Table<Id<User>, User>,
    pub(super) workspaces: Table<Id<Workspace>, Workspace>,
    pub(super) memberships: Table<(Id<Workspace>, Id<User>), Membership>,
    pub(super) sign_ins: Table<Id<SignIn>, SignIn>,
    pub(super) tokens: Table<Id<Token>, Token>,
    pub(super) grants: Table<Id<Grant>, Grant>,
    pub(super) templates: Owned<Template>,
    pub(super) versions: Owned<Version>,
    pub(super) builds: Owned<Build>,
    pub(super) log_chunks: Table<(Id<Workspace>, Id<Build>, u32, u64), LogChunk>,
    pub(super) releases: Owned<Release>,
    pub(super) sessions: Owned<Session>,
    pub(super) port_settings: Table<(Id<Workspace>, Id<Session>, u16), PortSetting>,
    pub(super) tickets: Owned<Ticket>,
    pub(super) snapshots: Owned<Snapshot>,
    pub(super) packs: Owned<Pack>,
    /// Which snapshots name which packs.
    pub(super) snapshot_packs: Table<Naming, ()>,
    pub(super) secret_keys: Table<Id<Workspace>, SecretKey>,
    pub(super) secrets: Owned<SecretEntry>,
    pub(super) counters: Table<(Id<Workspace>, &'static str, String), u64>,
}

/// Puts a row in, where its key is free exactly when it is new.
pub(super) fn write<K: Ord + Clone, V: Clone>(
    table: &mut Table<K, V>,
    key: K,
    row: V,
    is_new: bool,
) -> Result<(), PortError> {
    if table.contains_key(&key) == is_new {
        let what = if is_new { "a record with this key is there already" } else { "there is no such record" };
        return Err(conflict(what));
    }
    Arc::make_mut(table).insert(key, row);
    Ok(())
}

/// An answer of production's constraints.
pub(super) fn conflict(what: &str) -> PortError {
    PortError::new(ErrorKind::Conflict, "store.commit", what)
}

/// Refuses unless the condition holds.
pub(super) fn require(holds: bool, what: &str) -> Result<(), PortError> {
    if holds { Ok(()) } else { Err(conflict(what)) }
}
