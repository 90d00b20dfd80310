//! An SSH stream that survives cuts of the connection that carries it (`ports::wire::resume`): OpenSSH's two pipes live
//! as long as this program, and one WebSocket after the other is put between them and the session.
//!
//! What OpenSSH writes is kept until the session has it, what the session sends is kept until OpenSSH has read it, each
//! within the window of the protocol. A cut is noticed by the transport, or by silence after a ping.

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use burstflare_ports::secret::Secret;
use burstflare_ports::wire::Refusal;
use burstflare_ports::wire::resume::{Broken, Frame, HEAD, Intake, Open, Outbox, PIECE, Resume, Welcome};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;

use super::ends::{Ends, Why};
use super::pipes::{self, Input, Output};
use crate::client::Socket;
use crate::exit::{Exit, Failure};
use crate::interrupt;

/// Silence after which the session is asked for a sign of life, and how long that may take.
const PING: Duration = Duration::from_secs(15);
/// For the session's first message.
const WELCOME: Duration = Duration::from_secs(15);
/// How long the other side may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(2);
/// Between two tries to connect: the first pause, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Room that a buffer has to have for another read.
const LEAST: usize = 16 << 10;
/// How long a cut lasts before the user hears of it.
const UNHEARD: Duration = Duration::from_secs(2);

/// Where new connections come from.
pub trait Way {
    /// Connects to the session, which must not be woken for it.
    ///
    /// # Errors
    /// `Unavailable` and `Timeout` when another try may succeed.
    fn again(&self) -> impl Future<Output = Result<Socket, Failure>> + Send;

    /// Tells the user.
    fn tell(&self, text: &str);
}

/// Carries until either side ends. How long it goes on after `ends` is the caller's to bound.
///
/// # Errors
/// When the stream cannot be resumed.
pub async fn carry(first: Socket, way: &(impl Way + Sync), ends: &Ends) -> Result<(), Failure> {
    let line = Line::new(ends);
    let input = pipes::input().map_err(|error| Failure::local("cannot read standard input", error))?;
    let output = pipes::output().map_err(|error| Failure::local("cannot write standard output", error))?;
    // Told to end, the session is told, too: otherwise it would wait for us to come back.
    let _guard = interrupt::guard();
    ends.reach();
    tokio::select! {
        ended = line.take_in(input) => ended,
        ended = line.give_out(output) => ended,
        ended = line.keep(first, way) => ended,
        never = line.end_unwanted() => never,
    }
}

/// What outlives the sockets.
struct Line<'a> {
    ends: &'a Ends,
    state: Mutex<State>,
    to_send: Notify,
    to_give: Notify,
    room: Notify,
}

#[derive(Default)]
struct State {
    outbox: Outbox,
    intake: Intake,
    /// Received and not given to OpenSSH; bounded by the window.
    waiting: VecDeque<Bytes>,
    welcome: Option<Welcome>,
    ping: Option<u64>,
    pong: Option<u64>,
    /// OpenSSH will write no more.
    ended: bool,
    told: bool,
    /// The session has ended the stream.
    over: bool,
}

/// How a connection ended.
enum Ended {
    /// Both know it.
    Over,
    /// The transport broke.
    Cut,
}

impl<'a> Line<'a> {
    fn new(ends: &'a Ends) -> Self {
        let (to_send, to_give, room) = (Notify::new(), Notify::new(), Notify::new());
        Self { ends, state: Mutex::default(), to_send, to_give, room }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends, whatever is still to be read, when nobody wants an answer to it.
    async fn end_unwanted(&self) -> Result<(), Failure> {
        self.ends.come_by(Why::Unread).await;
        self.end();
        pending().await
    }

    /// The session is told that nothing more comes; whoever keeps the connection ends the rest.
    fn end(&self) {
        self.state().ended = true;
        self.to_send.notify_one();
    }

    /// From OpenSSH into the outbox. A keystroke shares its buffer with the next ones.
    async fn take_in(&self, mut input: Input) -> Result<(), Failure> {
        let mut buffer = BytesMut::new();
        loop {
            while !self.state().outbox.has_room() {
                self.room.notified().await;
            }
            if buffer.capacity() < LEAST {
                buffer.reserve(HEAD + PIECE);
            }
            buffer.put_bytes(0, HEAD);
            loop {
                match input.read_buf(&mut (&mut buffer).limit(PIECE)).await {
                    Ok(0) => {
                        self.ends.come(Why::Written);
                        self.end();
                        return pending().await;
                    }
                    Ok(_) => break,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(Failure::local("cannot read standard input", error)),
                }
            }
            self.state().outbox.push(buffer.split());
            self.to_send.notify_one();
        }
    }

    /// From the session to OpenSSH. Once that reads no more the rest is dropped, up to the session's end.
    async fn give_out(&self, mut output: Output) -> Result<(), Failure> {
        let mut wanted = true;
        loop {
            let (next, over) = {
                let mut state = self.state();
                (state.waiting.pop_front(), state.over)
            };
            let Some(bytes) = next else {
                if over {
                    return Ok(());
                }
                self.to_give.notified().await;
                continue;
            };
            if wanted && !give(&mut output, &bytes).await? {
                wanted = false;
                self.ends.come(Why::Unread);
                self.end();
            }
            self.state().intake.pass_on(bytes.len());
            self.to_send.notify_one();
        }
    }

    /// Puts one socket after the other below the stream.
    async fn keep(&self, first: Socket, way: &(impl Way + Sync)) -> Result<(), Failure> {
        let mut socket = first;
        loop {
            match self.connected(socket).await? {
                // What has arrived is given out; that ends the program.
                Ended::Over if self.state().over => return pending().await,
                Ended::Over => return Ok(()),
                Ended::Cut => socket = self.reconnect(way).await?,
            }
        }
    }

    async fn reconnect(&self, way: &(impl Way + Sync)) -> Result<Socket, Failure> {
        let cut = Instant::now();
        let mut pause = PAUSE.0;
        let mut told = false;
        loop {
            let welcome = self.state().welcome.as_ref().map(|welcome| welcome.grace_ms);
            let grace = welcome.map_or(WELCOME, Duration::from_millis);
            let until = cut + grace;
            let last = match timeout(until - Instant::now().min(until), way.again()).await {
                Ok(Ok(socket)) => {
                    if told {
                        way.tell("flare: the connection is back");
                    }
                    return Ok(socket);
                }
                Ok(Err(failure)) => failure,
                Err(_) => lost("it could not be resumed in time"),
            };
            if !matches!(last.exit, Exit::Unavailable | Exit::Timeout | Exit::Limit)
                || Instant::now() >= until
            {
                return Err(last);
            }
            if !told && cut.elapsed() >= UNHEARD {
                told = true;
                way.tell(&format!(
                    "flare: the connection to the session broke ({last}); trying to resume it for {} s",
                    grace.as_secs()
                ));
            }
            sleep(pause.min(until - Instant::now().min(until))).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    /// Speaks on one socket until it or the stream ends.
    async fn connected(&self, socket: Socket) -> Result<Ended, Failure> {
        let Socket { mut sink, mut stream } = socket;
        let resume = {
            let mut state = self.state();
            (state.told, state.ping, state.pong) = (false, None, None);
            state.welcome.as_ref().map(|welcome| Resume {
                id: welcome.id.clone(),
                secret: Secret::new(welcome.secret.expose().clone()),
                received: state.intake.received(),
            })
        };
        let resumes = resume.is_some();
        let open = Frame::Open(Open { resume }).encode();
        if sink.send(Message::Binary(open)).await.is_err() {
            return Ok(Ended::Cut);
        }
        if resumes {
            let first = timeout(WELCOME, stream.next());
            let Ok(Some(Ok(Message::Binary(first)))) = first.await else { return Ok(Ended::Cut) };
            match Frame::decode(first) {
                Ok(Frame::Welcome(welcome)) => {
                    let mut state = self.state();
                    state.outbox.resume(welcome.received).map_err(|broken| lost(&broken.to_string()))?;
                    state.intake.resume();
                }
                Ok(Frame::Refused(refusal)) => return Err(refused(&refusal)),
                _ => return Err(lost("the session answers in another language")),
            }
        } else {
            // Nothing has ever arrived, so all of it is said again.
            self.state().outbox.resume(0).map_err(|broken| lost(&broken.to_string()))?;
        }
        self.room.notify_one();
        let writing = async {
            loop {
                while let Some(message) = self.next_message() {
                    if sink.feed(Message::Binary(message)).await.is_err() {
                        return Ended::Cut;
                    }
                }
                if sink.flush().await.is_err() {
                    return Ended::Cut;
                }
                if self.state().told {
                    sleep(GOODBYE).await;
                    return Ended::Over;
                }
                self.to_send.notified().await;
            }
        };
        let reading = async {
            let mut asked = false;
            loop {
                let message = match timeout(PING, stream.next()).await {
                    Ok(Some(Ok(message))) => message,
                    Ok(_) => return Ok(self.closed()),
                    Err(_) if asked => return Ok(Ended::Cut),
                    Err(_) => {
                        asked = true;
                        self.state().ping = Some(0);
                        self.to_send.notify_one();
                        continue;
                    }
                };
                asked = false;
                match message {
                    Message::Binary(bytes) => {
                        let taken = Frame::decode(bytes).map_err(|broken| lost(&broken.to_string()));
                        if let Some(ended) = self.take(taken?)? {
                            return Ok(ended);
                        }
                    }
                    Message::Close(_) => return Ok(self.closed()),
                    _ => {}
                }
            }
        };
        tokio::select! {
            ended = reading => ended,
            ended = writing => Ok(ended),
        }
    }

    /// A socket that closes after our farewell is the answer to it.
    fn closed(&self) -> Ended {
        if self.state().told { Ended::Over } else { Ended::Cut }
    }

    fn next_message(&self) -> Option<Bytes> {
        let mut state = self.state();
        if let Some(to) = state.intake.acknowledgement() {
            return Some(Frame::Ack(to).encode());
        }
        if let Some(number) = state.ping.take() {
            return Some(Frame::Ping(number).encode());
        }
        if let Some(number) = state.pong.take() {
            return Some(Frame::Pong(number).encode());
        }
        if let Some(data) = state.outbox.next_message() {
            return Some(data);
        }
        if state.ended && !state.told {
            state.told = true;
            return Some(Frame::End(state.outbox.end()).encode());
        }
        None
    }

    fn take(&self, frame: Frame) -> Result<Option<Ended>, Failure> {
        let broken = |broken: Broken| lost(&broken.to_string());
        let mut state = self.state();
        match frame {
            Frame::Data(at, bytes) => {
                state.intake.accept(at, bytes.len()).map_err(broken)?;
                state.waiting.push_back(bytes);
                self.to_give.notify_one();
            }
            Frame::Ack(to) => {
                state.outbox.acknowledge(to).map_err(broken)?;
                self.room.notify_one();
            }
            Frame::Ping(number) => {
                state.pong = Some(number);
                self.to_send.notify_one();
            }
            Frame::Pong(_) => {}
            Frame::End(at) if at == state.intake.received() => {
                state.over = true;
                self.to_give.notify_one();
                return Ok(Some(Ended::Over));
            }
            Frame::Welcome(welcome) if state.welcome.is_none() => state.welcome = Some(welcome),
            Frame::Refused(refusal) => return Err(refused(&refusal)),
            Frame::End(_) | Frame::Welcome(_) | Frame::Open(_) => return Err(broken(Broken::Order)),
        }
        Ok(None)
    }
}

/// `false` when nobody reads any more.
async fn give(output: &mut Output, bytes: &[u8]) -> Result<bool, Failure> {
    let given = match output.write_all(bytes).await {
        Ok(()) => output.flush().await,
        Err(error) => Err(error),
    };
    match given {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::local("cannot write standard output", error)),
    }
}

fn lost(why: &str) -> Failure {
    Failure::new(Exit::Unavailable, format!("the connection to the session is lost: {why}"))
        .hint("Connect again; the session goes on.")
}

fn refused(refusal: &Refusal) -> Failure {
    Failure::new(Exit::Conflict, format!("the connection to the session is lost: {}", refusal.message))
        .hint("Connect again; the session goes on.")
}
