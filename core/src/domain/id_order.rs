//! Ids in the order in which one process made them, within a millisecond too.

use std::sync::{Mutex, PoisonError};

use burstflare_ports::id::{Id, Kind};
use burstflare_ports::time::Timestamp;

/// Makes ids of which each is greater than all that it made before, whatever their kinds.
///
/// In a new millisecond all 80 low bits are random. In the same one, or where the clock went back, the id is the one
/// before plus a random step of 1 to 2^64: the order holds, and whoever knows an id still has 64 bits to guess of the
/// next. Where the low bits overflow, the millisecond takes the carry: a list is in order before its ids' times are
/// exact. Other processes know nothing of this one: between them the order is to the millisecond.
#[derive(Debug, Default)]
pub(crate) struct IdOrder {
    last: Mutex<u128>,
}

impl IdOrder {
    /// The next id.
    pub(crate) fn next<K: Kind>(&self, at: Timestamp, random: [u8; 10]) -> Id<K> {
        let fresh = Id::<K>::new(at, random).bits();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = if *last >> 80 < fresh >> 80 {
            fresh
        } else {
            let step = 1 + (fresh & u128::from(u64::MAX));
            // 2^64 steps of 2^64 fit into 128 bits; a clock that shows the year 10889 gets plain random ids.
            last.checked_add(step).unwrap_or(fresh)
        };
        Id::from_bits(*last)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use burstflare_ports::record::{Session, Snapshot};

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn ids_of_one_millisecond_are_in_order() {
        let order = IdOrder::default();
        let mut last = 0;
        for round in 0..1_000_u32 {
            // What chance gives goes down all the time.
            let mut random = [0; 10];
            random[..4].copy_from_slice(&(u32::MAX - round * 4_000_000).to_be_bytes());
            let id = if round % 2 == 0 {
                order.next::<Session>(at(5), random).bits()
            } else {
                order.next::<Snapshot>(at(5), random).bits()
            };
            assert!(id > last);
            last = id;
        }
    }

    #[test]
    fn a_clock_that_goes_back_breaks_no_order() {
        let order = IdOrder::default();
        let first = order.next::<Session>(at(1_000), [9; 10]);
        let second = order.next::<Session>(at(10), [0; 10]);
        let third = order.next::<Session>(at(1_001), [0; 10]);
        assert!(first < second && second < third);
    }

    #[test]
    fn overflow_carries_into_the_millisecond() {
        let order = IdOrder::default();
        let last = order.next::<Session>(at(7), [255; 10]);
        let over = order.next::<Session>(at(7), [0; 10]);
        assert_eq!(over.bits(), last.bits() + 1);
        assert_eq!(over.bits() >> 80, 8);
        // The next millisecond of the clock is the one that was taken already.
        assert!(order.next::<Session>(at(8), [0; 10]) > over);
    }

    #[test]
    fn a_new_millisecond_is_random_all_over() {
        let order = IdOrder::default();
        order.next::<Session>(at(1), [255; 10]);
        assert_eq!(order.next::<Session>(at(2), [3; 10]), Id::new(at(2), [3; 10]));
    }

    #[test]
    fn threads_never_get_the_same() {
        let order = IdOrder::default();
        let all: Vec<Vec<Id<Session>>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..500).map(|_| order.next(at(3), [1; 10])).collect::<Vec<_>>()))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(all.iter().all(|ids| ids.is_sorted()));
        assert_eq!(all.iter().flatten().collect::<BTreeSet<_>>().len(), 2_000);
    }
}
