//! Flushing, and the orderly end: TERM, wait, KILL, flush.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use burstflare_ports::wire::{Quiesce, Shutdown};
use http::header::{CONNECTION, HeaderValue};
use hyper::body::Incoming;
use rustix::process::{Pid, Signal, getpid, kill_process};
use tokio::time::Instant;

use crate::agent::Agent;
use crate::reaper::Children;
use crate::reply::{Refused, Reply, done};
use crate::{activity, body};

const BODY_LIMIT: usize = 4096;
const LONGEST_GRACE: Duration = Duration::from_secs(60);
/// After KILL: only the kernel can keep a process now.
const KILL_GRACE: Duration = Duration::from_secs(5);
/// For the answer to reach its caller.
const FAREWELL: Duration = Duration::from_secs(2);

/// `POST /v1/quiesce`: ends the user's processes and flushes, so that nothing changes any more. No new ones are
/// started from then on; we stay, for the tree to be captured.
pub(crate) async fn quiesce(agent: &Arc<Agent>, body: Incoming) -> Result<Reply, Refused> {
    let body = body::whole(body, BODY_LIMIT).await?;
    let request: Quiesce =
        serde_json::from_slice(&body).map_err(|error| Refused::invalid(error.to_string()))?;
    if let Some(mark) = request.if_idle_since {
        // Work and marked jobs are found by looking; what is typed or asked for is counted up to the last moment.
        activity::judge(agent).await?;
        if !agent.children.close_if(|| agent.activity.is_idle_since(mark)) {
            return Err(Refused::busy("Something happened in the machine meanwhile: it stays awake."));
        }
    }
    let grace = Duration::from_millis(request.grace_ms).min(LONGEST_GRACE);
    let ending = Arc::clone(agent);
    let end = tokio::spawn(async move { end_all(&ending, grace).await });
    end.await.map_err(|error| Refused::internal(error.to_string()))?;
    // Once more, and this time what goes wrong is the caller's to know.
    flush(agent).await?;
    Ok(done())
}

async fn grace(body: Incoming) -> Result<Duration, Refused> {
    let body = body::whole(body, BODY_LIMIT).await?;
    let request: Shutdown =
        serde_json::from_slice(&body).map_err(|error| Refused::invalid(error.to_string()))?;
    Ok(Duration::from_millis(request.grace_ms).min(LONGEST_GRACE))
}

/// `POST /v1/shutdown`: ends everything in the machine, then us.
pub(crate) async fn shutdown(agent: &Arc<Agent>, body: Incoming) -> Result<Reply, Refused> {
    let grace = grace(body).await?;
    let ending = Arc::clone(agent);
    // A task of its own: once begun, the end comes whether or not the caller waits for it.
    let end = tokio::spawn(async move {
        end_all(&ending, grace).await;
        ending.ended.store(true, Ordering::Relaxed);
        tokio::spawn(async move {
            tokio::time::sleep(FAREWELL).await;
            ending.finished.notify_one();
        });
    });
    end.await.map_err(|error| Refused::internal(error.to_string()))?;
    let mut reply = done();
    // The connection's end tells us that the answer is out.
    reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(reply)
}

/// Ends every process but us and flushes.
pub(crate) async fn end_all(agent: &Arc<Agent>, grace: Duration) {
    agent.children.close();
    // Shells at a terminal ignore TERM and obey the loss of their terminal.
    for pid in agent.children.alive() {
        let _ = kill_process(pid, Signal::HUP);
    }
    signal_all(Signal::TERM);
    // Who is stopped cannot obey.
    signal_all(Signal::CONT);
    if !all_gone(agent, grace).await {
        signal_all(Signal::KILL);
        if !all_gone(agent, KILL_GRACE).await {
            tracing::warn!("a process survived KILL");
        }
    }
    if let Err(problem) = flush(agent).await {
        tracing::error!(%problem, "the roots could not be flushed");
    }
}

async fn all_gone(agent: &Arc<Agent>, grace: Duration) -> bool {
    let deadline = Instant::now() + grace;
    loop {
        let buried = agent.children.buried.notified();
        tokio::pin!(buried);
        // Listening begins here, not at the await: a burial in between is not missed.
        buried.as_mut().enable();
        agent.children.bury();
        if Children::none_left() {
            return true;
        }
        if tokio::time::timeout_at(deadline, buried).await.is_err() {
            return false;
        }
    }
}

/// As process 1 everyone in the namespace; elsewhere everyone who descends from us.
fn signal_all(signal: Signal) {
    if getpid().as_raw_nonzero().get() == 1 {
        // SAFETY: signals every process we may signal except ourselves, which in a pid namespace of our own is
        // every process of the machine.
        unsafe {
            libc::kill(-1, signal.as_raw());
        }
        return;
    }
    for pid in descendants() {
        let _ = kill_process(pid, signal);
    }
}

/// The processes that descend from us.
pub(crate) fn descendants() -> Vec<Pid> {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        if let Some(parent) = parent_of(&entry.path()) {
            parents.push((pid, parent));
        }
    }
    let mut family = vec![getpid().as_raw_nonzero().get()];
    let mut at = 0;
    while let Some(parent) = family.get(at).copied() {
        family.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    family.into_iter().skip(1).filter_map(Pid::from_raw).collect()
}

fn parent_of(process: &Path) -> Option<i32> {
    let stat = std::fs::read_to_string(process.join("stat")).ok()?;
    // The name, in parentheses, may hold anything; the state and the parent follow its last parenthesis.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

async fn flush(agent: &Arc<Agent>) -> io::Result<()> {
    let roots = agent.roots.clone();
    let flushing = tokio::task::spawn_blocking(move || {
        for root in roots {
            rustix::fs::syncfs(File::open(root)?)?;
        }
        Ok(())
    });
    flushing.await.map_err(io::Error::other)?
}
