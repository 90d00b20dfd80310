//! One terminal: its programs, its screen, who looks at it. A task of its own carries it from the start of its program to
//! some time after its end.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use burstflare_ports::wire::terminal::{Cause, Ended, Hello, Size, Terminal, ToViewer, VIEWERS};
use bytes::Bytes;
use rustix::process::{Pid, Signal};
use rustix::termios::Winsize;
use tokio::sync::{Notify, oneshot, watch};

use super::outbox::{Item, Outbox};
use super::screen::Screen;
use super::typed::Typed;
use crate::activity::Reason;
use crate::agent::Agent;
use crate::pty::Master;
use crate::reaper::{Exit, kill_group, signal_name};
use crate::reply::Refused;

/// Output that the model takes before others of the agent's tasks are looked at again.
const TURN: Duration = Duration::from_millis(1);
/// Output between two looks at the clock.
const SLICE: usize = 64;
/// After the end of the program: how long a silent, how long a busy terminal is still read.
const SILENT: Duration = Duration::from_millis(60);
const BUSY: Duration = Duration::from_millis(500);
/// Between hanging up and killing.
const GRACE: Duration = Duration::from_secs(2);

/// A terminal that was made.
pub(super) struct Life {
    /// Names it.
    pub(super) id: u32,
    argv: Vec<String>,
    made: Instant,
    master: Arc<Master>,
    pid: Pid,
    agent: Arc<Agent>,
    /// Batches of output so far.
    batches: AtomicU64,
    /// Whether the program has ended: nobody waits for viewers any more.
    over: AtomicBool,
    state: Mutex<State>,
    /// A viewer got on, left, or came.
    moved: Notify,
    /// Somebody typed.
    typed: Notify,
    /// It is to be closed.
    closing: Notify,
    /// Everything is told.
    told: watch::Sender<bool>,
}

struct State {
    screen: Screen,
    viewers: Vec<Outbox>,
    numbers: u64,
    typed: Typed,
    ended: Option<Ended>,
    closing: bool,
}

/// A viewer's place; given back when dropped.
pub(super) struct Seat {
    life: Arc<Life>,
    number: u64,
    key: Option<String>,
    read_only: bool,
    /// Told when there is something to send.
    pub(super) ready: Arc<Notify>,
}

impl Life {
    /// Of a program that was started on this terminal.
    pub(super) fn new(
        id: u32,
        argv: Vec<String>,
        (master, size): (Master, Size),
        pid: Pid,
        agent: Arc<Agent>,
    ) -> Arc<Self> {
        let state = State {
            screen: Screen::new(size),
            viewers: Vec::new(),
            numbers: 0,
            typed: Typed::default(),
            ended: None,
            closing: false,
        };
        Arc::new(Self {
            id,
            argv,
            made: Instant::now(),
            master: Arc::new(master),
            pid,
            agent,
            batches: AtomicU64::new(0),
            over: AtomicBool::new(false),
            state: Mutex::new(state),
            moved: Notify::new(),
            typed: Notify::new(),
            closing: Notify::new(),
            told: watch::Sender::new(false),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As it is now.
    pub(super) fn describe(&self) -> Terminal {
        let state = self.state();
        Terminal {
            id: self.id,
            argv: self.argv.clone(),
            title: state.screen.title().to_owned(),
            size: state.screen.size(),
            viewers: u32::try_from(state.viewers.len()).unwrap_or(u32::MAX),
            age_ms: u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX),
            ended: state.ended.clone(),
        }
    }

    /// Whether its program has ended.
    pub(super) fn is_over(&self) -> bool {
        self.state().ended.is_some()
    }

    /// Whether it was told to close.
    pub(super) fn is_closing(&self) -> bool {
        self.state().closing
    }

    /// Waits until its program has ended and everything is told.
    pub(super) async fn ended(&self) {
        let mut over = self.told.subscribe();
        // The sender lives as long as we do.
        let _ = over.wait_for(|told| *told).await;
    }

    /// Hangs it up.
    pub(super) fn close(&self) {
        self.state().closing = true;
        self.closing.notify_one();
    }

    /// Lets a viewer in. One with the same name that is still there has lost its connection and goes.
    pub(super) fn join(self: &Arc<Self>, hello: Hello) -> Result<Seat, Refused> {
        let mut guard = self.state();
        let state = &mut *guard;
        if let Some(key) = &hello.viewer {
            for viewer in state.viewers.extract_if(.., |viewer| viewer.key.as_ref() == Some(key)) {
                viewer.ready.notify_one();
            }
        }
        if state.viewers.len() >= VIEWERS {
            return Err(Refused::busy(format!("{VIEWERS} viewers look at this terminal already.")));
        }
        state.numbers += 1;
        let number = state.numbers;
        let size = hello.size.map(Size::clamped);
        let mut outbox = Outbox::new(number, size, hello.viewer.clone());
        let ready = Arc::clone(&outbox.ready);
        let typed = hello.viewer.as_deref().map_or(0, |key| state.typed.accepted(key));
        let ended = state.ended.clone();
        let terminal = Terminal {
            id: self.id,
            argv: self.argv.clone(),
            title: state.screen.title().to_owned(),
            size: state.screen.size(),
            viewers: u32::try_from(state.viewers.len() + 1).unwrap_or(u32::MAX),
            age_ms: u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX),
            ended: ended.clone(),
        };
        let protocol = burstflare_ports::wire::terminal::VIEW_PROTOCOL;
        outbox.tell(ToViewer::Welcome(burstflare_ports::wire::terminal::Welcome {
            protocol,
            terminal,
            typed,
        }));
        // The others are shown the new size, this one everything.
        let wished: Vec<Size> = state.viewers.iter().filter_map(|viewer| viewer.size).chain(size).collect();
        self.fit(state, &wished);
        outbox.show(&state.screen, Cause::Join, hello.scrollback);
        if let Some(ended) = ended {
            outbox.end(&ended, &state.screen);
        }
        state.viewers.push(outbox);
        drop(guard);
        self.moved.notify_one();
        let (life, key, read_only) = (Arc::clone(self), hello.viewer, hello.read_only);
        Ok(Seat { life, number, key, read_only, ready })
    }

    /// Makes it as large as all windows can show.
    fn fit(&self, state: &mut State, wished: &[Size]) {
        let Some(size) = wished.iter().copied().reduce(Size::common) else { return };
        if size == state.screen.size() || state.ended.is_some() {
            return;
        }
        state.screen.resize(size);
        if let Err(problem) = self.master.resize(winsize(size)) {
            tracing::debug!(%problem, "a terminal kept its size");
        }
        for viewer in &mut state.viewers {
            viewer.show(&state.screen, Cause::Size, 0);
        }
    }

    fn refit(&self, state: &mut State) {
        let wished: Vec<Size> = state.viewers.iter().filter_map(|viewer| viewer.size).collect();
        self.fit(state, &wished);
    }

    /// Carries it until its program has ended and everything is told.
    pub(super) async fn run(self: Arc<Self>, mut exit: oneshot::Receiver<Exit>) {
        let reading = async {
            while let Some(batch) = self.read().await {
                self.publish(batch.freeze()).await;
            }
        };
        tokio::pin!(reading);
        let mut hung_up = false;
        let exit = {
            let (writing, closing) = (self.write(), self.hang_up());
            tokio::pin!(writing, closing);
            loop {
                tokio::select! {
                    // Nobody holds the other end; the program may live on without it.
                    () = &mut reading, if !hung_up => hung_up = true,
                    () = &mut writing => {}
                    () = &mut closing => {}
                    exit = &mut exit => break exit.unwrap_or(Exit::Code(255)),
                }
            }
        };
        // Its last words may still be on their way through the kernel. Who else holds the terminal does not count.
        self.over.store(true, Ordering::Relaxed);
        self.moved.notify_one();
        let latest = Instant::now() + BUSY;
        while !hung_up && Instant::now() < latest {
            let before = self.batches.load(Ordering::Relaxed);
            hung_up = tokio::time::timeout(SILENT, &mut reading).await.is_ok();
            if self.batches.load(Ordering::Relaxed) == before {
                break;
            }
        }
        let ended = match exit {
            Exit::Code(code) => Ended::Code(code),
            Exit::Signal(signal) => Ended::Signal(signal_name(signal).into()),
        };
        let mut guard = self.state();
        let state = &mut *guard;
        for viewer in &mut state.viewers {
            viewer.end(&ended, &state.screen);
        }
        state.ended = Some(ended);
        drop(guard);
        self.told.send_replace(true);
    }

    /// Waits to be closed, then ends the program's group: HUP, and KILL after a while. Never returns.
    async fn hang_up(&self) {
        while !self.state().closing {
            self.closing.notified().await;
        }
        self.signal(Signal::HUP);
        // Who is stopped cannot obey.
        self.signal(Signal::CONT);
        tokio::time::sleep(GRACE).await;
        self.signal(Signal::KILL);
        std::future::pending::<()>().await;
    }

    /// Only while it is ours: a buried process's id may be somebody else's.
    fn signal(&self, signal: Signal) {
        if self.agent.children.alive().contains(&self.pid) {
            kill_group(self.pid, signal);
        }
    }

    /// Waits until somebody can take output: while every viewer is behind, the programs wait.
    async fn room(&self) {
        while !self.over.load(Ordering::Relaxed) {
            let moved = self.moved.notified();
            let until = {
                let state = self.state();
                let waits: Option<Vec<Instant>> = state.viewers.iter().map(Outbox::waited_for).collect();
                waits.and_then(|waits| waits.into_iter().max()).filter(|until| *until > Instant::now())
            };
            let Some(until) = until else { break };
            let _ = tokio::time::timeout_at(until.into(), moved).await;
        }
    }

    /// The next output, once somebody can take it.
    async fn read(&self) -> Option<bytes::BytesMut> {
        self.room().await;
        self.master.read().await
    }

    /// Shows output, a little at a time: whatever it takes, others of the agent's tasks get their turn.
    async fn publish(&self, batch: Bytes) {
        self.batches.fetch_add(1, Ordering::Relaxed);
        let mut rest = batch;
        while !rest.is_empty() {
            // A part of the batch may be what brought the last viewer behind.
            self.room().await;
            {
                let begun = Instant::now();
                let mut guard = self.state();
                let state = &mut *guard;
                let mut taken = 0;
                while taken < rest.len() {
                    let end = (taken + SLICE).min(rest.len());
                    state.screen.feed(rest.get(taken..end).unwrap_or_default());
                    taken = end;
                    if begun.elapsed() > TURN {
                        break;
                    }
                }
                // Model and viewers have the same, so a viewer that comes next misses nothing and sees nothing twice.
                let shown = rest.split_to(taken);
                for viewer in &mut state.viewers {
                    viewer.send(&shown);
                }
            }
            tokio::task::yield_now().await;
        }
    }

    /// Gives the programs what was typed. Never returns.
    async fn write(&self) {
        loop {
            let next = self.state().typed.next();
            let Some((key, bytes)) = next else {
                self.typed.notified().await;
                continue;
            };
            if self.master.write(&bytes).await.is_err() {
                std::future::pending::<()>().await;
            }
            let Some(key) = key else { continue };
            let mut state = self.state();
            let written = state.typed.written(&key, &bytes);
            let viewer = state.viewers.iter_mut().find(|viewer| viewer.key.as_ref() == Some(&key));
            if let (Some(written), Some(viewer)) = (written, viewer) {
                viewer.took(written);
            }
        }
    }
}

impl Seat {
    fn with<T>(&self, act: impl FnOnce(&mut Outbox, &mut Screen) -> T) -> Option<T> {
        let mut guard = self.life.state();
        let state = &mut *guard;
        let outbox = state.viewers.iter_mut().find(|viewer| viewer.number == self.number)?;
        Some(act(outbox, &mut state.screen))
    }

    /// What to send next; `None` once there is nothing more, ever.
    pub(super) fn take(&self) -> Option<(Option<Item>, Option<u64>)> {
        self.with(|outbox, _| if outbox.is_done() { None } else { Some(outbox.take()) }).flatten()
    }

    /// The viewer dealt with so many bytes.
    pub(super) fn acknowledge(&self, bytes: u64) {
        if self.with(|outbox, screen| outbox.acknowledge(bytes, screen)) == Some(true) {
            self.life.moved.notify_one();
        }
    }

    /// Its window has another size.
    pub(super) fn resize(&self, size: Size) {
        let mut guard = self.life.state();
        let state = &mut *guard;
        if let Some(viewer) = state.viewers.iter_mut().find(|viewer| viewer.number == self.number) {
            viewer.size = Some(size.clamped());
        }
        self.life.refit(state);
    }

    /// It typed; `false` where it types more than may wait.
    pub(super) fn type_in(&self, bytes: Bytes) -> bool {
        if self.read_only || bytes.is_empty() {
            return true;
        }
        self.life.agent.activity.note(Reason::TerminalInput);
        let mut state = self.life.state();
        // Who was replaced types no more: its successor was told what had been taken.
        if !state.viewers.iter().any(|viewer| viewer.number == self.number) {
            return true;
        }
        let accepted = state.typed.accept(self.key.as_deref(), bytes);
        drop(state);
        self.life.typed.notify_one();
        accepted
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut guard = self.life.state();
        let state = &mut *guard;
        state.viewers.retain(|viewer| viewer.number != self.number);
        self.life.refit(state);
        drop(guard);
        self.life.moved.notify_one();
    }
}

/// A size for the kernel.
pub(super) fn winsize(size: Size) -> Winsize {
    Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 }
}
