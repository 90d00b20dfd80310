//! When the user was last active: the one judge of whether the machine may sleep.
//!
//! Activity is what somebody types or sends ([`Activity::note`]), what is being served ([`Activity::hold`]), marked
//! jobs ([`jobs`]) and processor time of the user's processes ([`processor`]). It is written down with an atomic word
//! and judged when somebody asks, so a machine in which nothing happens wakes for nothing. The one timer looks at the
//! processor once a minute, and only while processes of the user live.
//!
//! Time is monotonic and stands still while the host is suspended: neither a clock that jumps nor a closed lid ages
//! anything.

mod jobs;
mod processor;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use burstflare_ports::wire;
pub(crate) use burstflare_ports::wire::Reason;

use self::jobs::Jobs;
use self::processor::Processor;
pub(crate) use self::processor::users;
use crate::agent::Agent;
use crate::reaper::Children;
use crate::reply::{self, Refused, Reply};

/// Between two looks at the processor while the user's processes live.
const SAMPLE: Duration = Duration::from_secs(60);
/// In the order of their numbers in [`Activity::last`]; the first is what the machine begins with.
const REASONS: [Reason; 8] = [
    Reason::Start,
    Reason::TerminalInput,
    Reason::SshInput,
    Reason::Preview,
    Reason::Exec,
    Reason::Files,
    Reason::Job,
    Reason::Cpu,
];

/// What is known of the user's activity.
pub(crate) struct Activity {
    born: Instant,
    /// The last activity: milliseconds since `born`, then eight bits of its reason. Only ever grows.
    last: AtomicU64,
    held: [AtomicU32; REASONS.len()],
    looks: Mutex<Looks>,
}

struct Looks {
    processor: Processor,
    jobs: Jobs,
}

impl Activity {
    /// From now on. `run` is [`wire::Boot::run`].
    pub(crate) fn new(run: &Path) -> Self {
        Self {
            born: Instant::now(),
            last: AtomicU64::new(0),
            held: Default::default(),
            looks: Mutex::new(Looks { processor: Processor::default(), jobs: Jobs::new(awake(run)) }),
        }
    }

    /// The user was active just now. Cheap enough for every keystroke and packet: one atomic write.
    pub(crate) fn note(&self, reason: Reason) {
        self.last.fetch_max(self.now() << 8 | number(reason) as u64, Ordering::Relaxed);
    }

    /// Something is being done for the user: active now, until the guard goes, and at that moment.
    pub(crate) fn hold(self: &Arc<Self>, reason: Reason) -> Hold {
        self.note(reason);
        if let Some(count) = self.held.get(number(reason)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        Hold { activity: Arc::clone(self), reason }
    }

    /// The judgement, after a look at processes and jobs; blocks for as long as reading `/proc` takes.
    pub(crate) fn judge(&self) -> wire::Activity {
        let (jobs, cpu) = {
            let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
            if looks.processor.is_active() {
                self.note(Reason::Cpu);
            }
            (looks.jobs.running(), looks.processor.used())
        };
        let mut busy: Vec<wire::Busy> = REASONS
            .iter()
            .zip(&self.held)
            .map(|(reason, count)| wire::Busy { reason: *reason, count: count.load(Ordering::Relaxed) })
            .collect();
        busy.push(wire::Busy { reason: Reason::Job, count: jobs });
        busy.retain(|busy| busy.count > 0);
        if let Some(first) = busy.first() {
            self.note(first.reason);
        }
        let mark = self.last.load(Ordering::Relaxed);
        wire::Activity {
            last_active_ms_ago: self.now().saturating_sub(mark >> 8),
            reason: usize::try_from(mark & 0xff)
                .ok()
                .and_then(|number| REASONS.get(number))
                .copied()
                .unwrap_or(Reason::Other),
            busy,
            cpu_ms: u64::try_from(cpu.as_millis()).unwrap_or(u64::MAX),
            mark,
            ending: false,
        }
    }

    /// Whether nothing has happened since that mark; to be asked after [`Self::judge`].
    pub(crate) fn is_idle_since(&self, mark: u64) -> bool {
        self.last.load(Ordering::Relaxed) <= mark
            && self.held.iter().all(|count| count.load(Ordering::Relaxed) == 0)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX >> 8)
    }
}

/// Something that is being done for the user; see [`Activity::hold`].
pub(crate) struct Hold {
    activity: Arc<Activity>,
    reason: Reason,
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(count) = self.activity.held.get(number(self.reason)) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
        self.activity.note(self.reason);
    }
}

fn number(reason: Reason) -> usize {
    REASONS.iter().position(|known| *known == reason).unwrap_or(0)
}

/// Where marked jobs hold their locks.
fn awake(run: &Path) -> PathBuf {
    run.join("awake")
}

/// `GET /v1/activity`.
pub(crate) async fn tell(agent: &Arc<Agent>) -> Result<Reply, Refused> {
    reply::json(&judge(agent).await?)
}

/// The judgement, made on a thread that may block.
pub(crate) async fn judge(agent: &Arc<Agent>) -> Result<wire::Activity, Refused> {
    let activity = Arc::clone(&agent.activity);
    let judging = tokio::task::spawn_blocking(move || activity.judge());
    let judged = judging.await.map_err(|error| Refused::internal(error.to_string()))?;
    Ok(wire::Activity { ending: agent.children.is_closed(), ..judged })
}

/// Looks at the processor once a minute while processes of the user live, so that a burst of work counts although
/// nobody asks at that moment. Without processes it waits, without a timer, for one to be started.
pub(crate) async fn attend(agent: Arc<Agent>) {
    loop {
        agent.children.started.notified().await;
        while !Children::none_left() {
            tokio::time::sleep(SAMPLE).await;
            if judge(&agent).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> Arc<Activity> {
        Arc::new(Activity::new(Path::new("/nowhere")))
    }

    fn wait_for_the_next_millisecond(activity: &Activity) {
        let now = activity.now();
        while activity.now() == now {
            std::thread::yield_now();
        }
    }

    #[test]
    fn the_newest_activity_is_told() {
        let activity = fresh();
        assert_eq!(activity.judge().reason, Reason::Start);
        for reason in REASONS {
            wait_for_the_next_millisecond(&activity);
            activity.note(reason);
            assert_eq!(activity.judge().reason, reason);
        }
    }

    #[test]
    fn asking_is_no_activity() {
        let activity = fresh();
        let first = activity.judge();
        wait_for_the_next_millisecond(&activity);
        let second = activity.judge();
        assert_eq!(second.mark, first.mark);
        assert!(second.last_active_ms_ago > first.last_active_ms_ago);
        assert!(activity.is_idle_since(first.mark));
    }

    #[test]
    fn what_is_held_is_active_until_it_ends() {
        let activity = fresh();
        let (first, second) = (activity.hold(Reason::Files), activity.hold(Reason::Files));
        let judged = activity.judge();
        assert_eq!(judged.busy, [wire::Busy { reason: Reason::Files, count: 2 }]);
        assert!(!activity.is_idle_since(judged.mark), "it goes on");
        drop(first);
        wait_for_the_next_millisecond(&activity);
        drop(second);
        assert!(!activity.is_idle_since(judged.mark), "its end is activity, too");
        let judged = activity.judge();
        assert_eq!((judged.busy.as_slice(), judged.reason), (&[][..], Reason::Files));
        assert!(activity.is_idle_since(judged.mark));
    }

    #[test]
    fn older_activity_never_hides_newer() {
        let activity = fresh();
        activity.last.store(u64::MAX >> 1, Ordering::Relaxed);
        activity.note(Reason::Exec);
        assert_eq!(activity.last.load(Ordering::Relaxed), u64::MAX >> 1);
        assert_eq!(activity.judge().last_active_ms_ago, 0);
    }
}
