//! How long the proxy lives: as long as OpenSSH holds its pipes and nobody tells it to end, and then [`FAREWELL`] more,
//! whatever else is pending. OpenSSH's leaving is seen on the pipes themselves, not only by who reads or writes them: a
//! stream whose window is full is not read, and one that is silent is not written.

use std::future::pending;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::unix::pipe;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::exit::Failure;

/// For the session to be told, with what is still on its way.
const FAREWELL: Duration = Duration::from_secs(5);

/// Why the end has come; the later ones say more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// OpenSSH will write no more. What it wrote may still be in the pipe.
    Written,
    /// It reads no more.
    Unread,
    /// A signal.
    Told,
}

/// Whether the end has come. Cancelling its waits loses nothing.
#[derive(Debug, Default)]
pub struct Ends {
    why: watch::Sender<Option<Why>>,
    /// There is somebody to say goodbye to.
    reached: AtomicBool,
}

/// What tells the end from outside.
#[derive(Debug)]
pub struct Omens {
    signals: [Signal; 3],
    /// `None` where it is no pipe, and its end is seen by reading alone.
    input: Option<pipe::Receiver>,
    output: Option<pipe::Sender>,
}

impl Omens {
    /// Looks at the pipes and listens to signals from now on.
    ///
    /// # Errors
    /// When signals cannot be listened to.
    pub fn new() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|error| Failure::local("cannot listen to signals", error));
        Ok(Self {
            signals: [
                listen(SignalKind::hangup())?,
                listen(SignalKind::interrupt())?,
                listen(SignalKind::terminate())?,
            ],
            // Descriptors of their own: whoever reads and writes is not known yet.
            input: own(io::stdin()).and_then(|fd| pipe::Receiver::from_owned_fd(fd).ok()),
            output: own(io::stdout()).and_then(|fd| pipe::Sender::from_owned_fd(fd).ok()),
        })
    }

    async fn next(&mut self) -> Why {
        let [hangup, interrupt, terminate] = &mut self.signals;
        tokio::select! {
            _ = hangup.recv() => Why::Told,
            _ = interrupt.recv() => Why::Told,
            _ = terminate.recv() => Why::Told,
            // A pipe says it once and for all.
            () = closed(self.input.as_ref()) => {
                self.input = None;
                Why::Written
            }
            () = broken(self.output.as_ref()) => {
                self.output = None;
                Why::Unread
            }
        }
    }
}

fn own(stream: impl AsFd) -> Option<OwnedFd> {
    stream.as_fd().try_clone_to_owned().ok()
}

/// Waits until nobody can write into it any more. What was written may still be in it.
async fn closed(pipe: Option<&pipe::Receiver>) {
    match pipe {
        // Of what this interest covers, a pipe knows the hang-up alone.
        Some(pipe) if pipe.ready(Interest::PRIORITY).await.is_ok() => {}
        _ => pending().await,
    }
}

/// Waits until nobody can read it any more.
async fn broken(pipe: Option<&pipe::Sender>) {
    match pipe {
        Some(pipe) if pipe.ready(Interest::ERROR).await.is_ok() => {}
        _ => pending().await,
    }
}

impl Ends {
    /// From now on there is a session that is told.
    pub fn reach(&self) {
        self.reached.store(true, Ordering::Relaxed);
    }

    /// The end has come.
    pub fn come(&self, why: Why) {
        self.why.send_if_modified(|known| {
            let news = *known < Some(why);
            if news {
                *known = Some(why);
            }
            news
        });
    }

    /// Whether it has come by a signal.
    #[must_use]
    pub fn was_told(&self) -> bool {
        *self.why.borrow() == Some(Why::Told)
    }

    /// Waits until it has come for this reason, or for more than that.
    pub async fn come_by(&self, why: Why) {
        let mut known = self.why.subscribe();
        if known.wait_for(|known| *known >= Some(why)).await.is_err() {
            pending::<()>().await;
        }
    }

    /// Waits until the time for farewells is over, too.
    pub async fn overdue(&self, mut omens: Omens) {
        let heeding = async {
            while !self.was_told() {
                self.come(omens.next().await);
            }
        };
        let waiting = async {
            self.come_by(Why::Written).await;
            tokio::select! {
                () = tokio::time::sleep(FAREWELL) => {}
                // Nobody is there yet who would have to know.
                () = self.come_by(Why::Told), if !self.reached.load(Ordering::Relaxed) => {}
            }
        };
        tokio::pin!(waiting);
        tokio::select! {
            () = &mut waiting => {}
            () = heeding => waiting.await,
        }
    }
}
