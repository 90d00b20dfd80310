//! What is on its way to one viewer, and how far behind it is.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use burstflare_ports::wire::terminal::{
    Cause, DATA_LIMIT, Ended, HIGH_MARK, LOW_MARK, Screen as Announced, Size, ToViewer,
};
use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;

use super::screen::Screen;

/// A viewer that is behind and acknowledges nothing for so long is not waited for any more.
pub(super) const STALLED: Duration = Duration::from_secs(5);

/// Something to send.
#[derive(Debug)]
pub(super) enum Item {
    /// A binary message.
    Data(Bytes),
    /// A text message.
    Control(ToViewer),
}

/// Since when a viewer is behind.
#[derive(Debug, Clone, Copy)]
struct Behind {
    /// Whether output was left out meanwhile.
    dropped: bool,
    progress: Instant,
}

/// One viewer's.
#[derive(Debug)]
pub(super) struct Outbox {
    /// Names it among the viewers of its terminal.
    pub(super) number: u64,
    /// Its window, where it has a say.
    pub(super) size: Option<Size>,
    /// Names it over its connections.
    pub(super) key: Option<String>,
    /// Told when there is something to send.
    pub(super) ready: Arc<Notify>,
    queue: VecDeque<Item>,
    sent: u64,
    acknowledged: u64,
    behind: Option<Behind>,
    /// Typed bytes that were taken and not yet told of.
    typed: Option<u64>,
    /// Nothing follows what is in the queue.
    pub(super) closed: bool,
}

impl Outbox {
    /// An empty one.
    pub(super) fn new(number: u64, size: Option<Size>, key: Option<String>) -> Self {
        Self {
            number,
            size,
            key,
            ready: Arc::default(),
            queue: VecDeque::new(),
            sent: 0,
            acknowledged: 0,
            behind: None,
            typed: None,
            closed: false,
        }
    }

    /// Something beside the output.
    pub(super) fn tell(&mut self, message: ToViewer) {
        if !self.closed {
            self.queue.push_back(Item::Control(message));
            self.ready.notify_one();
        }
    }

    /// Output; left out where the viewer is behind.
    pub(super) fn send(&mut self, bytes: &Bytes) {
        match &mut self.behind {
            Some(behind) => behind.dropped = true,
            None if self.closed => {}
            None => {
                self.queue.push_back(Item::Data(bytes.clone()));
                self.count(bytes.len());
            }
        }
    }

    fn count(&mut self, bytes: usize) {
        self.sent += u64::try_from(bytes).unwrap_or_default();
        if self.sent - self.acknowledged >= HIGH_MARK {
            let progress = Instant::now();
            self.behind.get_or_insert(Behind { dropped: false, progress });
        }
        self.ready.notify_one();
    }

    /// A whole screen; a viewer that is behind gets one when it gets on.
    pub(super) fn show(&mut self, screen: &Screen, cause: Cause, scrollback: u16) {
        if let Some(behind) = &mut self.behind {
            behind.dropped = true;
            return;
        }
        if self.closed {
            return;
        }
        let replay = Bytes::from(screen.replay(scrollback));
        let bytes = u64::try_from(replay.len()).unwrap_or_default();
        self.tell(ToViewer::Screen(Announced { cause, size: screen.size(), bytes }));
        let mut rest = replay.clone();
        while !rest.is_empty() {
            self.queue.push_back(Item::Data(rest.split_to(rest.len().min(DATA_LIMIT))));
        }
        self.count(replay.len());
    }

    /// The viewer has dealt with so many bytes. Whether it got on by that.
    pub(super) fn acknowledge(&mut self, bytes: u64, screen: &Screen) -> bool {
        let now = bytes.clamp(self.acknowledged, self.sent);
        let progress = now > self.acknowledged;
        self.acknowledged = now;
        let Some(behind) = &mut self.behind else { return false };
        if progress {
            behind.progress = Instant::now();
        }
        if self.sent - self.acknowledged > LOW_MARK {
            return false;
        }
        let dropped = behind.dropped;
        self.behind = None;
        if dropped {
            self.show(screen, Cause::Resync, 0);
        }
        true
    }

    /// Until when the terminal waits for this viewer; `None` where it does not.
    pub(super) fn waited_for(&self) -> Option<Instant> {
        self.behind.map(|behind| behind.progress + STALLED)
    }

    /// So many typed bytes were taken. It is told with the next output, or soon.
    pub(super) fn took(&mut self, typed: u64) {
        self.typed = Some(typed);
        self.ready.notify_one();
    }

    /// The program ended.
    pub(super) fn end(&mut self, ended: &Ended, screen: &Screen) {
        // What it missed is made good: these are the last words.
        if self.behind.take().is_some_and(|behind| behind.dropped) {
            self.show(screen, Cause::Resync, 0);
        }
        if let Some(typed) = self.typed.take() {
            self.tell(ToViewer::Typed(typed));
        }
        self.tell(ToViewer::Exit(ended.clone()));
        self.closed = true;
    }

    /// What to send next: small pieces in one message, and typed bytes that were taken.
    pub(super) fn take(&mut self) -> (Option<Item>, Option<u64>) {
        let typed = self.typed.take();
        let item = match self.queue.pop_front() {
            Some(Item::Data(first)) => Some(Item::Data(self.join(first))),
            other => other,
        };
        (item, typed)
    }

    fn join(&mut self, first: Bytes) -> Bytes {
        let mut joined: Option<BytesMut> = None;
        while let Some(Item::Data(next)) = self.queue.front() {
            let length = joined.as_ref().map_or(first.len(), BytesMut::len);
            if length + next.len() > DATA_LIMIT {
                break;
            }
            joined.get_or_insert_with(|| BytesMut::from(&first[..])).extend_from_slice(next);
            self.queue.pop_front();
        }
        joined.map_or(first, BytesMut::freeze)
    }

    /// Whether everything was taken that will ever come.
    pub(super) fn is_done(&self) -> bool {
        self.closed && self.queue.is_empty() && self.typed.is_none()
    }
}
