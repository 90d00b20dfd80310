//! Host users of machines, for a server run by root: each machine has one of its own, which nobody else uses.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use burstflare_ports::error::{ErrorKind, PortError, PortResult};

use super::config::HostUsers;

/// How long a look at the host's processes serves: it costs what the host runs, and a burst takes many users. Another
/// server may take a user in the same moment however short this is.
const LOOK: Duration = Duration::from_secs(1);

/// Which host users are taken. The durable record is the owner of each machine's `disk` folder.
#[derive(Debug)]
pub(super) struct UserPool {
    range: HostUsers,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    taken: BTreeSet<u32>,
    /// Whom processes of the host run as, and when that was looked at.
    running: Option<(Instant, BTreeSet<u32>)>,
}

impl UserPool {
    /// A pool in which those of the existing machines are taken.
    pub(super) fn new(range: HostUsers, taken: impl IntoIterator<Item = u32>) -> Self {
        let state = State { taken: taken.into_iter().collect(), running: None };
        Self { range, state: Mutex::new(state) }
    }

    /// Takes a user that neither a machine of ours has nor any process of the host runs as.
    pub(super) fn take(&self) -> PortResult<u32> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { taken, running } = &mut *state;
        // Another server on this host may use the same range.
        let (_, running) = match running.take().filter(|(at, _)| at.elapsed() < LOOK) {
            Some(fresh) => running.insert(fresh),
            None => running.insert((Instant::now(), running_users())),
        };
        let last = self.range.first.saturating_add(self.range.count);
        let free = (self.range.first..last).find(|user| !taken.contains(user) && !running.contains(user));
        let user = free.ok_or_else(|| {
            PortError::new(ErrorKind::Full, "machine.start", "every host user for machines is taken")
        })?;
        taken.insert(user);
        Ok(user)
    }

    /// Gives one back.
    pub(super) fn give_back(&self, user: u32) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).taken.remove(&user);
    }
}

fn running_users() -> BTreeSet<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return BTreeSet::new() };
    entries
        .flatten()
        .filter(|entry| entry.file_name().as_encoded_bytes().first().is_some_and(u8::is_ascii_digit))
        .filter_map(|entry| entry.metadata().ok().map(|meta| meta.uid()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_user_is_given_twice_and_the_range_ends() {
        let range = HostUsers { layers: 4_000_000_000, first: 4_000_000_001, count: 3 };
        let pool = UserPool::new(range, [4_000_000_002]);
        assert_eq!(pool.take().ok(), Some(4_000_000_001));
        assert_eq!(pool.take().ok(), Some(4_000_000_003));
        assert_eq!(pool.take().expect_err("none left").kind(), ErrorKind::Full);
        pool.give_back(4_000_000_002);
        assert_eq!(pool.take().ok(), Some(4_000_000_002));
    }
}
