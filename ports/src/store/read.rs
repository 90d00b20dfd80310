use async_trait::async_trait;

use crate::blob::BlobKey;
use crate::error::PortResult;
use crate::id::Id;
use crate::record::{
    Build, Effect, Grant, LogChunk, Membership, Pack, PortSetting, Principal, Release, SecretEntry,
    SecretHash, SecretKey, Session, SignIn, Snapshot, StoredAudit, StoredEffect, StoredEvent, Template,
    Ticket, Token, User, Version, Workspace,
};
use crate::text::{Email, Label, Slug, VariableName};
use crate::time::Timestamp;

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Whether there are more behind the last one.
    pub more: bool,
}

/// Users and what proves that somebody is one.
#[async_trait]
pub trait Accounts: Send + Sync + 'static {
    /// The bearer of a token, whatever its state: one query.
    async fn principal(&self, hash: &SecretHash) -> PortResult<Option<Principal>>;
    /// A user.
    async fn user(&self, id: Id<User>) -> PortResult<Option<User>>;
    /// The user of an address.
    async fn user_by_email(&self, email: &Email) -> PortResult<Option<User>>;
    /// A single-use secret, whatever its state.
    async fn grant(&self, hash: &SecretHash) -> PortResult<Option<Grant>>;
    /// A sign-in.
    async fn sign_in(&self, id: Id<SignIn>) -> PortResult<Option<SignIn>>;
    /// A token, if it is this user's.
    async fn token(&self, user: Id<User>, id: Id<Token>) -> PortResult<Option<Token>>;
    /// A user's personal tokens for a workspace that are not revoked.
    async fn tokens(
        &self,
        user: Id<User>,
        workspace: Id<Workspace>,
        after: Option<Id<Token>>,
        limit: usize,
    ) -> PortResult<Page<Token>>;
    /// Whether there is any user.
    async fn any_user(&self) -> PortResult<bool>;
}

/// Tenants and who belongs to them.
#[async_trait]
pub trait Workspaces: Send + Sync + 'static {
    /// A workspace.
    async fn workspace(&self, id: Id<Workspace>) -> PortResult<Option<Workspace>>;
    /// A workspace by name.
    async fn workspace_by_name(&self, name: &Slug) -> PortResult<Option<Workspace>>;
    /// A user's place in a workspace.
    async fn membership(&self, workspace: Id<Workspace>, user: Id<User>) -> PortResult<Option<Membership>>;
    /// Who belongs to a workspace, with their accounts; ordered by user, the oldest account first.
    async fn members(
        &self,
        workspace: Id<Workspace>,
        after: Option<Id<User>>,
        limit: usize,
    ) -> PortResult<Page<(Membership, User)>>;
    /// The workspaces a user belongs to.
    async fn workspaces_of(
        &self,
        user: Id<User>,
        after: Option<Id<Workspace>>,
        limit: usize,
    ) -> PortResult<Page<(Workspace, Membership)>>;
    /// Every workspace, oldest id first: for reconcile.
    async fn all_workspaces(&self, after: Option<Id<Workspace>>, limit: usize)
    -> PortResult<Page<Workspace>>;
    /// The unspent invites of a workspace, expired ones among them.
    async fn invites(
        &self,
        workspace: Id<Workspace>,
        after: Option<Id<Grant>>,
        limit: usize,
    ) -> PortResult<Page<Grant>>;
}

/// Templates and their versions.
#[async_trait]
pub trait Templates: Send + Sync + 'static {
    /// A template.
    async fn template(&self, workspace: Id<Workspace>, id: Id<Template>) -> PortResult<Option<Template>>;
    /// A template by name.
    async fn template_by_name(&self, workspace: Id<Workspace>, name: &Slug) -> PortResult<Option<Template>>;
    /// A workspace's templates.
    async fn templates(
        &self,
        workspace: Id<Workspace>,
        after: Option<Id<Template>>,
        limit: usize,
    ) -> PortResult<Page<Template>>;
    /// A version.
    async fn version(&self, workspace: Id<Workspace>, id: Id<Version>) -> PortResult<Option<Version>>;
    /// A version by label.
    async fn version_by_label(
        &self,
        workspace: Id<Workspace>,
        template: Id<Template>,
        label: &Label,
    ) -> PortResult<Option<Version>>;
    /// A template's versions.
    async fn versions(
        &self,
        workspace: Id<Workspace>,
        template: Id<Template>,
        after: Option<Id<Version>>,
        limit: usize,
    ) -> PortResult<Page<Version>>;
}

/// Builds and their logs.
#[async_trait]
pub trait Builds: Send + Sync + 'static {
    /// A build.
    async fn build(&self, workspace: Id<Workspace>, id: Id<Build>) -> PortResult<Option<Build>>;
    /// A workspace's builds.
    async fn builds(
        &self,
        workspace: Id<Workspace>,
        after: Option<Id<Build>>,
        limit: usize,
    ) -> PortResult<Page<Build>>;
    /// The pieces of an attempt's log that hold bytes at or behind `from`, in order.
    async fn log_chunks(
        &self,
        workspace: Id<Workspace>,
        build: Id<Build>,
        attempt: u32,
        from: u64,
        limit: usize,
    ) -> PortResult<Page<LogChunk>>;
    /// Builds of all workspaces that wait or run, with their deadline passed, oldest id first: for reconcile.
    async fn overdue_builds(
        &self,
        now: Timestamp,
        after: Option<Id<Build>>,
        limit: usize,
    ) -> PortResult<Page<Build>>;
}

/// The history of what was current.
#[async_trait]
pub trait Releases: Send + Sync + 'static {
    /// A release.
    async fn release(&self, workspace: Id<Workspace>, id: Id<Release>) -> PortResult<Option<Release>>;
    /// A workspace's releases, or a template's.
    async fn releases(
        &self,
        workspace: Id<Workspace>,
        template: Option<Id<Template>>,
        after: Option<Id<Release>>,
        limit: usize,
    ) -> PortResult<Page<Release>>;
}

/// Sessions and the tickets into them.
#[async_trait]
pub trait Sessions: Send + Sync + 'static {
    /// A session.
    async fn session(&self, workspace: Id<Workspace>, id: Id<Session>) -> PortResult<Option<Session>>;
    /// A session by name.
    async fn session_by_name(&self, workspace: Id<Workspace>, name: &Slug) -> PortResult<Option<Session>>;
    /// A workspace's sessions.
    async fn sessions(
        &self,
        workspace: Id<Workspace>,
        after: Option<Id<Session>>,
        limit: usize,
    ) -> PortResult<Page<Session>>;
    /// Sessions of all workspaces that have a machine or a way to go (state other than created, sleeping and
    /// failed, or a goal they have not reached), oldest id first: for reconcile.
    async fn restless_sessions(&self, after: Option<Id<Session>>, limit: usize) -> PortResult<Page<Session>>;
    /// A ticket, whatever its state. Its text is the only thing known about it, so this one is not scoped.
    async fn ticket(&self, hash: &SecretHash) -> PortResult<Option<Ticket>>;
}

/// Previews of ports.
#[async_trait]
pub trait Previews: Send + Sync + 'static {
    /// A session of any workspace: a preview's host name says nothing else, and who may come is decided then.
    async fn session_of_host(&self, id: Id<Session>) -> PortResult<Option<Session>>;
    /// What was said about a port of a session.
    async fn port_setting(
        &self,
        workspace: Id<Workspace>,
        session: Id<Session>,
        port: u16,
    ) -> PortResult<Option<PortSetting>>;
    /// What was said about a session's ports, the lowest port first.
    async fn port_settings(
        &self,
        workspace: Id<Workspace>,
        session: Id<Session>,
        after: Option<u16>,
        limit: usize,
    ) -> PortResult<Page<PortSetting>>;
}

/// Snapshots.
#[async_trait]
pub trait Snapshots: Send + Sync + 'static {
    /// A snapshot.
    async fn snapshot(&self, workspace: Id<Workspace>, id: Id<Snapshot>) -> PortResult<Option<Snapshot>>;
    /// A session's snapshots.
    async fn snapshots(
        &self,
        workspace: Id<Workspace>,
        session: Id<Session>,
        after: Option<Id<Snapshot>>,
        limit: usize,
    ) -> PortResult<Page<Snapshot>>;
    /// A workspace's snapshots of a label.
    async fn snapshots_by_label(
        &self,
        workspace: Id<Workspace>,
        label: &Label,
        limit: usize,
    ) -> PortResult<Page<Snapshot>>;
    /// The snapshot of a session that is pending.
    async fn pending_snapshot(
        &self,
        workspace: Id<Workspace>,
        session: Id<Session>,
    ) -> PortResult<Option<Snapshot>>;
    /// Whether a snapshot that has not failed names this blob.
    async fn snapshot_names(&self, workspace: Id<Workspace>, blob: &BlobKey) -> PortResult<bool>;
    /// Snapshots of all workspaces that are to be looked at by `now`, longest due first: for reconcile.
    async fn due_snapshots(&self, now: Timestamp, limit: usize) -> PortResult<Page<Snapshot>>;
}

/// Packs.
#[async_trait]
pub trait Packs: Send + Sync + 'static {
    /// A pack.
    async fn pack(&self, workspace: Id<Workspace>, id: Id<Pack>) -> PortResult<Option<Pack>>;
    /// The packs that a snapshot names.
    async fn packs_of(
        &self,
        workspace: Id<Workspace>,
        snapshot: Id<Snapshot>,
        after: Option<Id<Pack>>,
        limit: usize,
    ) -> PortResult<Page<Pack>>;
    /// The packs of a lineage.
    async fn packs_in(
        &self,
        workspace: Id<Workspace>,
        lineage: Id<Session>,
        after: Option<Id<Pack>>,
        limit: usize,
    ) -> PortResult<Page<Pack>>;
    /// A workspace's packs, whatever their lineage, oldest id first: for reconcile.
    async fn all_packs(
        &self,
        workspace: Id<Workspace>,
        after: Option<Id<Pack>>,
        limit: usize,
    ) -> PortResult<Page<Pack>>;
    /// Packs of a lineage that are not condemned and that no snapshot names, newest first: for the sweep. It looks at every
    /// pack of the lineage that is not condemned.
    async fn unreferenced_packs(
        &self,
        workspace: Id<Workspace>,
        lineage: Id<Session>,
        limit: usize,
    ) -> PortResult<Page<Pack>>;
    /// Packs of all workspaces that were condemned at or before a moment, longest condemned first: for reconcile.
    async fn condemned_packs(&self, by: Timestamp, limit: usize) -> PortResult<Page<Pack>>;
}

/// Secrets, sealed.
#[async_trait]
pub trait Secrets: Send + Sync + 'static {
    /// The key that a workspace's secrets are sealed with; none before its first secret.
    async fn secret_key(&self, workspace: Id<Workspace>) -> PortResult<Option<SecretKey>>;
    /// A secret by name.
    async fn secret_by_name(
        &self,
        workspace: Id<Workspace>,
        name: &VariableName,
    ) -> PortResult<Option<SecretEntry>>;
    /// A workspace's secrets.
    async fn secrets(
        &self,
        workspace: Id<Workspace>,
        after: Option<Id<SecretEntry>>,
        limit: usize,
    ) -> PortResult<Page<SecretEntry>>;
    /// Keys of all workspaces that another master key has sealed, in no order: for reconcile.
    async fn secret_keys_of_others(&self, master: &str, limit: usize) -> PortResult<Page<SecretKey>>;
}

/// What happened: events and audit.
#[async_trait]
pub trait Journal: Send + Sync + 'static {
    /// A workspace's events behind `after`, oldest first.
    async fn events(
        &self,
        workspace: Id<Workspace>,
        after: u64,
        limit: usize,
    ) -> PortResult<Vec<StoredEvent>>;
    /// The sequence number of a workspace's newest event; 0 where there is none.
    async fn last_event(&self, workspace: Id<Workspace>) -> PortResult<u64>;
    /// A workspace's audit lines (of its data) before `before`, newest first.
    async fn audit(
        &self,
        workspace: Id<Workspace>,
        before: Option<u64>,
        limit: usize,
    ) -> PortResult<Page<StoredAudit>>;
}

/// Effects that wait to be delivered. Both outboxes are served; `workspace` of the answer tells which.
#[async_trait]
pub trait Outbox: Send + Sync + 'static {
    /// Effects due at `now`, longest due first, of one workspace or of everything.
    async fn due(
        &self,
        workspace: Option<Id<Workspace>>,
        now: Timestamp,
        limit: usize,
    ) -> PortResult<Vec<StoredEffect>>;
    /// Forgets a delivered effect; one that is gone already is no error.
    async fn settle(&self, effect: &StoredEffect) -> PortResult<()>;
    /// Tries it again later; counts the attempt.
    async fn postpone(&self, effect: &StoredEffect, due_at: Timestamp) -> PortResult<()>;
    /// Removes tickets, grants and tokens that expired before `before`, at most `limit` (1 to
    /// [`super::PAGE_LIMIT`]) of each; answers how many.
    async fn sweep_expired(&self, before: Timestamp, limit: usize) -> PortResult<u64>;
    /// Effects not delivered yet, in all: for doctor and reports.
    async fn backlog(&self) -> PortResult<u64>;
    /// Whether an effect of this kind waits for the workspace: for tests and doctor.
    async fn waiting(&self, workspace: Id<Workspace>, effect: &Effect) -> PortResult<bool>;
}
