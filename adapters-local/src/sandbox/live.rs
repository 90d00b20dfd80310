//! Machines that run: held, watched for their end, with their way out.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use burstflare_ports::machine::Epoch;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::cgroup;
use super::process::Process;
use super::record::{Folder, Life};
use super::runtime::Inner;
use super::spawn::Ended;
use crate::machine::link::Line;
use crate::machine::{egress, turns};

/// What this server holds of one machine, for as long as it knows it.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// Operations on a machine take turns.
    pub turn: Arc<tokio::sync::Mutex<()>>,
    live: Mutex<Option<Live>>,
    /// How the last life ended, until somebody asks.
    last_end: Mutex<Option<(Epoch, End)>>,
    /// What carries calls to its agent.
    pub line: Arc<Line>,
}

/// A life that goes on.
#[derive(Debug, Clone)]
pub(super) struct Live {
    pub life: Life,
    pub process: Arc<Process>,
    ended: watch::Receiver<Option<End>>,
}

/// How a life ended: a status where the process was this server's own child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End(pub Option<Ended>);

impl Live {
    /// Its epoch.
    pub(super) fn epoch(&self) -> Epoch {
        self.life.epoch
    }

    /// Waits until it has ended and everything of it is cleared away.
    pub(super) async fn ended(&self) -> End {
        let mut ended = self.ended.clone();
        // The sender goes only with the runtime itself.
        ended.wait_for(Option::is_some).await.ok().and_then(|end| *end).unwrap_or(End(None))
    }

    /// The same, but not longer than this.
    pub(super) async fn ended_within(&self, patience: Duration) -> Option<End> {
        tokio::time::timeout(patience, self.ended()).await.ok()
    }
}

impl Slot {
    /// The life that goes on.
    pub(super) fn live(&self) -> Option<Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How the life of this epoch ended, where nobody asked before.
    pub(super) fn take_end(&self, epoch: Epoch) -> Option<End> {
        let mut last = self.last_end.lock().unwrap_or_else(PoisonError::into_inner);
        last.take_if(|(of, _)| *of == epoch).map(|(_, end)| end)
    }

    fn set(&self, live: Option<Live>) {
        *self.live.lock().unwrap_or_else(PoisonError::into_inner) = live;
    }
}

/// Ends a task with its owner.
#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Holds a machine that runs, just started or found: serves its way out, watches its limits, and clears up after it.
pub(super) fn hold(
    inner: &Inner,
    slot: &Arc<Slot>,
    folder: Folder,
    life: Life,
    process: Process,
    proxy: Option<std::os::unix::net::UnixListener>,
) {
    let (tell, ended) = watch::channel(None);
    let process = Arc::new(process);
    slot.set(Some(Live { life: life.clone(), process: Arc::clone(&process), ended }));
    let proxy = proxy.and_then(|listener| match tokio::net::UnixListener::from_std(listener) {
        Ok(listener) => Some(Task(tokio::spawn(egress::serve(listener, Arc::clone(&inner.egress))))),
        Err(error) => {
            tracing::error!(machine = %folder.key.owner, %error, "the machine has no way out");
            None
        }
    });
    let watcher = Task(tokio::spawn(super::watch::watch(
        inner.notices.clone(),
        slot.line.connections.visits.subscribe(),
        inner.groups.bounds_memory(),
        folder.clone(),
        life.clone(),
        process.pid(),
    )));
    let slot = Arc::clone(slot);
    let mut open = inner.open.subscribe();
    tokio::spawn(async move {
        let unheard = async {
            tokio::time::sleep(turns::PATIENCE).await;
            slot.line.turn_of_start.pass_on();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = process.ended() => {}
            () = unheard => {}
            // The runtime goes, the machine stays: it is the next one's to clear up.
            _ = open.changed() => return,
        }
        slot.line.turn_of_start.pass_on();
        let how = process.reap();
        drop((proxy, watcher));
        cgroup::remove(&life.groups);
        // Who connects now should hear that nobody listens.
        let _ = std::fs::remove_file(folder.path.join("agent.sock"));
        slot.line.connections.clear();
        *slot.last_end.lock().unwrap_or_else(PoisonError::into_inner) = Some((life.epoch, End(how)));
        slot.set(None);
        tracing::debug!(machine = %folder.key.owner, epoch = life.epoch, ?how, "machine ended");
        tell.send_replace(Some(End(how)));
    });
}
