//! Ports as events: one open call to the agent of each running session, and an event for each port that opens or closes.
//!
//! It costs a connection and a sleeping task for each machine, and nothing while no port changes: 200 machines are 200
//! sockets. The agent's lines are states, not changes, so what is missed is made good by the next line; after a restart of
//! the server every port that is open is told once more.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use burstflare_ports::error::{ErrorKind, PortResult};
use burstflare_ports::id::Id;
use burstflare_ports::machine::{AgentTarget, Epoch};
use burstflare_ports::record::{Event, Session, SessionState};
use burstflare_ports::store::{ChangeSet, Family};
use burstflare_ports::stream::ByteStream;
use burstflare_ports::wire::port::OpenPorts;
use bytes::BytesMut;
use futures_util::StreamExt;
use serde_json::json;

use super::{ATTEMPTS, ControlPlane};

/// Sessions watched at once by one process; those beyond have no events of ports.
const WATCHES: usize = 2_000;
/// Bytes of one line.
const LINE: usize = 64 << 10;
/// Between two lines that are acted upon: what opens and closes meanwhile is not told.
const PACE: Duration = Duration::from_millis(200);
/// Events of one line; more are told with the next ones, so that a machine that opens and closes ports in a loop
/// does not fill the journal: at most a hundred events in ten seconds.
const BURST: usize = 20;
/// After a line with events, for each of them.
const REST: Duration = Duration::from_millis(100);
/// Between two tries to reach an agent: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Which lives are watched by this process.
#[derive(Debug, Default)]
pub(super) struct Watches(Mutex<HashMap<Id<Session>, Epoch>>);

impl Watches {
    fn lives(&self) -> MutexGuard<'_, HashMap<Id<Session>, Epoch>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this life is new here; it counts as watched from now on.
    fn begin(&self, session: Id<Session>, epoch: Epoch) -> bool {
        let mut lives = self.lives();
        let room = lives.len() < WATCHES || lives.contains_key(&session);
        room && lives.insert(session, epoch) != Some(epoch)
    }

    /// Forgets the life, unless a later one has begun.
    fn end(&self, session: Id<Session>, epoch: Epoch) {
        let mut lives = self.lives();
        if lives.get(&session) == Some(&epoch) {
            lives.remove(&session);
        }
    }
}

/// Ports that were told to be open, with the name of the process.
type Told = BTreeMap<u16, Option<String>>;

impl ControlPlane {
    /// Sees to it that the ports of a running session are watched. Calling again changes nothing.
    pub(super) fn watch_ports(&self, session: &Session) {
        let watches = &self.inner.port_watches;
        if session.state != SessionState::Running || !watches.begin(session.id, session.epoch) {
            return;
        }
        let (plane, session) = (self.clone(), session.clone());
        let (id, epoch) = (session.id, session.epoch);
        let task = Box::pin(async move {
            plane.follow_ports(&session).await;
            plane.inner.port_watches.end(session.id, session.epoch);
        });
        if let Err(error) = self.ports().background.follow(task) {
            tracing::debug!(%error, session = %id, "ports are not watched");
            watches.end(id, epoch);
        }
    }

    /// For as long as this life lasts.
    async fn follow_ports(&self, session: &Session) {
        let Ok(target) = self.target(session) else { return };
        let mut told = Told::new();
        let mut pause = RETRY.0;
        loop {
            match self.follow_once(session, &target, &mut told, &mut pause).await {
                // Started by an older version: it cannot tell.
                Err(error) if error.kind() == ErrorKind::Unsupported => return,
                outcome => tracing::debug!(session = %session.id, ?outcome, "the stream of ports ended"),
            }
            // Perhaps the machine ended: the actor finds out, and does not need to wait for its next look.
            let _ = self.ports().actors.wake(session.workspace, session.id).await;
            self.ports().clock.sleep(pause).await;
            pause = (pause * 2).min(RETRY.1);
            let fresh = self.store().session(session.workspace, session.id).await;
            let lives =
                |fresh: &Session| fresh.epoch == session.epoch && fresh.state == SessionState::Running;
            let Ok(fresh) = fresh else { continue };
            if !fresh.as_ref().is_some_and(lives) {
                if fresh.is_some() {
                    self.tell(session, &mut told, &OpenPorts::default()).await;
                }
                return;
            }
        }
    }

    async fn follow_once(
        &self,
        session: &Session,
        target: &AgentTarget,
        told: &mut Told,
        pause: &mut Duration,
    ) -> PortResult<()> {
        let mut lines = Lines { flow: self.agent_watch_ports(target).await?, rest: BytesMut::new() };
        while let Some(open) = lines.next().await? {
            *pause = RETRY.0;
            self.tell(session, told, &open).await;
        }
        Ok(())
    }

    /// Commits events until everything is told. A commit that fails is tried a few times; the next line tells the rest.
    async fn tell(&self, session: &Session, told: &mut Told, open: &OpenPorts) {
        let mut failures = 0;
        while let Some((now_told, events)) = changes(session, told, open, self.now()) {
            let rest = REST * u32::try_from(events.len()).unwrap_or(u32::MAX);
            let mut change = ChangeSet::new(Family::Workspace(session.workspace));
            change.events = events;
            match self.commit(change).await {
                Ok(()) => *told = now_told,
                Err(error) => {
                    tracing::debug!(%error, "an event of a port is told later");
                    failures += 1;
                }
            }
            self.ports().clock.sleep(PACE.max(rest)).await;
            if failures == ATTEMPTS {
                return;
            }
        }
    }
}

/// What is to be told, and what is told then; `None` when there is nothing.
fn changes(
    session: &Session,
    told: &Told,
    open: &OpenPorts,
    at: burstflare_ports::time::Timestamp,
) -> Option<(Told, Vec<Event>)> {
    let mut next = told.clone();
    let mut events = Vec::new();
    let event = |kind: &str, port: u16, process: &Option<String>| Event {
        kind: kind.to_owned(),
        subject: session.id.to_string(),
        data: json!({ "name": session.name, "port": port, "process": process, "epoch": session.epoch }),
        at,
    };
    for (port, process) in told {
        if !open.ports.iter().any(|open| open.port == *port) && events.len() < BURST {
            next.remove(port);
            events.push(event("port.closed", *port, process));
        }
    }
    for found in &open.ports {
        if !told.contains_key(&found.port) && events.len() < BURST {
            next.insert(found.port, found.process.clone());
            events.push(event("port.opened", found.port, &found.process));
        }
    }
    (!events.is_empty()).then_some((next, events))
}

/// The lines of a stream.
struct Lines {
    flow: ByteStream,
    rest: BytesMut,
}

impl Lines {
    async fn next(&mut self) -> PortResult<Option<OpenPorts>> {
        use burstflare_ports::error::PortError;
        let corrupt = |what| PortError::new(ErrorKind::Corrupt, "agent.ports", what);
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line = self.rest.split_to(end + 1);
                return serde_json::from_slice(&line).map(Some).map_err(|_| corrupt("a line that is none"));
            }
            if self.rest.len() > LINE {
                return Err(corrupt("a line without an end"));
            }
            match self.flow.next().await {
                Some(chunk) => self.rest.extend_from_slice(&chunk?),
                None => return Ok(None),
            }
        }
    }
}
