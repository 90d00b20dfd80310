//! The one source of chance (splitmix64): equal seeds, equal worlds.

use std::sync::{Arc, Mutex};

#[derive(Clone)]
pub(crate) struct Rng(Arc<Mutex<u64>>);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(seed)))
    }

    pub(crate) fn next(&self) -> u64 {
        let mut state = self.0.lock().unwrap();
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = *state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number that is used for nothing else, and changes nothing that comes.
    pub(crate) fn peek(&self) -> u64 {
        !*self.0.lock().unwrap()
    }

    /// 0 to `bound` - 1.
    pub(crate) fn below(&self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap()
    }

    /// Whether something happens that does so `times` in 10,000.
    pub(crate) fn hits(&self, times: u32) -> bool {
        times > 0 && self.next() % 10_000 < u64::from(times)
    }

    pub(crate) fn pick<'a, T>(&self, from: &'a [T]) -> Option<&'a T> {
        if from.is_empty() { None } else { from.get(self.below(from.len())) }
    }
}
