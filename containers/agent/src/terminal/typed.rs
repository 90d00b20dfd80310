//! What viewers typed, counted by viewer over all its connections: after a connection broke, a viewer learns what
//! arrived and sends the rest, so nothing is typed twice and nothing is lost unnoticed.

use std::collections::VecDeque;

use burstflare_ports::wire::terminal::TYPED_LIMIT;
use bytes::Bytes;

/// Viewers that are remembered; who has not typed for the longest is forgotten first.
const REMEMBERED: usize = 64;
/// Bytes that wait for the programs, of all viewers together.
const WAITING: u64 = 4 * TYPED_LIMIT;

#[derive(Debug)]
struct Account {
    key: String,
    accepted: u64,
    written: u64,
}

/// A terminal's input.
#[derive(Debug, Default)]
pub(super) struct Typed {
    accounts: Vec<Account>,
    queue: VecDeque<(Option<String>, Bytes)>,
    waiting: u64,
}

impl Typed {
    /// Bytes of this viewer that were accepted so far.
    pub(super) fn accepted(&self, key: &str) -> u64 {
        self.accounts.iter().find(|account| account.key == key).map_or(0, |account| account.accepted)
    }

    /// Takes what a viewer typed; `false` where more waits than may.
    pub(super) fn accept(&mut self, key: Option<&str>, bytes: Bytes) -> bool {
        let length = count(&bytes);
        if self.waiting + length > WAITING {
            return false;
        }
        if let Some(key) = key {
            let account = self.account(key);
            if account.accepted - account.written + length > TYPED_LIMIT {
                return false;
            }
            account.accepted += length;
        }
        self.waiting += length;
        self.queue.push_back((key.map(str::to_owned), bytes));
        true
    }

    fn account(&mut self, key: &str) -> &mut Account {
        let place = self.accounts.iter().position(|account| account.key == key);
        let account = match place {
            Some(place) => self.accounts.remove(place),
            None => Account { key: key.to_owned(), accepted: 0, written: 0 },
        };
        if self.accounts.len() >= REMEMBERED {
            self.accounts.remove(0);
        }
        self.accounts.push(account);
        let last = self.accounts.len() - 1;
        &mut self.accounts[last]
    }

    /// What the programs get next.
    pub(super) fn next(&mut self) -> Option<(Option<String>, Bytes)> {
        let next = self.queue.pop_front()?;
        self.waiting -= count(&next.1);
        Some(next)
    }

    /// The programs' terminal took it: how much of this viewer's that is in all.
    pub(super) fn written(&mut self, key: &str, bytes: &Bytes) -> Option<u64> {
        let account = self.accounts.iter_mut().find(|account| account.key == key)?;
        account.written = (account.written + count(bytes)).min(account.accepted);
        Some(account.written)
    }
}

fn count(bytes: &Bytes) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_counted_over_connections_and_bounded() {
        let mut typed = Typed::default();
        assert!(
            typed.accept(Some("a"), Bytes::from_static(b"ab"))
                && typed.accept(None, Bytes::from_static(b"x"))
        );
        assert_eq!((typed.accepted("a"), typed.accepted("b")), (2, 0));
        let (key, bytes) = typed.next().expect("something");
        assert_eq!((key.as_deref(), &bytes[..]), (Some("a"), &b"ab"[..]));
        assert_eq!(typed.written("a", &bytes), Some(2));
        let much = Bytes::from(vec![0; usize::try_from(TYPED_LIMIT).expect("fits")]);
        assert!(typed.accept(Some("a"), much.clone()));
        assert!(!typed.accept(Some("a"), Bytes::from_static(b"!")), "more than may wait");
        for number in 0..200 {
            typed.accept(Some(&number.to_string()), Bytes::from_static(b"y"));
        }
        assert!(typed.accounts.len() <= REMEMBERED);
        while typed.next().is_some() {}
        assert_eq!(typed.waiting, 0);
    }
}
