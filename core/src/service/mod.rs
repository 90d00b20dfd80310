//! Use cases: read through ports, decide in `domain`, commit once.

mod account;
mod agent;
mod agent_snapshot;
mod attach;
mod audit;
mod boot;
mod bootstrap;
mod build;
mod build_log;
mod build_run;
mod build_step;
mod cached;
mod caller;
mod event;
mod files;
mod idle;
mod leftover;
mod outbox;
mod paging;
mod port;
mod port_watch;
mod preview;
mod read_ahead;
mod reconcile;
mod release;
mod seat;
mod secret;
mod session;
mod session_actor;
mod session_fork;
mod snapshot;
mod snapshot_auto;
mod snapshot_diff;
mod snapshot_end;
mod snapshot_pack;
mod snapshot_restore;
mod snapshot_sweep;
mod snapshot_take;
mod stay;
mod template;
mod terminal;
mod token;
mod version;
mod wait;
mod workspace;

use std::sync::Arc;

use burstflare_ports::actor::Actors;
use burstflare_ports::blob::Blobs;
use burstflare_ports::cache::Cache;
use burstflare_ports::clock::{Background, Clock, Entropy};
use burstflare_ports::error::{ErrorKind, PortError};
use burstflare_ports::feed::Feed;
use burstflare_ports::id::{Id, Kind as IdKind};
use burstflare_ports::limit::RateLimiter;
use burstflare_ports::machine::{AgentLink, MachineRuntime};
use burstflare_ports::mail::Mailer;
use burstflare_ports::queue::Queue;
use burstflare_ports::record::{Failure, Workspace};
use burstflare_ports::secret::Secret;
use burstflare_ports::store::{ChangeSet, CommitError, Family, Store};
use burstflare_ports::time::Timestamp;
use burstflare_ports::workflow::Workflows;

use crate::domain::id_order::IdOrder;
use crate::domain::seal::Sealer;
use crate::error::{Error, Kind, Result};

pub use account::{Recover, Register, Registered, SignedIn, Tokens};
pub use agent::agent_refusal;
pub use attach::{Attach, Attachment, Redeemed};
pub use bootstrap::bootstrap_code;
pub use build_log::LogPart;
pub use caller::Caller;
pub use event::EventPage;
pub use files::{FILE_LIMIT, FileAnswer, ReadFile, SearchFiles, WriteFile};
pub use idle::Idle;
pub use paging::{List, PageQuery};
pub use port::{PortView, SetPort};
pub use preview::{COOKIE_LIFE, Credential, Ground, PreviewPlace, Visit};
pub use reconcile::{Report, StuckItem};
pub use session::{NewSession, SessionChange, SessionView};
pub use session_fork::Fork;
pub use snapshot_diff::{Diff, DiffQuery};
pub use stay::{End, Stay};
pub use template::TemplateView;
pub use terminal::terminal_refusal;
pub use token::NewToken;

/// Everything the use cases reach the world through.
#[derive(Clone)]
pub struct Ports {
    /// Records.
    pub store: Arc<dyn Store>,
    /// Bundles, layers, logs, snapshots.
    pub blobs: Arc<dyn Blobs>,
    /// Jobs.
    pub queue: Arc<dyn Queue>,
    /// Builds, step by step.
    pub workflows: Arc<dyn Workflows>,
    /// One writer per session.
    pub actors: Arc<dyn Actors>,
    /// Machines.
    pub runtime: Arc<dyn MachineRuntime>,
    /// Calls to agents.
    pub agents: Arc<dyn AgentLink>,
    /// Live hints.
    pub feed: Arc<dyn Feed>,
    /// What may be forgotten.
    pub cache: Arc<dyn Cache>,
    /// Rate limits.
    pub limiter: Arc<dyn RateLimiter>,
    /// Mail.
    pub mailer: Arc<dyn Mailer>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub entropy: Arc<dyn Entropy>,
    /// Work beside requests.
    pub background: Arc<dyn Background>,
}

/// Who may make an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registration {
    /// Everybody who reaches the server; for `dev` on loopback.
    Open,
    /// Who has an invite, or the first operator's code.
    Invite,
    /// Nobody.
    Closed,
}

impl Registration {
    /// `open`, `invite` or `closed`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Invite => "invite",
            Self::Closed => "closed",
        }
    }
}

/// How a deployment is set up.
#[derive(Clone)]
pub struct Config {
    /// Who may make an account.
    pub registration: Registration,
    /// Seals secrets at rest.
    pub master_key: Secret<[u8; 32]>,
    /// Master keys of before, the newest first: what they sealed is opened, and data keys are sealed anew.
    pub earlier_master_keys: Vec<Secret<[u8; 32]>>,
    /// Plan of new workspaces.
    pub plan: String,
}

/// The control plane: give it ports, call its use cases. Cheap to clone.
#[derive(Clone)]
pub struct ControlPlane {
    inner: Arc<Inner>,
}

struct Inner {
    ports: Ports,
    config: Config,
    sealer: Sealer,
    ids: IdOrder,
    seats: Arc<seat::Seats>,
    idle: idle::IdleMemory,
    port_watches: port_watch::Watches,
    waits: Arc<wait::Waits>,
    lazy: Arc<outbox::Lazy>,
}

/// How often a decision is taken again after somebody else's commit.
const ATTEMPTS: usize = 5;

impl ControlPlane {
    /// Wires the use cases to ports.
    #[must_use]
    pub fn new(ports: Ports, config: Config) -> Self {
        let sealer = Sealer::new(config.master_key.clone()).after(config.earlier_master_keys.clone());
        Self {
            inner: Arc::new(Inner {
                ports,
                config,
                sealer,
                ids: IdOrder::default(),
                seats: Arc::default(),
                idle: idle::IdleMemory::default(),
                port_watches: port_watch::Watches::default(),
                waits: Arc::default(),
                lazy: Arc::default(),
            }),
        }
    }

    /// How the deployment is set up.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// The ports it was given: for the apps that wire, and for probes.
    #[must_use]
    pub fn ports(&self) -> &Ports {
        &self.inner.ports
    }

    fn store(&self) -> &dyn Store {
        self.inner.ports.store.as_ref()
    }

    fn sealer(&self) -> &Sealer {
        &self.inner.sealer
    }

    fn seats(&self) -> &Arc<seat::Seats> {
        &self.inner.seats
    }

    fn now(&self) -> Timestamp {
        self.inner.ports.clock.now()
    }

    fn random<const N: usize>(&self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.inner.ports.entropy.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn new_id<K: IdKind>(&self, at: Timestamp) -> Result<Id<K>> {
        Ok(self.inner.ids.next(at, self.random()?))
    }

    fn seal(&self, workspace: Id<Workspace>, place: &str, plain: &[u8]) -> Result<String> {
        self.sealer().seal(workspace, place, plain, self.random()?).map_err(|error| fault("seal", error))
    }

    fn unseal(&self, workspace: Id<Workspace>, place: &str, sealed: &str) -> Result<Secret<Vec<u8>>> {
        self.sealer().open(workspace, place, sealed).map_err(|error| fault("unseal", error))
    }

    /// The one way to write. Afterwards whoever lost the right to be in a machine is cut off, listeners are hinted and the outbox is looked at, beside the request.
    async fn commit(&self, change: ChangeSet) -> std::result::Result<(), CommitError> {
        let under_way = self.seats().under_way(&change);
        let committed = self.store().commit(&change).await;
        under_way.ended(committed.is_ok());
        committed?;
        self.inner.waits.after(&change);
        if let Family::Workspace(workspace) = change.family {
            if !change.events.is_empty()
                && let Err(error) = self.inner.ports.feed.publish(workspace).await
            {
                tracing::warn!(%error, "live hint lost");
            }
            self.deliver_soon(workspace, &change.outbox).await;
        }
        Ok(())
    }

    /// Commits what `decide` makes of the present state, and lets it decide again when somebody was faster, a bounded
    /// number of times. `decide` answers `None` when there is nothing to change.
    async fn commit_decided<T, F, Fut>(&self, mut decide: F) -> Result<T>
    where
        F: FnMut() -> Fut + Send,
        Fut: Future<Output = Result<(Option<ChangeSet>, T)>> + Send,
        T: Send,
    {
        for attempt in 1..=ATTEMPTS {
            let (change, answer) = decide().await?;
            let Some(change) = change else { return Ok(answer) };
            match self.commit(change).await {
                Ok(()) => return Ok(answer),
                Err(CommitError::Refused(guard)) if attempt < ATTEMPTS && is_race(&guard) => {}
                Err(error) => return Err(refusal(error)),
            }
        }
        Err(Error::conflict(
            "changed_meanwhile",
            "Others changed it again and again at the same time.",
            "Try again in a moment.",
        ))
    }
}

const fn is_race(guard: &burstflare_ports::store::Guard) -> bool {
    use burstflare_ports::store::{Guard, Key, Unique};
    matches!(guard, Guard::Revision(..) | Guard::Absent(Key::SecretKey) | Guard::Free(Unique::SecretName(_)))
}

/// What a failed guard means to the caller, where no use case says it better.
fn refusal(error: CommitError) -> Error {
    use burstflare_ports::store::{Counter, Guard, Unique};
    let CommitError::Refused(guard) = error else { return error.into() };
    match guard {
        Guard::Below { counter, limit, .. } => {
            let (what, hint) = match counter {
                Counter::Templates => ("templates", "Ask for a larger plan."),
                Counter::Versions(_) => ("versions of one template", "Ask for a larger plan."),
                Counter::Sessions => ("sessions", "Delete one with `flare session delete`."),
                Counter::Running => ("running sessions", "Stop one with `flare session stop`."),
                Counter::Builds => ("builds at once", "Wait for one to end."),
                Counter::Snapshots(_) => {
                    ("snapshots of one session", "Delete one with `flare snapshot delete`.")
                }
            };
            Error::new(
                Kind::Limited,
                "quota_exceeded",
                format!("The workspace's plan allows {limit} {what}."),
                hint,
            )
        }
        Guard::Free(unique) => {
            let (code, what) = match unique {
                Unique::Email(_) | Unique::FirstUser => {
                    ("email_taken", "That address has an account already.")
                }
                Unique::WorkspaceName(_)
                | Unique::TemplateName(_)
                | Unique::SessionName(_)
                | Unique::SecretName(_) => ("name_taken", "That name is taken."),
                Unique::VersionLabel(..) => ("label_taken", "The template has a version with that label."),
                Unique::PendingSnapshot(_) => {
                    return Error::conflict(
                        "snapshot_pending",
                        "A snapshot of that session is being taken.",
                        "Wait for it to end: `flare snapshot list`.",
                    );
                }
            };
            Error::conflict(code, what, "Choose another one.")
        }
        Guard::Unspent(..) => Error::new(
            Kind::Unauthenticated,
            "code_spent",
            "That code was used already or has expired.",
            "Ask for a new one.",
        ),
        guard => CommitError::Refused(guard).into(),
    }
}

/// A fault of ours, for the log.
fn fault(operation: &'static str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    PortError::new(ErrorKind::Internal, operation, error.to_string()).with_source(error).into()
}

/// A use case's refusal where a port's error is wanted.
pub(super) fn into_port(error: Error) -> PortError {
    if let Some(source) = error.source {
        return *source;
    }
    let kind = match error.kind {
        Kind::Unavailable => ErrorKind::Unavailable,
        Kind::Timeout => ErrorKind::Timeout,
        Kind::Full => ErrorKind::Full,
        Kind::NotFound => ErrorKind::NotFound,
        Kind::Conflict => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    };
    PortError::new(kind, error.code, error.message)
}

/// Why something failed, for a record.
fn failure(code: &str, message: &str, hint: &str) -> Failure {
    Failure { code: code.to_owned(), message: message.to_owned(), hint: hint.to_owned() }
}
