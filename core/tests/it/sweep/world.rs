//! One seed's world: the control plane on real or memory backends, and what its sessions' snapshots have to hold.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use burstflare_adapters_local::blobs::FsBlobs;
use burstflare_adapters_local::sqlite::{DataFolder, SqliteDatabase, SqliteStore};
use burstflare_core::service::{NewSession, Register};
use burstflare_core::{Caller, Config, ControlPlane, Ports, Registration};
use burstflare_ports::blob::Blobs;
use burstflare_ports::drive::SessionActor as _;
use burstflare_ports::id::{Id, Kind};
use burstflare_ports::machine::Limits;
use burstflare_ports::memory::{
    ManualClock, MemoryBlobs, MemoryCache, MemoryFeed, MemoryStore, SeededEntropy,
};
use burstflare_ports::record::{
    Goal, Origin, Release, ReleaseCause, Session, SessionState, Sharing, Snapshot, SnapshotState, Template,
    Version, VersionSpec, VersionState,
};
use burstflare_ports::secret::Secret;
use burstflare_ports::store::{ChangeSet, Family, Guard, Key, Put, Store};
use burstflare_ports::time::Timestamp;
use tempfile::TempDir;
use tokio::runtime::Handle;

use super::host::Host;
use super::machines::Machines;
use crate::packed::Files;
use crate::simulation::disk;
use crate::simulation::executor::{SimClock, step_aside};
use crate::simulation::fault::{Faults, Rates, Tracing};
use crate::simulation::rng::Rng;
use crate::simulation::store::{Sabotage, SimBlobs, SimStore};
use crate::stored;

const BEGINNING: i64 = 1_800_000_000_000;
/// More looks than this at one session are one that does not settle.
const LOOKS: usize = 400;

/// What records and blobs lie in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Memory,
    /// SQLite and a folder.
    Disk,
}

#[derive(Clone)]
pub(super) struct World {
    pub(super) plane: ControlPlane,
    pub(super) caller: Arc<Caller>,
    pub(super) clock: ManualClock,
    pub(super) machines: Machines,
    /// Records and blobs as they are, past every sabotage.
    pub(super) store: Arc<dyn Store>,
    pub(super) blobs: Arc<dyn Blobs>,
    /// What each complete snapshot has to hold.
    pub(super) model: Arc<Mutex<BTreeMap<Id<Snapshot>, Files>>>,
    /// What is wrong, as soon as it shows.
    pub(super) wrong: Arc<Mutex<Vec<String>>>,
    /// How often what was done.
    pub(super) done: Arc<Mutex<BTreeMap<&'static str, u64>>>,
    pub(super) template: Id<Template>,
    _folder: Arc<Option<TempDir>>,
}

impl World {
    pub(super) async fn new(seed: u64, place: Place, sabotage: Sabotage) -> Self {
        let (store, blobs, folder): (Arc<dyn Store>, Arc<dyn Blobs>, _) = match place {
            Place::Memory => (Arc::new(MemoryStore::default()), Arc::new(MemoryBlobs::default()), None),
            Place::Disk => {
                let folder = disk::room();
                let data = DataFolder::open(folder.path()).unwrap();
                let database = SqliteDatabase::open(&data, Timestamp::from_millis(1)).await.unwrap();
                let blobs = FsBlobs::open(folder.path().join("blobs")).unwrap();
                (Arc::new(SqliteStore::new(database)), Arc::new(blobs), Some(folder))
            }
        };
        let clock = ManualClock::new(Timestamp::from_millis(BEGINNING));
        // No faults: the layer lets others run around each call, and holds the sabotage.
        let faults = Faults::new(Rng::new(seed), SimClock::starting_at(BEGINNING), Rates::NONE, Tracing::Off);
        let machines = Machines::default();
        let host = Arc::new(Host(Handle::current()));
        let ports = Ports {
            store: Arc::new(SimStore { inner: Arc::clone(&store), faults: faults.clone(), sabotage }),
            blobs: Arc::new(SimBlobs { inner: Arc::clone(&blobs), faults }),
            queue: host.clone(),
            workflows: host.clone(),
            actors: host.clone(),
            runtime: Arc::new(machines.clone()),
            agents: Arc::new(machines.clone()),
            feed: Arc::new(MemoryFeed::default()),
            cache: Arc::new(MemoryCache::new(Arc::new(clock.clone()))),
            limiter: host.clone(),
            mailer: host.clone(),
            clock: Arc::new(clock.clone()),
            entropy: Arc::new(SeededEntropy::new(seed)),
            background: host,
        };
        let config = Config {
            registration: Registration::Open,
            master_key: Secret::new([7; 32]),
            earlier_master_keys: Vec::new(),
            plan: "local".to_owned(),
        };
        let plane = ControlPlane::new(ports, config);
        let wish = Register { email: "user@example.com".parse().unwrap(), code: None };
        let signed_in = plane.register(wish, Origin::default()).await.unwrap().signed_in;
        let caller = plane.authenticate(signed_in.tokens.access.expose(), Origin::default()).await.unwrap();
        let template = template(&*store, &caller).await;
        Self {
            plane,
            caller: Arc::new(caller),
            clock,
            machines,
            store,
            blobs,
            model: Arc::default(),
            wrong: Arc::default(),
            done: Arc::default(),
            template,
            _folder: Arc::new(folder),
        }
    }

    pub(super) fn accuse(&self, what: String) {
        self.wrong.lock().unwrap().push(what);
    }

    pub(super) fn count(&self, what: &'static str) {
        *self.done.lock().unwrap().entry(what).or_default() += 1;
    }

    pub(super) async fn session(&self, name: &str) -> Session {
        let template = self.template.to_string();
        let wish = NewSession { name: name.parse().unwrap(), template, sharing: Sharing::Private };
        self.plane.create_session(&self.caller, wish).await.unwrap()
    }

    /// The session as it is now.
    pub(super) async fn fresh(&self, session: &Session) -> Option<Session> {
        self.store.session(session.workspace, session.id).await.unwrap()
    }

    /// Looks at a session as its actor would, until nothing is under way in it; then writes down what new snapshots have to
    /// hold, for nobody writes to its disk meanwhile.
    pub(super) async fn settle(&self, session: &Session) -> Option<Session> {
        for _ in 0..LOOKS {
            // An attempt that broke off is made again.
            let _ = self.plane.tend(session.workspace, session.id).await;
            let found = self.fresh(session).await?;
            let pending = self.store.pending_snapshot(found.workspace, found.id).await.unwrap();
            let rests = match found.state {
                SessionState::Running => pending.is_none(),
                SessionState::Sleeping => found.goal != Goal::Run,
                _ => false,
            };
            if rests {
                self.learn(&found, self.machines.files(&found)).await;
                return Some(found);
            }
            step_aside().await;
        }
        let found = self.fresh(session).await.map(|it| (it.state, it.goal, it.failure));
        self.accuse(format!("{} does not settle: {found:?}", session.id));
        None
    }

    /// As [`World::settle`], where the disk is replaced on the way: what is taken before that holds these files.
    pub(super) async fn settle_after(&self, session: &Session, before: &Files) -> Option<Session> {
        for _ in 0..LOOKS {
            let _ = self.plane.tend(session.workspace, session.id).await;
            let found = self.fresh(session).await?;
            self.learn(&found, before.clone()).await;
            let rests = match found.state {
                SessionState::Running => found.restore.is_none(),
                SessionState::Sleeping => found.goal != Goal::Run,
                state => state == SessionState::Failed,
            };
            if rests {
                return Some(found);
            }
            step_aside().await;
        }
        None
    }

    /// New complete snapshots hold these files.
    async fn learn(&self, session: &Session, files: Files) {
        for snapshot in stored::snapshots(&*self.store, session).await {
            if snapshot.state == SnapshotState::Complete {
                self.model.lock().unwrap().entry(snapshot.id).or_insert_with(|| files.clone());
            }
        }
    }

    pub(super) fn pass(&self, span: Duration) {
        self.clock.advance(span);
    }
}

/// A template with a release to start sessions from: how that is built is another test's.
async fn template(store: &dyn Store, caller: &Caller) -> Id<Template> {
    fn id<K: Kind>(number: u8) -> Id<K> {
        Id::new(Timestamp::from_millis(BEGINNING), [number; 10])
    }
    let (workspace, created_by) = (caller.workspace.id, caller.user.id);
    let (template, version, release) = (id(1), id(2), id(3));
    let created_at = Timestamp::from_millis(BEGINNING);
    let spec = VersionSpec {
        base: "default".to_owned(),
        setup: Vec::new(),
        on_start: None,
        sleep_after_s: None,
        persist: vec!["/workspace".to_owned()],
        env: BTreeMap::new(),
        ports: Vec::new(),
        limits: Limits { cpu_millis: 1000, memory: 1 << 30, disk: 1 << 30, pids: 64 },
        not_supported_yet: Vec::new(),
    };
    let first = Template {
        id: template,
        workspace,
        name: "t".parse().unwrap(),
        created_by,
        current_release: None,
        archived_at: None,
        created_at,
        revision: 1,
    };
    let mut change = ChangeSet::new(Family::Workspace(workspace));
    change.guards = vec![Guard::Absent(Key::Template(template)), Guard::Absent(Key::Version(version))];
    change.puts = vec![
        Put::Template(first.clone()),
        Put::Version(Version {
            id: version,
            workspace,
            template,
            label: "1".parse().unwrap(),
            state: VersionState::Ready,
            bundle: None,
            spec: Some(spec),
            build: None,
            layer: None,
            created_by,
            created_at,
            revision: 1,
        }),
    ];
    store.commit(&change).await.unwrap();
    let mut change = ChangeSet::new(Family::Workspace(workspace));
    change.guards = vec![Guard::Absent(Key::Release(release)), Guard::Revision(Key::Template(template), 1)];
    change.puts = vec![
        Put::Release(Release {
            id: release,
            workspace,
            template,
            version,
            number: 1,
            cause: ReleaseCause::Promote,
            previous: None,
            created_by,
            created_at,
        }),
        Put::Template(Template { current_release: Some(release), revision: 2, ..first }),
    ];
    store.commit(&change).await.unwrap();
    template
}
