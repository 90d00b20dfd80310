//! What was typed and not yet confirmed. A connection that breaks leaves open what arrived; the next one's welcome says,
//! and the rest is sent again, so nothing is typed twice and nothing is lost unnoticed.

use std::collections::VecDeque;

use burstflare_ports::wire::terminal::{DATA_LIMIT, TYPED_LIMIT};

/// The bytes that somebody typed, by their place in all of them.
#[derive(Debug, Default)]
pub struct Typed {
    /// Bytes that were confirmed.
    confirmed: u64,
    /// Bytes behind them that were sent on this connection.
    sent: usize,
    bytes: VecDeque<u8>,
}

impl Typed {
    /// Takes what was typed.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// Whether more may be typed before something is confirmed.
    #[must_use]
    pub fn has_room(&self) -> bool {
        u64::try_from(self.bytes.len()).is_ok_and(|length| length < TYPED_LIMIT / 2)
    }

    /// The next piece to send, at most a message's worth.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        let piece: Vec<u8> = self.bytes.iter().skip(self.sent).take(DATA_LIMIT).copied().collect();
        self.sent += piece.len();
        (!piece.is_empty()).then_some(piece)
    }

    /// So many bytes arrived in all.
    pub fn confirm(&mut self, typed: u64) {
        let arrived = usize::try_from(typed.saturating_sub(self.confirmed)).unwrap_or(usize::MAX);
        let arrived = arrived.min(self.bytes.len());
        self.bytes.drain(..arrived);
        self.sent = self.sent.saturating_sub(arrived);
        self.confirmed += u64::try_from(arrived).unwrap_or_default();
    }

    /// A new connection knows of so many bytes. Whether that agrees with what we know; where it does not, what is
    /// unconfirmed is dropped, because it may have arrived.
    pub fn resume(&mut self, typed: u64) -> bool {
        let known = self.confirmed..=self.confirmed + u64::try_from(self.bytes.len()).unwrap_or_default();
        let agrees = known.contains(&typed);
        if agrees {
            self.confirm(typed);
        } else {
            self.bytes.clear();
            self.confirmed = typed;
        }
        self.sent = 0;
        agrees
    }

    /// Bytes of which nobody knows whether they arrived.
    #[must_use]
    pub fn open(&self) -> usize {
        self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_arrive_is_sent_again_and_nothing_else() {
        let mut typed = Typed::default();
        typed.push(b"abcdef");
        assert_eq!(typed.take().as_deref(), Some(&b"abcdef"[..]));
        assert_eq!(typed.take(), None);
        typed.confirm(2);
        typed.push(b"gh");
        assert_eq!(typed.take().as_deref(), Some(&b"gh"[..]));
        assert!(typed.resume(5));
        assert_eq!(typed.take().as_deref(), Some(&b"fgh"[..]));
        typed.confirm(8);
        assert_eq!(typed.open(), 0);
        typed.push(b"x");
        assert!(!typed.resume(0), "the other side forgot");
        assert_eq!((typed.open(), typed.take()), (0, None));
    }
}
