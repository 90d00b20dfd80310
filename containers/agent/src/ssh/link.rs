//! The stream below an SSH connection that survives its WebSocket (`ports::wire::resume`): what russh reads and writes
//! goes on while one socket is replaced by the next.
//!
//! Everything is driven by whoever polls the stream, which is the SSH connection's own task: there is no task and no
//! timer of its own beside the one that notices silence, or the end of the grace. Bytes wait in two bounded places:
//! sent and not acknowledged, received and not read.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use burstflare_ports::wire::resume::{Broken, Frame, HEAD, Intake, Outbox, PIECE};
use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};
use tokio_tungstenite::tungstenite::Message;

use super::stream::Socket;

/// How long a stream is kept without a socket.
pub(super) const GRACE: Duration = Duration::from_secs(300);
/// A client says something every few seconds; one that has been silent for so long is gone.
const SILENCE: Duration = Duration::from_secs(90);
/// Bytes that may wait for a socket that is slow, before the SSH connection waits, too.
const BACKLOG: u64 = 512 << 10;

/// The stream, for its task and for who brings a new socket.
#[derive(Clone)]
pub(super) struct Link(Arc<Mutex<State>>);

struct State {
    socket: Option<Socket>,
    /// To be sent before anything else on this socket.
    greeting: Option<Bytes>,
    outbox: Outbox,
    intake: Intake,
    /// Received and not read; bounded by the window.
    waiting: VecDeque<Bytes>,
    pong: Option<u64>,
    heard: Instant,
    /// Ends the silence, or the grace.
    timer: Pin<Box<Sleep>>,
    since: Option<Instant>,
    ends: Ends,
    waker: Option<Waker>,
}

/// How far the stream's end has come.
#[derive(Default)]
struct Ends {
    /// The client's direction has ended: the stream is over.
    theirs: bool,
    /// Ours is to be told.
    ours: bool,
    /// Ours was told.
    told: bool,
    /// Nobody can come back.
    lost: bool,
}

impl Link {
    /// A stream that begins on this socket; the greeting goes first.
    pub(super) fn new(socket: Socket, greeting: Bytes) -> Self {
        let now = Instant::now();
        Self(Arc::new(Mutex::new(State {
            socket: Some(socket),
            greeting: Some(greeting),
            outbox: Outbox::default(),
            intake: Intake::default(),
            waiting: VecDeque::new(),
            pong: None,
            heard: now,
            timer: Box::pin(tokio::time::sleep_until(now + SILENCE)),
            since: None,
            ends: Ends::default(),
            waker: None,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes on with another socket, which it takes, from where the client is; the greeting is made from where we are.
    pub(super) fn attach(
        &self,
        socket: &mut Option<Socket>,
        received: u64,
        greeting: impl FnOnce(u64) -> Bytes,
    ) -> Result<(), Broken> {
        let mut state = self.state();
        if state.ends.lost || state.ends.theirs {
            return Err(Broken::Range);
        }
        state.outbox.resume(received)?;
        state.intake.resume();
        state.greeting = Some(greeting(state.intake.received()));
        // A socket that is still there is one of which only the client knows that it is dead.
        state.socket = socket.take();
        (state.since, state.pong, state.heard) = (None, None, Instant::now());
        let until = state.heard + SILENCE;
        state.timer.as_mut().reset(until);
        state.ends.told = false;
        state.wake();
        Ok(())
    }

    /// Since when it has been without a socket.
    pub(super) fn alone_since(&self) -> Option<Instant> {
        self.state().since
    }

    /// Gives it up.
    pub(super) fn give_up(&self) {
        let mut state = self.state();
        state.ends.lost = true;
        state.socket = None;
        state.wake();
    }
}

impl State {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn detach(&mut self, why: &dyn std::fmt::Display) {
        tracing::debug!(%why, "a resumable connection was cut");
        let now = Instant::now();
        self.socket = None;
        self.since = Some(now);
        self.timer.as_mut().reset(now + GRACE);
    }

    /// What the client does against the protocol ends the stream: nothing of it can be relied on.
    fn lose(&mut self, why: &dyn std::fmt::Display) {
        tracing::debug!(%why, "a resumable connection is lost");
        self.ends.lost = true;
        self.socket = None;
    }

    /// Sends and receives what can be without waiting. With `greedy` it receives although there is something to read.
    fn drive(&mut self, cx: &mut Context<'_>, greedy: bool) {
        self.waker = Some(cx.waker().clone());
        self.send(cx);
        self.receive(cx, greedy);
        // Acknowledgements and answers to what has just come.
        self.send(cx);
        while !self.ends.lost && self.timer.as_mut().poll(cx).is_ready() {
            self.time_passed();
        }
    }

    fn time_passed(&mut self) {
        if self.socket.is_none() {
            self.lose(&"nobody came back in time");
        } else if self.heard.elapsed() >= SILENCE {
            self.detach(&"silence");
        } else {
            let until = self.heard + SILENCE;
            self.timer.as_mut().reset(until);
        }
    }

    fn next_message(&mut self) -> Option<Bytes> {
        if let Some(greeting) = self.greeting.take() {
            return Some(greeting);
        }
        if let Some(to) = self.intake.acknowledgement() {
            return Some(Frame::Ack(to).encode());
        }
        if let Some(number) = self.pong.take() {
            return Some(Frame::Pong(number).encode());
        }
        if let Some(data) = self.outbox.next_message() {
            return Some(data);
        }
        if self.ends.ours && !self.ends.told {
            self.ends.told = true;
            return Some(Frame::End(self.outbox.end()).encode());
        }
        None
    }

    fn send(&mut self, cx: &mut Context<'_>) {
        let Some(mut socket) = self.socket.take() else { return };
        let sent = loop {
            match Pin::new(&mut socket).poll_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => break Err(error),
                Poll::Pending => break Ok(()),
            }
            let Some(message) = self.next_message() else {
                break match Pin::new(&mut socket).poll_flush(cx) {
                    Poll::Ready(Err(error)) => Err(error),
                    _ => Ok(()),
                };
            };
            if let Err(error) = Pin::new(&mut socket).start_send(Message::Binary(message)) {
                break Err(error);
            }
        };
        match sent {
            Ok(()) => self.socket = Some(socket),
            Err(error) => self.detach(&error),
        }
    }

    fn receive(&mut self, cx: &mut Context<'_>, greedy: bool) {
        while (greedy || self.waiting.is_empty()) && !self.ends.theirs {
            let Some(socket) = &mut self.socket else { return };
            let message = match Pin::new(socket).poll_next(cx) {
                Poll::Pending => return,
                Poll::Ready(None) => return self.detach(&"closed"),
                Poll::Ready(Some(Err(error))) => return self.detach(&error),
                Poll::Ready(Some(Ok(message))) => message,
            };
            self.heard = Instant::now();
            let taken = match message {
                Message::Binary(bytes) => Frame::decode(bytes).and_then(|frame| self.take(frame)),
                Message::Close(_) => return self.detach(&"closed"),
                Message::Text(_) => Err(Broken::Malformed),
                // Pings of the transport are answered by the library.
                _ => Ok(()),
            };
            if let Err(broken) = taken {
                return self.lose(&broken);
            }
        }
    }

    fn take(&mut self, frame: Frame) -> Result<(), Broken> {
        match frame {
            Frame::Data(at, bytes) => {
                self.intake.accept(at, bytes.len())?;
                self.waiting.push_back(bytes);
            }
            Frame::Ack(to) => self.outbox.acknowledge(to)?,
            Frame::Ping(number) => self.pong = Some(number),
            Frame::Pong(_) => {}
            Frame::End(at) if at == self.intake.received() => self.ends.theirs = true,
            Frame::End(_) => return Err(Broken::Order),
            Frame::Open(_) | Frame::Welcome(_) | Frame::Refused(_) => return Err(Broken::Malformed),
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.ends.lost || self.ends.theirs
    }
}

impl AsyncRead for Link {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.state();
        if state.waiting.is_empty() {
            state.drive(cx, false);
        }
        let Some(bytes) = state.waiting.front_mut() else {
            return match &state.ends {
                Ends { lost: true, .. } => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                Ends { theirs: true, .. } => Poll::Ready(Ok(())),
                _ => Poll::Pending,
            };
        };
        let length = bytes.len().min(buffer.remaining());
        buffer.put_slice(bytes.get(..length).unwrap_or_default());
        bytes.advance(length);
        if bytes.is_empty() {
            state.waiting.pop_front();
        }
        state.intake.pass_on(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Link {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.state();
        let blocked = |state: &State| {
            !state.outbox.has_room() || (state.socket.is_some() && state.outbox.backlog() > BACKLOG)
        };
        if blocked(&state) {
            // The room is made by acknowledgements, and nobody else reads them while we wait here.
            state.drive(cx, true);
        }
        if state.is_over() || state.ends.ours {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if blocked(&state) {
            return Poll::Pending;
        }
        let piece = bytes.get(..PIECE).unwrap_or(bytes);
        let mut message = BytesMut::with_capacity(HEAD + piece.len());
        message.resize(HEAD, 0);
        message.extend_from_slice(piece);
        state.outbox.push(message);
        Poll::Ready(Ok(piece.len()))
    }

    /// What was written is kept until it has arrived; nobody has to wait for the socket.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state();
        state.waker = Some(cx.waker().clone());
        state.send(cx);
        Poll::Ready(Ok(()))
    }

    /// Tells the client; without a socket, as long as one may come.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state();
        state.ends.ours = true;
        state.drive(cx, true);
        if state.is_over() {
            return Poll::Ready(Ok(()));
        }
        if !state.ends.told {
            return Poll::Pending;
        }
        let flushed = match &mut state.socket {
            Some(socket) => ready!(Pin::new(socket).poll_flush(cx)),
            None => return Poll::Pending,
        };
        if let Err(error) = flushed {
            state.detach(&error);
            return Poll::Pending;
        }
        state.ends.theirs = true;
        Poll::Ready(Ok(()))
    }
}
