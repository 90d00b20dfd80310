//! Processor time, exact where the kernel's ticks of ten milliseconds would see nothing.

use std::fs;
use std::time::Duration;

/// What the living threads of some processes have used so far.
pub(crate) fn of(pids: impl IntoIterator<Item = u32>) -> Duration {
    let threads =
        pids.into_iter().flat_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten());
    threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("schedstat")).ok())
        .filter_map(|line| line.split(' ').next()?.parse().ok())
        .map(Duration::from_nanos)
        .sum()
}

/// What this process and the children that it has waited for have used so far.
pub(crate) fn own() -> Duration {
    [libc::RUSAGE_SELF, libc::RUSAGE_CHILDREN]
        .into_iter()
        .flat_map(|who| {
            // SAFETY: a zeroed structure is valid, and the kernel fills it.
            let usage = unsafe {
                let mut usage: libc::rusage = std::mem::zeroed();
                assert_eq!(libc::getrusage(who, &raw mut usage), 0);
                usage
            };
            [usage.ru_utime, usage.ru_stime]
        })
        .map(|time| {
            Duration::from_secs(time.tv_sec.unsigned_abs())
                + Duration::from_micros(time.tv_usec.unsigned_abs())
        })
        .sum()
}
