//! Store and blobs behind the fault layer; the store can be sabotaged, to see whether the invariants notice.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use burstflare_ports::blob::{BlobInfo, BlobKey, BlobPage, Blobs};
use burstflare_ports::error::PortResult;
use burstflare_ports::id::Id;
use burstflare_ports::record::{
    Build, Effect, Grant, LogChunk, Membership, Pack, PackState, PortSetting, Principal, Release,
    SecretEntry, SecretHash, SecretKey, Session, SignIn, Snapshot, SnapshotState, StoredAudit, StoredEffect,
    StoredEvent, Template, Ticket, Token, User, Version, Workspace,
};
use burstflare_ports::store::{
    Accounts, Builds, ChangeSet, CommitError, Family, Guard, Journal, Key, Outbox, PAGE_LIMIT, Packs, Page,
    Previews, Put, Releases, Secrets, Sessions, Snapshots, Store, Templates, Workspaces,
};
use burstflare_ports::stream::{Body, ByteStream};
use burstflare_ports::text::{Email, Label, Slug, VariableName};
use burstflare_ports::time::Timestamp;

use super::disk::{Disk, now};
use super::executor::step_aside;
use super::fault::Faults;

/// A rule that is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sabotage {
    None,
    /// The store lets single uses be used again.
    Unspent,
    /// The store lets quotas be exceeded.
    Below,
    /// The store forgets what was to be done outside.
    LostEffects,
    /// The runtime says that it ended machines and does not.
    ImmortalMachines,
    /// The runtime forgets disks that it called whole.
    ForgetfulDisks,
    /// The sweep takes packs that snapshots name.
    SweepTakesAll,
    /// A snapshot's name on a pack is lost before it completes, and no guard looks.
    NamelessPacks,
    /// Forks do not name the packs of what they were forked from.
    UnsharedForks,
    /// Nobody is told to sweep, and no walk finds what there is to.
    NoSweep,
    /// The walk over blobs does not see that there are packs.
    BlindWalk,
    /// The sweep does not see what snapshots name that are still being taken, and no guard does.
    IgnoredLeases,
    /// Packs are removed without another look at whether they are wanted again.
    UnguardedRemoval,
    /// Agents call every machine idle.
    DeafAgents,
}

pub(crate) struct SimStore {
    pub(crate) inner: Arc<dyn Store>,
    pub(crate) faults: Faults,
    pub(crate) sabotage: Sabotage,
}

macro_rules! simulated {
    ($port:ident { $($name:ident($($arg:ident: $ty:ty),*) -> $out:ty;)* } { $($own:tt)* }) => {
        #[async_trait]
        impl $port for SimStore {
            $(async fn $name(&self, $($arg: $ty),*) -> PortResult<$out> {
                self.faults
                    .around(concat!("store.", stringify!($name)), self.inner.$name($($arg),*))
                    .await
            })*
            $($own)*
        }
    };
}

macro_rules! on_disk {
    ($port:ident { $($name:ident($($arg:ident: $ty:ty),*) -> $out:ty;)* }) => {
        #[async_trait]
        impl $port for Disk {
            $(async fn $name(&self, $($arg: $ty),*) -> PortResult<$out> {
                now(self.store().$name($($arg),*))
            })*
        }
    };
}

macro_rules! forward {
    ($port:ident { $($all:tt)* }) => {
        simulated!($port { $($all)* } {});
        on_disk!($port { $($all)* });
    };
}

forward!(Accounts {
    principal(hash: &SecretHash) -> Option<Principal>;
    user(id: Id<User>) -> Option<User>;
    user_by_email(email: &Email) -> Option<User>;
    grant(hash: &SecretHash) -> Option<Grant>;
    sign_in(id: Id<SignIn>) -> Option<SignIn>;
    token(user: Id<User>, id: Id<Token>) -> Option<Token>;
    tokens(user: Id<User>, workspace: Id<Workspace>, after: Option<Id<Token>>, limit: usize) -> Page<Token>;
    any_user() -> bool;
});
on_disk!(Workspaces {
    workspace(id: Id<Workspace>) -> Option<Workspace>;
    workspace_by_name(name: &Slug) -> Option<Workspace>;
    membership(workspace: Id<Workspace>, user: Id<User>) -> Option<Membership>;
    members(workspace: Id<Workspace>, after: Option<Id<User>>, limit: usize) -> Page<(Membership, User)>;
    workspaces_of(user: Id<User>, after: Option<Id<Workspace>>, limit: usize) -> Page<(Workspace, Membership)>;
    all_workspaces(after: Option<Id<Workspace>>, limit: usize) -> Page<Workspace>;
    invites(workspace: Id<Workspace>, after: Option<Id<Grant>>, limit: usize) -> Page<Grant>;
});
simulated!(Workspaces {
    workspace(id: Id<Workspace>) -> Option<Workspace>;
    workspace_by_name(name: &Slug) -> Option<Workspace>;
    membership(workspace: Id<Workspace>, user: Id<User>) -> Option<Membership>;
    members(workspace: Id<Workspace>, after: Option<Id<User>>, limit: usize) -> Page<(Membership, User)>;
    workspaces_of(user: Id<User>, after: Option<Id<Workspace>>, limit: usize) -> Page<(Workspace, Membership)>;
    invites(workspace: Id<Workspace>, after: Option<Id<Grant>>, limit: usize) -> Page<Grant>;
} {
    async fn all_workspaces(&self, after: Option<Id<Workspace>>, limit: usize) -> PortResult<Page<Workspace>> {
        if self.sabotage == Sabotage::NoSweep {
            return Ok(Page { items: Vec::new(), more: false });
        }
        self.faults.around("store.all_workspaces", self.inner.all_workspaces(after, limit)).await
    }
});
forward!(Templates {
    template(workspace: Id<Workspace>, id: Id<Template>) -> Option<Template>;
    template_by_name(workspace: Id<Workspace>, name: &Slug) -> Option<Template>;
    templates(workspace: Id<Workspace>, after: Option<Id<Template>>, limit: usize) -> Page<Template>;
    version(workspace: Id<Workspace>, id: Id<Version>) -> Option<Version>;
    version_by_label(workspace: Id<Workspace>, template: Id<Template>, label: &Label) -> Option<Version>;
    versions(workspace: Id<Workspace>, template: Id<Template>, after: Option<Id<Version>>, limit: usize)
        -> Page<Version>;
});
forward!(Builds {
    build(workspace: Id<Workspace>, id: Id<Build>) -> Option<Build>;
    builds(workspace: Id<Workspace>, after: Option<Id<Build>>, limit: usize) -> Page<Build>;
    log_chunks(workspace: Id<Workspace>, build: Id<Build>, attempt: u32, from: u64, limit: usize)
        -> Page<LogChunk>;
    overdue_builds(now: Timestamp, after: Option<Id<Build>>, limit: usize) -> Page<Build>;
});
forward!(Releases {
    release(workspace: Id<Workspace>, id: Id<Release>) -> Option<Release>;
    releases(workspace: Id<Workspace>, template: Option<Id<Template>>, after: Option<Id<Release>>, limit: usize)
        -> Page<Release>;
});
forward!(Sessions {
    session(workspace: Id<Workspace>, id: Id<Session>) -> Option<Session>;
    session_by_name(workspace: Id<Workspace>, name: &Slug) -> Option<Session>;
    sessions(workspace: Id<Workspace>, after: Option<Id<Session>>, limit: usize) -> Page<Session>;
    restless_sessions(after: Option<Id<Session>>, limit: usize) -> Page<Session>;
    ticket(hash: &SecretHash) -> Option<Ticket>;
});
forward!(Previews {
    session_of_host(id: Id<Session>) -> Option<Session>;
    port_setting(workspace: Id<Workspace>, session: Id<Session>, port: u16) -> Option<PortSetting>;
    port_settings(workspace: Id<Workspace>, session: Id<Session>, after: Option<u16>, limit: usize)
        -> Page<PortSetting>;
});
forward!(Snapshots {
    snapshot(workspace: Id<Workspace>, id: Id<Snapshot>) -> Option<Snapshot>;
    snapshots(workspace: Id<Workspace>, session: Id<Session>, after: Option<Id<Snapshot>>, limit: usize)
        -> Page<Snapshot>;
    snapshots_by_label(workspace: Id<Workspace>, label: &Label, limit: usize) -> Page<Snapshot>;
    pending_snapshot(workspace: Id<Workspace>, session: Id<Session>) -> Option<Snapshot>;
    snapshot_names(workspace: Id<Workspace>, blob: &BlobKey) -> bool;
    due_snapshots(now: Timestamp, limit: usize) -> Page<Snapshot>;
});
on_disk!(Packs {
    pack(workspace: Id<Workspace>, id: Id<Pack>) -> Option<Pack>;
    packs_of(workspace: Id<Workspace>, snapshot: Id<Snapshot>, after: Option<Id<Pack>>, limit: usize)
        -> Page<Pack>;
    packs_in(workspace: Id<Workspace>, lineage: Id<Session>, after: Option<Id<Pack>>, limit: usize)
        -> Page<Pack>;
    all_packs(workspace: Id<Workspace>, after: Option<Id<Pack>>, limit: usize) -> Page<Pack>;
    unreferenced_packs(workspace: Id<Workspace>, lineage: Id<Session>, limit: usize) -> Page<Pack>;
    condemned_packs(by: Timestamp, limit: usize) -> Page<Pack>;
});
simulated!(Packs {
    packs_of(workspace: Id<Workspace>, snapshot: Id<Snapshot>, after: Option<Id<Pack>>, limit: usize)
        -> Page<Pack>;
    packs_in(workspace: Id<Workspace>, lineage: Id<Session>, after: Option<Id<Pack>>, limit: usize)
        -> Page<Pack>;
    all_packs(workspace: Id<Workspace>, after: Option<Id<Pack>>, limit: usize) -> Page<Pack>;
    condemned_packs(by: Timestamp, limit: usize) -> Page<Pack>;
} {
    async fn pack(&self, workspace: Id<Workspace>, id: Id<Pack>) -> PortResult<Option<Pack>> {
        let blind = self.sabotage == Sabotage::BlindWalk;
        let found = self.faults.around("store.pack", self.inner.pack(workspace, id)).await?;
        Ok(found.filter(|_| !blind))
    }

    async fn unreferenced_packs(&self, workspace: Id<Workspace>, lineage: Id<Session>, limit: usize)
        -> PortResult<Page<Pack>> {
        self.faults
            .around("store.unreferenced_packs", async {
                match self.sabotage {
                    Sabotage::SweepTakesAll => {}
                    Sabotage::IgnoredLeases => return self.leased_too(workspace, lineage, limit).await,
                    _ => return self.inner.unreferenced_packs(workspace, lineage, limit).await,
                }
                let mut all = self.inner.packs_in(workspace, lineage, None, limit).await?;
                all.items.retain(|pack| pack.state != PackState::Condemned);
                Ok(all)
            })
            .await
    }
});
forward!(Secrets {
    secret_key(workspace: Id<Workspace>) -> Option<SecretKey>;
    secret_by_name(workspace: Id<Workspace>, name: &VariableName) -> Option<SecretEntry>;
    secrets(workspace: Id<Workspace>, after: Option<Id<SecretEntry>>, limit: usize) -> Page<SecretEntry>;
    secret_keys_of_others(master: &str, limit: usize) -> Page<SecretKey>;
});
forward!(Journal {
    events(workspace: Id<Workspace>, after: u64, limit: usize) -> Vec<StoredEvent>;
    last_event(workspace: Id<Workspace>) -> u64;
    audit(workspace: Id<Workspace>, before: Option<u64>, limit: usize) -> Page<StoredAudit>;
});
forward!(Outbox {
    due(workspace: Option<Id<Workspace>>, now: Timestamp, limit: usize) -> Vec<StoredEffect>;
    settle(effect: &StoredEffect) -> ();
    postpone(effect: &StoredEffect, due_at: Timestamp) -> ();
    sweep_expired(before: Timestamp, limit: usize) -> u64;
    backlog() -> u64;
    waiting(workspace: Id<Workspace>, effect: &Effect) -> bool;
});

#[async_trait]
impl Store for Disk {
    async fn commit(&self, change: &ChangeSet) -> Result<(), CommitError> {
        now(self.store().commit(change))
    }

    async fn ping(&self) -> PortResult<()> {
        now(self.store().ping())
    }
}

impl SimStore {
    /// Packs that no complete snapshot names, whether or not another one does.
    async fn leased_too(
        &self,
        workspace: Id<Workspace>,
        lineage: Id<Session>,
        limit: usize,
    ) -> PortResult<Page<Pack>> {
        let mut all = self.inner.packs_in(workspace, lineage, None, limit).await?;
        all.items.retain(|pack| pack.state != PackState::Condemned);
        for session in self.inner.sessions(workspace, None, PAGE_LIMIT).await?.items {
            for snapshot in self.inner.snapshots(workspace, session.id, None, PAGE_LIMIT).await?.items {
                if snapshot.state == SnapshotState::Complete {
                    let named = self.inner.packs_of(workspace, snapshot.id, None, PAGE_LIMIT).await?.items;
                    all.items.retain(|pack| named.iter().all(|other| other.id != pack.id));
                }
            }
        }
        Ok(all)
    }
}

#[async_trait]
impl Store for SimStore {
    async fn commit(&self, change: &ChangeSet) -> Result<(), CommitError> {
        let mut change = change.clone();
        match self.sabotage {
            Sabotage::Unspent => {
                change.guards.retain(|guard| !matches!(guard, Guard::Unspent(..)));
                change.spends.clear();
            }
            Sabotage::Below => change.guards.retain(|guard| !matches!(guard, Guard::Below { .. })),
            Sabotage::LostEffects => change.outbox.clear(),
            Sabotage::IgnoredLeases => {
                let leases = |guard: &Guard| matches!(guard, Guard::Unreferenced(_) | Guard::Packed { .. });
                change.guards.retain(|guard| !leases(guard));
            }
            Sabotage::UnguardedRemoval if change.deletes.iter().any(|key| matches!(key, Key::Pack(_))) => {
                change.guards.clear();
                // Somebody may come in between.
                for _ in 0..300 {
                    step_aside().await;
                }
            }
            Sabotage::SweepTakesAll => change.guards.retain(|guard| !matches!(guard, Guard::Unreferenced(_))),
            Sabotage::NamelessPacks => {
                let (held, others): (Vec<_>, Vec<_>) =
                    change.guards.into_iter().partition(|guard| matches!(guard, Guard::Packed { .. }));
                change.guards = others;
                if let (Some(Guard::Packed { snapshot, .. }), Family::Workspace(home)) =
                    (held.first(), change.family)
                {
                    let named = self.inner.packs_of(home, *snapshot, None, 1).await?;
                    let mut loss = ChangeSet::new(change.family);
                    loss.deletes.extend(named.items.iter().map(|pack| Key::SnapshotPack(*snapshot, pack.id)));
                    self.inner.commit(&loss).await?;
                }
            }
            Sabotage::UnsharedForks => {
                let is_new = |put: &Put| matches!(put, Put::Session(session) if session.revision == 1);
                let forks = change.puts.iter().any(is_new);
                change.puts.retain(|put| !(forks && matches!(put, Put::SharedPacks(_))));
            }
            Sabotage::NoSweep => {
                let sweeps = |effect: &Effect| {
                    matches!(effect, Effect::SweepPacks { .. } | Effect::DropSnapshot { .. })
                };
                change.outbox.retain(|(effect, _)| !sweeps(effect));
            }
            _ => {}
        }
        let actions = || {
            let named = change.audit.iter().map(|(_, line)| format!("{} {}", line.action, line.target));
            let events = change.events.iter().map(|event| format!("{} {}", event.kind, event.data));
            named.chain(events).collect::<Vec<_>>().join(", ")
        };
        for event in &change.events {
            let state = event.data.get("state").and_then(serde_json::Value::as_str).unwrap_or_default();
            self.faults.count(format!("event {} {state}", event.kind).trim_end());
        }
        for put in &change.puts {
            match put {
                Put::Pack(pack) => self.faults.count(&format!("pack {:?}", pack.state).to_lowercase()),
                Put::SharedPacks(_) => self.faults.count("packs named by another snapshot"),
                _ => {}
            }
        }
        for _ in change.deletes.iter().filter(|key| matches!(key, Key::Pack(_))) {
            self.faults.count("pack swept");
        }
        for (effect, _) in &change.outbox {
            let debug = format!("{effect:?}");
            let name = debug.split([' ', '{', '(']).next().unwrap_or_default();
            self.faults.count(&format!("effect {name}"));
        }
        self.faults.around_commit(|| format!("commit {}", actions()), self.inner.commit(&change)).await
    }

    async fn ping(&self) -> PortResult<()> {
        self.faults.around("store.ping", self.inner.ping()).await
    }
}

pub(crate) struct SimBlobs {
    pub(crate) inner: Arc<dyn Blobs>,
    pub(crate) faults: Faults,
}

#[async_trait]
impl Blobs for SimBlobs {
    async fn put(&self, key: &BlobKey, body: Body, limit: u64) -> PortResult<BlobInfo> {
        self.faults.around("blobs.put", self.inner.put(key, body, limit)).await
    }

    async fn get(&self, key: &BlobKey, range: Option<Range<u64>>) -> PortResult<(BlobInfo, ByteStream)> {
        self.faults.around("blobs.get", self.inner.get(key, range)).await
    }

    async fn head(&self, key: &BlobKey) -> PortResult<Option<BlobInfo>> {
        self.faults.around("blobs.head", self.inner.head(key)).await
    }

    async fn delete(&self, key: &BlobKey) -> PortResult<()> {
        self.faults.around("blobs.delete", self.inner.delete(key)).await
    }

    async fn list(&self, prefix: &BlobKey, after: Option<&BlobKey>, limit: usize) -> PortResult<BlobPage> {
        self.faults.around("blobs.list", self.inner.list(prefix, after, limit)).await
    }
}
