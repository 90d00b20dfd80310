//! Packs on their way into a machine, some of them ahead: a store that takes its time to answer costs that time once, and
//! not once for each pack.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use burstflare_ports::error::PortResult;
use burstflare_ports::wire::snapshot::Pack;
use bytes::Bytes;
use futures_util::Stream;
use futures_util::future::BoxFuture;

/// Packs asked for at once.
const PACKS: usize = 4;
/// Bytes of them at once, as they are stored. One pack is asked for however large it is; none is larger than 16 MiB.
const BYTES: u64 = 32 << 20;

/// The bytes of a pack, in the pieces in which they came.
pub(super) type Pieces = VecDeque<Bytes>;

/// Packs in their order, piece by piece. It asks for those ahead only while it is polled, and never holds more than
/// [`PACKS`] and [`BYTES`]; dropping it gives all of them up. Ends with the first error.
pub(super) struct ReadAhead<F> {
    waiting: VecDeque<Pack>,
    coming: VecDeque<Coming>,
    bytes: u64,
    fetch: F,
}

struct Coming {
    length: u64,
    state: State,
}

enum State {
    Asked(BoxFuture<'static, PortResult<Pieces>>),
    Here(PortResult<Pieces>),
}

impl<F> ReadAhead<F>
where
    F: FnMut(Pack) -> BoxFuture<'static, PortResult<Pieces>>,
{
    pub(super) fn new(packs: Vec<Pack>, fetch: F) -> Self {
        Self { waiting: packs.into(), coming: VecDeque::new(), bytes: 0, fetch }
    }

    fn ask(&mut self) {
        while let Some(next) = self.waiting.front() {
            let length = u64::from(next.length);
            let fits = self.coming.len() < PACKS && self.bytes + length <= BYTES;
            if !fits && !self.coming.is_empty() {
                return;
            }
            if let Some(next) = self.waiting.pop_front() {
                self.bytes += length;
                self.coming.push_back(Coming { length, state: State::Asked((self.fetch)(next)) });
            }
        }
    }
}

impl<F> Stream for ReadAhead<F>
where
    F: FnMut(Pack) -> BoxFuture<'static, PortResult<Pieces>> + Unpin,
{
    type Item = PortResult<Bytes>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            this.ask();
            for pack in &mut this.coming {
                if let State::Asked(answer) = &mut pack.state
                    && let Poll::Ready(pieces) = answer.as_mut().poll(context)
                {
                    pack.state = State::Here(pieces);
                }
            }
            let Some(first) = this.coming.front_mut() else { return Poll::Ready(None) };
            let length = first.length;
            match &mut first.state {
                State::Asked(_) => return Poll::Pending,
                State::Here(Ok(pieces)) => {
                    if let Some(piece) = pieces.pop_front() {
                        return Poll::Ready(Some(Ok(piece)));
                    }
                    this.coming.pop_front();
                    this.bytes -= length;
                }
                State::Here(Err(_)) => {
                    let failed = this.coming.pop_front();
                    this.coming.clear();
                    this.waiting.clear();
                    return Poll::Ready(match failed {
                        Some(Coming { state: State::Here(Err(error)), .. }) => Some(Err(error)),
                        _ => None,
                    });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};

    use burstflare_ports::error::{ErrorKind, PortError};
    use burstflare_ports::wire::snapshot::Hash;
    use futures_util::future::poll_fn;
    use futures_util::{FutureExt as _, StreamExt as _};
    use proptest::prelude::*;

    use super::*;

    /// What was asked for and not answered yet, by number; an answer of `Some` is taken at the next poll.
    type Asked = Arc<Mutex<BTreeMap<u32, Option<PortResult<Pieces>>>>>;

    fn packs(lengths: &[u32]) -> Vec<Pack> {
        let named = (0_u32..).zip(lengths);
        named
            .map(|(number, length)| Pack { hash: Hash::of(&number.to_le_bytes()), length: *length })
            .collect()
    }

    /// Reads packs of these lengths, and what was asked for.
    fn reader(lengths: &[u32]) -> (impl Stream<Item = PortResult<Bytes>> + Unpin, Asked) {
        let (asked, mut next) = (Asked::default(), 0_u32);
        let told = Arc::clone(&asked);
        let read = ReadAhead::new(packs(lengths), move |_| {
            let (asked, number) = (Arc::clone(&told), next);
            next += 1;
            asked.lock().expect("asked").insert(number, None);
            poll_fn(move |_| {
                let mut asked = asked.lock().expect("asked");
                match asked.get_mut(&number).and_then(Option::take) {
                    Some(answer) => {
                        asked.remove(&number);
                        Poll::Ready(answer)
                    }
                    None => Poll::Pending,
                }
            })
            .boxed()
        });
        (read, asked)
    }

    fn answer(asked: &Asked, number: u32, answer: PortResult<Pieces>) {
        asked.lock().expect("asked").insert(number, Some(answer));
    }

    fn open(asked: &Asked) -> Vec<u32> {
        asked.lock().expect("asked").keys().copied().collect()
    }

    #[test]
    fn several_are_asked_for_at_once_and_no_more_than_fit() {
        for (lengths, first) in [
            (vec![1 << 20; 9], vec![0, 1, 2, 3]),
            (vec![16 << 20; 9], vec![0, 1]),
            (vec![40 << 20, 1], vec![0]),
            (vec![16 << 20, 15 << 20, 2 << 20], vec![0, 1]),
        ] {
            let (mut read, asked) = reader(&lengths);
            assert!(read.next().now_or_never().is_none());
            assert_eq!(open(&asked), first, "{lengths:?}");
        }
    }

    #[test]
    fn the_first_failure_ends_it_in_its_turn() {
        let (mut read, asked) = reader(&[10; 9]);
        assert!(read.next().now_or_never().is_none());
        answer(&asked, 1, Err(PortError::new(ErrorKind::NotFound, "test", "gone")));
        assert!(read.next().now_or_never().is_none());
        answer(&asked, 0, Ok(Pieces::from([Bytes::from_static(b"first")])));
        assert_eq!(read.next().now_or_never().flatten().expect("a piece").expect("good"), "first");
        let failed = read.next().now_or_never().flatten().expect("an end");
        assert_eq!(failed.expect_err("a failure").kind(), ErrorKind::NotFound);
        assert!(read.next().now_or_never().expect("an end").is_none());
        assert!(open(&asked).len() <= PACKS);
    }

    proptest! {
        #[test]
        fn they_come_in_their_order_whatever_is_answered_first(
            lengths in prop::collection::vec(1u32..(16 << 20), 0..30),
            order in prop::collection::vec(any::<prop::sample::Index>(), 0..200),
        ) {
            let (mut read, asked) = reader(&lengths);
            let mut got = Vec::new();
            let mut order = order.into_iter();
            loop {
                match read.next().now_or_never() {
                    Some(None) => break,
                    Some(Some(piece)) => got.push(piece.expect("good")),
                    None => {
                        let open = open(&asked);
                        prop_assert!(!open.is_empty() && open.len() <= PACKS);
                        let held: u64 = open.iter().map(|number| u64::from(lengths[*number as usize])).sum();
                        prop_assert!(open.len() == 1 || held <= BYTES);
                        let which = order.next().map_or(open[0], |index| *index.get(&open));
                        let text = Bytes::from(which.to_string());
                        answer(&asked, which, Ok(Pieces::from([text.clone(), text])));
                    }
                }
            }
            let wanted = (0..lengths.len()).flat_map(|number| [number, number]).map(|number| number.to_string());
            prop_assert_eq!(got, wanted.collect::<Vec<_>>());
        }
    }
}
