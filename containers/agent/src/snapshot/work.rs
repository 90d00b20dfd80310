//! Work on several threads whose results come in order.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Threads of one piece of work: what the machine has, within reason.
pub(super) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get).clamp(1, 4)
}

/// Results that may wait for their turn, for each thread.
const AHEAD: u64 = 2;

struct State<I, T, E> {
    items: I,
    taken: u64,
    handed: u64,
    waiting: BTreeMap<u64, Result<T, E>>,
    /// No more items, or nobody wants them.
    stopped: bool,
    /// A thread is unwinding.
    broken: bool,
}

struct Shared<I, T, E> {
    state: Mutex<State<I, T, E>>,
    changed: Condvar,
}

impl<I, T, E> Shared<I, T, E> {
    fn lock(&self) -> MutexGuard<'_, State<I, T, E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does `work` on all items on several threads, and hands the results to `sink` on this one in the items' order.
/// Each thread has what `tools` makes. At most [`AHEAD`] results for each thread wait; the first error ends it.
pub(super) fn ordered<I, J, W, T, E>(
    items: I,
    tools: impl Fn() -> W + Sync,
    work: impl Fn(&mut W, J) -> Result<T, E> + Sync,
    mut sink: impl FnMut(T) -> Result<(), E>,
) -> Result<(), E>
where
    I: Iterator<Item = J> + Send,
    T: Send,
    E: Send,
{
    let threads = threads();
    let window = AHEAD * threads as u64;
    let state = State { items, taken: 0, handed: 0, waiting: BTreeMap::new(), stopped: false, broken: false };
    let shared = Shared { state: Mutex::new(state), changed: Condvar::new() };
    std::thread::scope(|scope| {
        // However this scope is left, the threads are told.
        let _told = Told { shared: &shared, last: true };
        for _ in 0..threads {
            scope.spawn(|| {
                let _told = Told { shared: &shared, last: false };
                let mut tools = tools();
                run(&shared, window, |item| work(&mut tools, item));
            });
        }
        loop {
            let mut state = shared.lock();
            let result = loop {
                let turn = state.handed;
                if let Some(result) = state.waiting.remove(&turn) {
                    state.handed += 1;
                    break result;
                }
                if state.broken || state.stopped && state.handed == state.taken {
                    // Broken: the scope resumes the other thread's panic.
                    return Ok(());
                }
                state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            };
            drop(state);
            shared.changed.notify_all();
            sink(result?)?;
        }
    })
}

fn run<I: Iterator<Item = J>, J, T, E>(
    shared: &Shared<I, T, E>,
    window: u64,
    mut work: impl FnMut(J) -> Result<T, E>,
) {
    loop {
        let mut state = shared.lock();
        while !state.stopped && state.taken - state.handed >= window {
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.stopped {
            return;
        }
        let Some(item) = state.items.next() else {
            state.stopped = true;
            drop(state);
            shared.changed.notify_all();
            return;
        };
        let turn = state.taken;
        state.taken += 1;
        drop(state);
        let result = work(item);
        let failed = result.is_err();
        let mut state = shared.lock();
        state.waiting.insert(turn, result);
        state.stopped |= failed;
        drop(state);
        shared.changed.notify_all();
    }
}

/// Ends the others when a thread leaves early.
struct Told<'s, I, T, E> {
    shared: &'s Shared<I, T, E>,
    /// Nobody takes results any more. (A worker that leaves otherwise leaves the rest at work.)
    last: bool,
}

impl<I, T, E> Drop for Told<'_, I, T, E> {
    fn drop(&mut self) {
        let panicking = std::thread::panicking();
        let mut state = self.shared.lock();
        state.broken |= panicking;
        state.stopped |= panicking || self.last;
        drop(state);
        self.shared.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_the_first_error_ends_it() {
        let mut seen = Vec::new();
        let squared = |_: &mut (), item: u64| {
            std::thread::yield_now();
            Ok::<_, u64>(item * item)
        };
        ordered(
            0..500,
            || (),
            squared,
            |result| {
                seen.push(result);
                Ok(())
            },
        )
        .expect("no error");
        assert!(seen.iter().copied().eq((0..500).map(|item| item * item)));
        let failing = |_: &mut (), item: u64| if item == 100 { Err(item) } else { Ok(item) };
        let mut count = 0;
        let error = ordered(
            0..1_000_000,
            || (),
            failing,
            |_| {
                count += 1;
                Ok(())
            },
        );
        assert_eq!((error, count), (Err(100), 100));
        assert_eq!(ordered(0..1_000_000, || (), squared, |_| Err(7)), Err(7));
        assert_eq!(ordered(0..0, || (), squared, |_| Err(7)), Ok(()));
    }
}
