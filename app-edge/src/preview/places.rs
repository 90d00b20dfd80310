//! How many requests to previews are carried at once: in all, and for one session, whose machine takes no more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use burstflare_core::{Error, Kind};
use burstflare_ports::id::Id;
use burstflare_ports::record::Session;

use crate::problem::Answer;

/// In all.
const ALL: usize = 4_000;
/// To one session: fewer than its agent takes, so that other calls to it find a place.
const OF_ONE: usize = 128;

type Counts = HashMap<Id<Session>, usize>;

/// The places of one edge.
#[derive(Debug, Clone, Default)]
pub(crate) struct Places(Arc<Mutex<(usize, Counts)>>);

/// One of them, given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    session: Id<Session>,
}

impl Places {
    fn counts(&self) -> MutexGuard<'_, (usize, Counts)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place.
    pub(super) fn take(&self, session: Id<Session>) -> Answer<Place> {
        let mut counts = self.counts();
        let of_session = counts.1.get(&session).copied().unwrap_or(0);
        if counts.0 >= ALL || of_session >= OF_ONE {
            let full = Error::new(
                Kind::Unavailable,
                "too_many_connections",
                "There are as many connections to this preview as the server carries.",
                "Close some tabs, or try again in a moment.",
            );
            return Err(full.after(Duration::from_secs(1)).into());
        }
        counts.0 += 1;
        counts.1.insert(session, of_session + 1);
        drop(counts);
        Ok(Place { places: self.clone(), session })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.places.counts();
        counts.0 -= 1;
        match counts.1.get_mut(&self.session) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(counts.1.remove(&self.session)),
        }
    }
}

#[cfg(test)]
mod tests {
    use burstflare_ports::time::Timestamp;

    use super::*;

    #[test]
    fn one_session_does_not_take_the_others_places() {
        let places = Places::default();
        let [one, two] = [1, 2].map(|random| Id::new(Timestamp::from_millis(1), [random; 10]));
        let mut taken: Vec<Place> = (0..OF_ONE).map(|_| places.take(one).expect("a place")).collect();
        assert!(places.take(one).is_err());
        assert!(places.take(two).is_ok());
        taken.pop();
        taken.push(places.take(one).expect("the one given back"));
        drop(taken);
        assert_eq!(*places.counts(), (0, Counts::new()));
    }
}
