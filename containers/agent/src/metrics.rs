//! `GET /v1/metrics`: what the machine uses, read when somebody asks.

mod disk;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use burstflare_ports::wire::{Metrics, MetricsSource};

use self::disk::Disk;
use crate::activity::{self, users};
use crate::agent::Agent;
use crate::reply::{self, Refused, Reply};

/// The processor is measured over at least this time; asked for the first time, the call takes so long.
const SHORTEST: Duration = Duration::from_millis(100);
/// An older look says nothing about now.
const LONGEST: Duration = Duration::from_secs(30);
/// The control group of a machine that has one of its own.
const CGROUP: &str = "/sys/fs/cgroup";

/// What is remembered between calls.
#[derive(Default)]
pub(crate) struct Meters {
    processor: Mutex<Option<(Instant, u64)>>,
    disk: Arc<Disk>,
}

/// Measures.
pub(crate) async fn tell(agent: &Arc<Agent>) -> Result<Reply, Refused> {
    let mut activity = activity::judge(agent).await?;
    let group = Group::read();
    let used = |activity: &burstflare_ports::wire::Activity| {
        Group::read().map_or(activity.cpu_ms, |group| group.cpu_ms)
    };
    let mut cpu_ms = used(&activity);
    let earlier = *agent.meters.processor.lock().unwrap_or_else(PoisonError::into_inner);
    let (since, before) = match earlier {
        Some((at, before)) if (SHORTEST..LONGEST).contains(&at.elapsed()) => (at, before),
        _ => {
            let begin = (Instant::now(), cpu_ms);
            tokio::time::sleep(SHORTEST).await;
            activity = activity::judge(agent).await?;
            cpu_ms = used(&activity);
            begin
        }
    };
    let millis = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
    let cpu_millicores = cpu_ms.saturating_sub(before).saturating_mul(1000) / millis;
    *agent.meters.processor.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), cpu_ms));
    let (disk, roots) = (Arc::clone(&agent.meters.disk), agent.roots.clone());
    let looking = tokio::task::spawn_blocking(move || (disk.look(&roots), processes()));
    let ((disk, disk_complete), (processes, resident)) =
        looking.await.map_err(|error| Refused::internal(error.to_string()))?;
    reply::json(&Metrics {
        source: if group.is_some() { MetricsSource::Cgroup } else { MetricsSource::Processes },
        cpu_ms,
        cpu_millicores,
        memory: group.map_or(resident, |group| group.memory),
        disk,
        disk_complete,
        processes,
        uptime_ms: agent.uptime_ms(),
        activity,
    })
}

/// What a control group of version 2 says of itself.
struct Group {
    cpu_ms: u64,
    memory: u64,
}

impl Group {
    /// `None` where it is not visible, or not this machine's alone.
    fn read() -> Option<Self> {
        if rustix::process::getpid().as_raw_nonzero().get() != 1 {
            return None;
        }
        let text = |name: &str| std::fs::read_to_string(Path::new(CGROUP).join(name)).ok();
        let memory = text("memory.current")?.trim().parse().ok()?;
        let usage = text("cpu.stat")?;
        let micros =
            usage.lines().find_map(|line| line.strip_prefix("usage_usec "))?.trim().parse::<u64>().ok()?;
        Some(Self { cpu_ms: micros / 1000, memory })
    }
}

/// How many processes the user has, and the memory that is theirs alone.
fn processes() -> (u64, u64) {
    let page = rustix::param::page_size() as u64;
    let mut found = (0, 0);
    for pid in users() {
        // Resident and shared pages are the second and third number (proc(5)); what is shared is the programs' text.
        let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/statm")) else { continue };
        let mut numbers = text.split_whitespace().skip(1).map_while(|number| number.parse::<u64>().ok());
        let (resident, shared) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        found.0 += 1;
        found.1 += resident.saturating_sub(shared) * page;
    }
    found
}
