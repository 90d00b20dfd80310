//! Processor time of the user's processes, read from `/proc` when somebody asks.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::param::clock_ticks_per_second;
use rustix::process::getpid;

use crate::shutdown::descendants;

/// Activity is this share of one core, in percent: a shell that waits or an editor's server that looks after its files
/// stays well below, whatever compiles, tests or trains is well above.
const SHARE: u32 = 3;
/// A look is over the time since the last one that settled something. So much that one is counted as at least, so that
/// the prompt of a shell is no activity merely because somebody looked just then …
const SHORTEST: Duration = Duration::from_secs(10);
/// … and after so much it is settled in any case.
const LONGEST: Duration = Duration::from_secs(60);

/// What is remembered between looks.
pub(super) struct Processor {
    at: Instant,
    then: Duration,
    now: Duration,
}

impl Default for Processor {
    fn default() -> Self {
        Self { at: Instant::now(), then: Duration::ZERO, now: Duration::ZERO }
    }
}

impl Processor {
    /// Looks, and answers whether the user's processes used more than their share since the last look.
    pub(super) fn is_active(&mut self) -> bool {
        self.look(Instant::now(), used())
    }

    /// What all of them have used, as the last look found it.
    pub(super) const fn used(&self) -> Duration {
        self.now
    }

    fn look(&mut self, at: Instant, used: Duration) -> bool {
        // Less than before: somebody ended whose parent did not care to wait.
        self.then = self.then.min(used);
        self.now = used;
        let elapsed = at.saturating_duration_since(self.at);
        let active = used.saturating_sub(self.then) >= elapsed.max(SHORTEST) * SHARE / 100;
        if active || elapsed >= LONGEST {
            (self.at, self.then) = (at, used);
        }
        active
    }
}

/// What the living processes of the user, and those that ended and were waited for, have used.
fn used() -> Duration {
    let own = getpid().as_raw_nonzero().get();
    let mut ticks = times(own).map_or(0, |(_, children)| children);
    for pid in users() {
        ticks += times(pid).map_or(0, |(own, children)| own + children);
    }
    Duration::from_millis(ticks.saturating_mul(1000) / clock_ticks_per_second().max(1))
}

/// All processes but us: as process 1 everyone, elsewhere everyone who descends from us.
pub(crate) fn users() -> Vec<i32> {
    let own = getpid().as_raw_nonzero().get();
    if own != 1 {
        return descendants().into_iter().map(|pid| pid.as_raw_nonzero().get()).collect();
    }
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse().ok()))
        .filter(|pid| *pid != own)
        .collect()
}

/// The ticks that a process has used itself, and those of its children that it has waited for.
fn times(pid: i32) -> Option<(u64, u64)> {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    parse(&stat)
}

/// Fields 14 to 17 of `/proc/PID/stat` (proc(5)).
fn parse(stat: &str) -> Option<(u64, u64)> {
    // The name, in parentheses, may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().skip(11).take(4).collect();
    let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
    Some((number(0)? + number(1)?, number(2)? + number(3)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_of_a_process() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 1 2 3 4 50 60 700 800 20 0 1 0 9 10 11";
        assert_eq!(parse(stat), Some((110, 1500)));
        assert_eq!(parse("7 (x) S 1"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn three_percent_of_a_core_is_activity() {
        let begin = Instant::now();
        let seconds = Duration::from_secs;
        let millis = Duration::from_millis;
        let mut processor = Processor { at: begin, ..Processor::default() };
        assert!(!processor.look(begin + seconds(1), millis(299)), "a prompt just now");
        assert!(!processor.look(begin + seconds(20), millis(599)), "less than its share of twenty seconds");
        assert!(processor.look(begin + seconds(20), millis(600)));
        assert!(!processor.look(begin + seconds(21), millis(600)), "that was told already");
        assert!(!processor.look(begin + seconds(80), millis(2399)), "less than its share of a minute");
        assert!(
            !processor.look(begin + seconds(90), millis(2650)),
            "a minute that was settled counts no more"
        );
        assert!(processor.look(begin + seconds(90), millis(2699)));
    }

    #[test]
    fn a_total_that_shrinks_hides_nothing_that_comes() {
        let begin = Instant::now();
        let mut processor = Processor { at: begin, then: Duration::from_secs(100), now: Duration::ZERO };
        assert!(!processor.look(begin, Duration::from_secs(40)));
        assert!(processor.look(begin, Duration::from_secs(41)));
    }

    #[test]
    fn work_of_a_child_is_seen() {
        let before = used();
        let mut child = std::process::Command::new("sh")
            .args(["-c", "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done"])
            .spawn()
            .expect("sh");
        child.wait().expect("ends");
        assert!(used() > before, "and of a child that has ended");
    }
}
