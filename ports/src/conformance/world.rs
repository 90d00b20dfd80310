//! Records for cases, with ids and names that nothing else has.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Finding;
use crate::blob::BlobKey;
use crate::error::ErrorKind;
use crate::id::{Id, Kind};
use crate::machine::{LayerRef, Limits};
use crate::record::{
    Actor, AuditEntry, Build, BuildState, BundleRef, Event, Goal, Grant, GrantKind, LogChunk, Membership,
    Origin, Pack, PackState, PortSetting, PortSpec, Release, ReleaseCause, Role, Scope, SecretHash, Session,
    SessionKeys, SessionState, Sharing, SignIn, Snapshot, SnapshotKind, SnapshotPack, SnapshotState,
    Template, Ticket, TicketPurpose, Token, TokenKind, User, Version, VersionSpec, VersionState, Visibility,
    Workspace,
};
use crate::store::{ChangeSet, CommitError, Family, Guard, Key, Put, Store};
use crate::text::Slug;
use crate::time::Timestamp;

/// A moment that cases reckon from; far from both ends.
pub(super) const NOON: Timestamp = Timestamp::from_millis(1_750_000_000_000);
pub(super) const HOUR: Duration = Duration::from_secs(3600);

/// A store and a seed.
pub(super) struct World {
    pub(super) store: Arc<dyn Store>,
    pub(super) seed: u64,
    made: AtomicU64,
}

/// The records above a session.
pub(super) struct Tree {
    pub(super) template: Template,
    pub(super) version: Version,
    pub(super) release: Release,
    pub(super) session: Session,
}

/// The records below a token.
pub(super) struct Account {
    pub(super) user: User,
    pub(super) workspace: Workspace,
    pub(super) membership: Membership,
    pub(super) sign_in: SignIn,
}

impl World {
    pub(super) fn new(store: Arc<dyn Store>, seed: u64) -> Self {
        Self { store, seed, made: AtomicU64::new(0) }
    }

    fn next(&self) -> u64 {
        self.made.fetch_add(1, Ordering::Relaxed)
    }

    /// Ids sort in the order in which they were made.
    pub(super) fn id<K: Kind>(&self) -> Id<K> {
        let count = self.next();
        let mut random = [0; 10];
        let hash = blake3::hash(format!("{}/{count}", self.seed).as_bytes());
        random.copy_from_slice(&hash.as_bytes()[..10]);
        Id::new(NOON.after(Duration::from_millis(count)), random)
    }

    pub(super) fn name(&self) -> Result<Slug, Finding> {
        parse(&format!("n-{:x}-{}", self.seed, self.next()))
    }

    pub(super) fn secret(&self) -> SecretHash {
        SecretHash::of(&format!("{:x}-{}", self.seed, self.next()))
    }

    pub(super) fn blob(&self) -> Result<BlobKey, Finding> {
        parse(&format!("case/{:x}-{}", self.seed, self.next()))
    }

    pub(super) async fn commit(&self, change: &ChangeSet) -> Result<(), Finding> {
        self.store.commit(change).await.map_err(Finding::from)
    }

    /// The guard that refused; a finding where the commit succeeded or failed otherwise.
    pub(super) async fn refusal(&self, change: &ChangeSet) -> Result<Guard, Finding> {
        match self.store.commit(change).await {
            Err(CommitError::Refused(guard)) => Ok(guard),
            other => Err(Finding(format!("wanted a refusal, found {other:?}"))),
        }
    }

    /// The kind of the failure; a finding where the commit succeeded or was refused.
    pub(super) async fn failure(&self, change: &ChangeSet) -> Result<ErrorKind, Finding> {
        match self.store.commit(change).await {
            Err(CommitError::Failed(error)) => Ok(error.kind()),
            other => Err(Finding(format!("wanted a failure, found {other:?}"))),
        }
    }

    /// A user, their workspace, their place in it and a sign-in, committed.
    pub(super) async fn account(&self) -> Result<Account, Finding> {
        let user = self.user()?;
        let workspace = self.workspace()?;
        let membership = membership(workspace.id, user.id);
        let sign_in = self.sign_in(user.id, workspace.id);
        let change = inserts(
            Family::Directory,
            [
                Put::User(user.clone()),
                Put::Workspace(workspace.clone()),
                Put::Membership(membership.clone()),
                Put::SignIn(sign_in.clone()),
            ],
        );
        self.commit(&change).await?;
        Ok(Account { user, workspace, membership, sign_in })
    }

    /// A template, a version, a release and a session, committed.
    pub(super) async fn tree(&self, workspace: Id<Workspace>) -> Result<Tree, Finding> {
        let template = self.template(workspace)?;
        let version = self.version(&template)?;
        let release = self.release(&version, 1);
        let session = self.session(&release)?;
        let change = inserts(
            Family::Workspace(workspace),
            [
                Put::Template(template.clone()),
                Put::Version(version.clone()),
                Put::Release(release.clone()),
                Put::Session(session.clone()),
            ],
        );
        self.commit(&change).await?;
        Ok(Tree { template, version, release, session })
    }

    pub(super) fn user(&self) -> Result<User, Finding> {
        Ok(User {
            id: self.id(),
            email: parse(&format!("u{:x}-{}@example.com", self.seed, self.next()))?,
            email_verified_at: None,
            created_at: NOON,
            revision: 1,
        })
    }

    pub(super) fn workspace(&self) -> Result<Workspace, Finding> {
        Ok(Workspace {
            id: self.id(),
            name: self.name()?,
            plan: "local".to_owned(),
            personal_of: None,
            created_at: NOON,
            revision: 1,
        })
    }

    pub(super) fn sign_in(&self, user: Id<User>, workspace: Id<Workspace>) -> SignIn {
        SignIn { id: self.id(), user, workspace, created_at: NOON, revoked_at: None, revision: 1 }
    }

    pub(super) fn token(&self, account: &Account, kind: TokenKind) -> Token {
        Token {
            id: self.id(),
            kind,
            hash: self.secret(),
            sign_in: account.sign_in.id,
            user: account.user.id,
            workspace: account.workspace.id,
            name: "läptop 'quoted' \"twice\"".parse().ok(),
            scopes: vec![Scope::Read, Scope::Attach],
            created_at: NOON,
            expires_at: NOON.after(HOUR),
            revoked_at: None,
            revision: 1,
        }
    }

    pub(super) fn grant(&self, kind: GrantKind) -> Grant {
        Grant {
            id: self.id(),
            kind,
            hash: self.secret(),
            user: None,
            sign_in: None,
            workspace: None,
            role: None,
            created_at: NOON,
            expires_at: NOON.after(HOUR),
            spent_at: None,
        }
    }

    pub(super) fn template(&self, workspace: Id<Workspace>) -> Result<Template, Finding> {
        Ok(Template {
            id: self.id(),
            workspace,
            name: self.name()?,
            created_by: self.id(),
            current_release: None,
            archived_at: None,
            created_at: NOON,
            revision: 1,
        })
    }

    pub(super) fn version(&self, template: &Template) -> Result<Version, Finding> {
        Ok(Version {
            id: self.id(),
            workspace: template.workspace,
            template: template.id,
            label: parse(&format!("1.0.{}", self.next()))?,
            state: VersionState::Draft,
            bundle: None,
            spec: None,
            build: None,
            layer: None,
            created_by: self.id(),
            created_at: NOON,
            revision: 1,
        })
    }

    pub(super) fn build(&self, version: &Version) -> Build {
        Build {
            id: self.id(),
            workspace: version.workspace,
            template: version.template,
            version: version.id,
            state: BuildState::Queued,
            step: None,
            steps: 5,
            attempt: 1,
            sealed_key: None,
            epoch: 1,
            deadline: None,
            failure: None,
            created_at: NOON,
            started_at: None,
            finished_at: None,
            revision: 1,
        }
    }

    pub(super) fn chunk(
        &self,
        build: &Build,
        attempt: u32,
        offset: u64,
        size: u64,
    ) -> Result<LogChunk, Finding> {
        let (workspace, build) = (build.workspace, build.id);
        Ok(LogChunk { workspace, build, attempt, offset, size, blob: self.blob()? })
    }

    pub(super) fn release(&self, version: &Version, number: u64) -> Release {
        Release {
            id: self.id(),
            workspace: version.workspace,
            template: version.template,
            version: version.id,
            number,
            cause: ReleaseCause::Promote,
            previous: None,
            created_by: self.id(),
            created_at: NOON,
        }
    }

    pub(super) fn session(&self, release: &Release) -> Result<Session, Finding> {
        Ok(Session {
            id: self.id(),
            workspace: release.workspace,
            name: self.name()?,
            template: release.template,
            release: release.id,
            version: release.version,
            owner: self.id(),
            sharing: Sharing::Private,
            state: SessionState::Created,
            goal: Goal::Sleep,
            epoch: 0,
            keys: SessionKeys { agent: "sealed".to_owned(), ssh_host_seed: "sealed".to_owned() },
            ssh_host_key: "ssh-ed25519 AAAA".to_owned(),
            force: false,
            snapshot: None,
            restore: None,
            lineage: self.id(),
            forked_from: None,
            disk: 0,
            saved_at: None,
            unsaved: false,
            deadline: None,
            failure: None,
            sleep_after_s: None,
            stopped_by: None,
            wanted_at: Some(NOON),
            created_at: NOON,
            changed_at: NOON,
            revision: 1,
        })
    }

    pub(super) fn ticket(&self, session: &Session) -> Ticket {
        Ticket {
            id: self.id(),
            workspace: session.workspace,
            session: session.id,
            user: self.id(),
            token: self.id(),
            sign_in: self.id(),
            purpose: TicketPurpose::Ssh,
            epoch: 1,
            ssh_key: None,
            port: Some(65_535),
            hash: self.secret(),
            created_at: NOON,
            expires_at: NOON.after(HOUR),
            spent_at: None,
        }
    }

    pub(super) fn port_setting(&self, session: &Session, port: u16) -> PortSetting {
        PortSetting {
            workspace: session.workspace,
            session: session.id,
            port,
            visibility: Visibility::Workspace,
            expires_at: Some(NOON.after(HOUR)),
            changed_at: NOON,
            revision: 1,
        }
    }

    pub(super) fn snapshot(&self, session: &Session) -> Result<Snapshot, Finding> {
        Ok(Snapshot {
            id: self.id(),
            workspace: session.workspace,
            session: session.id,
            kind: SnapshotKind::Auto,
            state: SnapshotState::Complete,
            label: None,
            parent: None,
            format: 1,
            blob: self.blob()?,
            digest: String::new(),
            files: 0,
            bytes: 0,
            stored: 0,
            packed: 0,
            epoch: 1,
            verified_at: None,
            due_at: None,
            failure: None,
            created_at: NOON,
            revision: 1,
        })
    }
}

impl World {
    pub(super) fn pack(&self, session: &Session, state: PackState) -> Pack {
        Pack {
            id: self.id(),
            workspace: session.workspace,
            lineage: session.lineage,
            hash: "ab".repeat(32),
            bytes: 9_007_199_254_740_991,
            state,
            condemned_at: (state == PackState::Condemned).then_some(NOON),
            created_at: NOON,
            revision: 1,
        }
    }
}

/// A snapshot's naming of a pack.
pub(super) fn naming(snapshot: &Snapshot, pack: &Pack) -> Put {
    Put::SnapshotPack(SnapshotPack { workspace: snapshot.workspace, snapshot: snapshot.id, pack: pack.id })
}

pub(super) fn parse<T: std::str::FromStr>(text: &str) -> Result<T, Finding> {
    text.parse().map_err(|_| Finding(format!("the case's own text is refused: {text}")))
}

pub(super) fn membership(workspace: Id<Workspace>, user: Id<User>) -> Membership {
    Membership { workspace, user, role: Role::Member, created_at: NOON, revision: 1 }
}

/// A version with everything filled in, texts that need care among it.
pub(super) fn filled(version: &mut Version, blob: &BlobKey) {
    version.bundle =
        Some(BundleRef { blob: blob.clone(), blake3: "ab".repeat(32), size: 9_007_199_254_740_991 });
    version.layer =
        Some(LayerRef { digest: "cd".repeat(32), blob: blob.clone(), size: 1, files: 9_007_199_254_740_991 });
    version.spec = Some(VersionSpec {
        base: "default".to_owned(),
        setup: vec!["echo 'it''s' \"quoted\"; -- no comment".to_owned(), "printf 'ü\\n\u{1F525}'".to_owned()],
        on_start: Some("make serve &".to_owned()),
        sleep_after_s: None,
        persist: vec!["/workspace".to_owned()],
        env: BTreeMap::from([("KEY".to_owned(), "va;lue\nwith a line".to_owned())]),
        ports: vec![PortSpec { port: 3000, name: None, visibility: Visibility::Public }],
        limits: Limits { cpu_millis: 1000, memory: 1 << 40, disk: 0, pids: 64 },
        not_supported_yet: Vec::new(),
    });
}

pub(super) fn event(kind: &str) -> Event {
    let data = serde_json::json!({"from": "a", "to": null, "n": 1});
    Event { kind: kind.to_owned(), subject: "ses_x".to_owned(), data, at: NOON }
}

pub(super) fn audit(action: &str) -> AuditEntry {
    AuditEntry {
        at: NOON,
        actor: Actor::System,
        origin: Origin { ip: Some("::1".to_owned()), user_agent: None, request_id: Some("r".to_owned()) },
        action: action.to_owned(),
        target: "ses_x".to_owned(),
        detail: serde_json::json!({"before": 1, "after": [true]}),
    }
}

/// A change that inserts new records, each with the guard it needs.
pub(super) fn inserts(family: Family, puts: impl IntoIterator<Item = Put>) -> ChangeSet {
    let mut change = ChangeSet::new(family);
    for put in puts {
        if let (Some(key), Some(_)) = (put.key(), put.revision()) {
            change.guards.push(Guard::Absent(key));
        }
        change.puts.push(put);
    }
    change
}

/// A change that writes one record over its last revision.
pub(super) fn update(family: Family, put: Put) -> ChangeSet {
    let mut change = ChangeSet::new(family);
    if let (Some(key), Some(revision)) = (put.key(), put.revision()) {
        change.guards.push(Guard::Revision(key, revision.saturating_sub(1)));
    }
    change.puts.push(put);
    change
}

/// A change that deletes.
pub(super) fn deletes(family: Family, keys: impl IntoIterator<Item = Key>) -> ChangeSet {
    let mut change = ChangeSet::new(family);
    change.deletes.extend(keys);
    change
}
