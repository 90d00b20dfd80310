use crate::error::PortError;
use crate::id::Id;
use crate::record::{
    AuditEntry, Build, Effect, Event, Grant, LogChunk, Membership, Pack, PortSetting, Release, SecretEntry,
    SecretKey, Session, SharedPacks, SignIn, Snapshot, SnapshotPack, Template, Ticket, Token, User, Version,
    Workspace,
};
use crate::text::{Email, Label, Slug, VariableName};
use crate::time::Timestamp;

/// Which records a commit may touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// Users, sign-ins, tokens, grants, workspaces, memberships.
    Directory,
    /// The data of one workspace.
    Workspace(Id<Workspace>),
}

/// Names one record of the commit's family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each variant is the record of the same name")]
pub enum Key {
    User(Id<User>),
    Workspace(Id<Workspace>),
    Membership(Id<Workspace>, Id<User>),
    SignIn(Id<SignIn>),
    Token(Id<Token>),
    Grant(Id<Grant>),
    Template(Id<Template>),
    Version(Id<Version>),
    Build(Id<Build>),
    Release(Id<Release>),
    Session(Id<Session>),
    Port(Id<Session>, u16),
    Ticket(Id<Ticket>),
    Snapshot(Id<Snapshot>),
    Pack(Id<Pack>),
    SnapshotPack(Id<Snapshot>, Id<Pack>),
    /// The one of the commit's workspace.
    SecretKey,
    Secret(Id<SecretEntry>),
}

/// A value that may exist once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Unique {
    /// A user's address, in the deployment.
    Email(Email),
    /// A workspace's name, in the deployment.
    WorkspaceName(Slug),
    /// A template's name, in the workspace.
    TemplateName(Slug),
    /// A version's label, in its template.
    VersionLabel(Id<Template>, Label),
    /// A session's name, in the workspace.
    SessionName(Slug),
    /// The one pending snapshot that a session may have.
    PendingSnapshot(Id<Session>),
    /// A secret's name, in the workspace.
    SecretName(VariableName),
    /// The first user of a deployment: holds while there is no user at all.
    FirstUser,
}

/// A number that quotas bound, in the commit's workspace. It never goes below zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Counter {
    /// Templates, archived ones included.
    Templates,
    /// Versions of a template.
    Versions(Id<Template>),
    /// Sessions.
    Sessions,
    /// Sessions that have a machine, or are getting one.
    Running,
    /// Builds that wait or run.
    Builds,
    /// Snapshots of a session that people asked for.
    Snapshots(Id<Session>),
}

/// Something that may be spent once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SingleUse {
    /// A grant of the directory.
    Grant(Id<Grant>),
    /// A ticket of the workspace.
    Ticket(Id<Ticket>),
}

/// A condition that has to hold in the moment of the commit.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Guard {
    /// The record exists and was committed exactly so many times.
    Revision(Key, u64),
    /// No such record exists.
    Absent(Key),
    /// The value is free.
    Free(Unique),
    /// It exists, is not spent, and does not expire before or at this moment.
    Unspent(SingleUse, Timestamp),
    /// Counter plus `by` is at most `limit`.
    Below {
        /// Which number.
        counter: Counter,
        /// How much would be added.
        by: u64,
        /// The most it may be then.
        limit: u64,
    },
    /// The snapshot names exactly so many packs, and all of them are live.
    Packed {
        /// The snapshot.
        snapshot: Id<Snapshot>,
        /// How many.
        packs: u64,
    },
    /// No snapshot names any of these packs; 1 to [`super::UNREFERENCED_LIMIT`].
    Unreferenced(Vec<Id<Pack>>),
}

/// A record in its new state: inserted, or written over the one with the same key.
///
/// A record that may exist already needs a [`Guard::Revision`] on it and carries that revision plus one; a new one has
/// revision 1 and needs [`Guard::Absent`] or [`Guard::Free`]. Backends for tests insist on it. Records
/// without a revision (grants, tickets, releases, log chunks, packs of snapshots) are only ever inserted. What a record refers to within
/// its family has to be there already, or to be put before it: otherwise the commit fails as a `Conflict`, as it does for a
/// key, a secret or a name that is there already and has no guard.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "each variant is the record of the same name")]
pub enum Put {
    User(User),
    Workspace(Workspace),
    Membership(Membership),
    SignIn(SignIn),
    Token(Token),
    Grant(Grant),
    Template(Template),
    Version(Version),
    Build(Build),
    LogChunk(LogChunk),
    Release(Release),
    Session(Session),
    Port(PortSetting),
    Ticket(Ticket),
    Snapshot(Snapshot),
    Pack(Pack),
    SnapshotPack(SnapshotPack),
    SharedPacks(SharedPacks),
    SecretKey(SecretKey),
    Secret(SecretEntry),
}

/// Changes a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bump {
    /// Which.
    pub counter: Counter,
    /// By how much; a result below zero becomes zero.
    pub by: i64,
}

/// Marks something as spent; it takes a [`Guard::Unspent`] on the same thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spend {
    /// What.
    pub what: SingleUse,
    /// When.
    pub at: Timestamp,
}

/// Everything one use case writes, in one atomic commit. Applied in the order of the fields.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangeSet {
    /// What it may touch.
    pub family: Family,
    /// What has to hold; at most [`super::GUARD_LIMIT`].
    pub guards: Vec<Guard>,
    /// New states.
    pub puts: Vec<Put>,
    /// Single uses.
    pub spends: Vec<Spend>,
    /// Counters.
    pub bumps: Vec<Bump>,
    /// Records that go; one that is not there is no error. Deleting a build takes its log chunks along, deleting a
    /// session its tickets, port settings, snapshot records and counter, deleting a snapshot its naming of packs, deleting a template
    /// its counter. One that another record
    /// still refers to is a `Conflict`: a template by versions, releases and sessions; a version by builds and
    /// releases; a release by sessions; a pack by snapshots; a user by memberships and sign-ins; a sign-in by tokens and grants.
    pub deletes: Vec<Key>,
    /// What has to happen outside, each from this moment on.
    pub outbox: Vec<(Effect, Timestamp)>,
    /// What listeners are told. A directory commit has none.
    pub events: Vec<Event>,
    /// What the audit log keeps. Directory commits may name the workspace that sees the line.
    pub audit: Vec<(Option<Id<Workspace>>, AuditEntry)>,
}

impl ChangeSet {
    /// A change that does nothing yet.
    #[must_use]
    pub const fn new(family: Family) -> Self {
        Self {
            family,
            guards: Vec::new(),
            puts: Vec::new(),
            spends: Vec::new(),
            bumps: Vec::new(),
            deletes: Vec::new(),
            outbox: Vec::new(),
            events: Vec::new(),
            audit: Vec::new(),
        }
    }
}

/// Why nothing was committed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// A guard did not hold. Where several did not, it is one of them.
    #[error("refused by {0:?}")]
    Refused(Guard),
    /// The store failed; whether the change was applied is unknown only for `Timeout` and `Unavailable`.
    #[error(transparent)]
    Failed(#[from] PortError),
}
