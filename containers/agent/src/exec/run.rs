//! One command from its start to its end, whatever carries its streams.

use std::io;
use std::pin::pin;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use burstflare_ports::wire::{ExecOutput, ExecRequest, TtySize};
use bytes::Bytes;
use rustix::process::{Pid, Signal};
use rustix::termios::Winsize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::input::Input;
use crate::agent::Agent;
use crate::process::Terminal;
use crate::pty::{self, Master};
use crate::reaper::{Child, Exit, Pipes, kill_group, signal_name};

const DEFAULT_DEADLINE: Duration = Duration::from_secs(3600);
const LONGEST_DEADLINE: Duration = Duration::from_secs(24 * 3600);
/// Between TERM and KILL.
const GRACE: Duration = Duration::from_secs(5);
const BUFFER: usize = 16 << 10;
/// How long output of processes that outlive the command is still taken along.
const AFTERMATH: Duration = Duration::from_millis(250);
/// What a terminal says for "no more input".
const END_OF_TRANSMISSION: &[u8] = &[4];

/// Of the two output streams.
#[derive(Debug, Clone, Copy)]
pub(super) enum Name {
    Stdout,
    Stderr,
}

/// Some output.
pub(super) type Piece = (Name, Bytes);

/// What a caller does to a command beside giving it input.
#[derive(Debug, Clone, Copy)]
pub(super) enum Control {
    Resize(TtySize),
    Signal(Signal),
}

/// What connects a command with its caller.
pub(super) struct Wires {
    /// Its standard input; none is an empty one.
    pub(super) input: Option<Arc<Input>>,
    pub(super) control: mpsc::Receiver<Control>,
    /// Takes its output. When the other end is dropped the caller is gone.
    pub(super) pieces: mpsc::Sender<Piece>,
    /// Told how much of the input was taken.
    pub(super) taken: watch::Sender<u64>,
}

/// Why a command is ended before its time.
enum Why {
    Deadline(Duration),
    Output(u64),
    Gone,
}

/// What both halves of the supervision look at.
struct Shared {
    left: AtomicU64,
    used_up: Notify,
    ended: AtomicBool,
}

/// Runs a command. The answer is its last word; `None` when the caller went away.
pub(super) async fn supervise(agent: &Agent, request: &ExecRequest, wires: Wires) -> Option<ExecOutput> {
    let Wires { input, control, pieces, taken } = wires;
    let started = match start(agent, request, input.is_some()) {
        Ok(started) => started,
        Err(problem) => {
            return Some(ExecOutput::Error(format!("The command could not be started: {problem}.")));
        }
    };
    let Started { child: Child { pid, exit, pipes: Pipes { stdin, stdout, stderr } }, master } = started;
    let deadline = request.timeout_ms.map_or(DEFAULT_DEADLINE, Duration::from_millis).min(LONGEST_DEADLINE);
    let shared = Shared {
        left: AtomicU64::new(request.output_limit.unwrap_or(u64::MAX)),
        used_up: Notify::new(),
        ended: AtomicBool::new(false),
    };
    let readers = match &master {
        Some(master) => Ok((Reader::Terminal(Arc::clone(master)), Reader::Closed)),
        None => Reader::pipe(stdout).and_then(|stdout| Ok((stdout, Reader::pipe(stderr)?))),
    };
    let (out, err) = match readers {
        Ok(readers) => readers,
        Err(problem) => {
            kill_group(pid, Signal::KILL);
            return Some(ExecOutput::Error(problem.to_string()));
        }
    };
    let mut carrying = pin!(carry(out, err, exit, &pieces, &shared));
    let beside = async {
        tokio::join!(
            feed(stdin, master.as_deref(), input.as_deref(), &taken),
            obey(pid, master.as_deref(), control, &shared)
        );
        std::future::pending::<std::convert::Infallible>().await
    };
    let why = tokio::select! {
        exit = &mut carrying => return Some(word(exit)),
        () = tokio::time::sleep(deadline) => Why::Deadline(deadline),
        () = shared.used_up.notified() => Why::Output(request.output_limit.unwrap_or_default()),
        () = pieces.closed(), if !request.detach => Why::Gone,
        never = beside => match never {},
    };
    kill_group(pid, Signal::TERM);
    if master.is_some() {
        // Shells at a terminal ignore TERM.
        kill_group(pid, Signal::HUP);
    }
    let obeyed = tokio::time::timeout(GRACE, &mut carrying).await.is_ok();
    // The number of a group is not given away while somebody is in it, so where its leader is gone this reaches those
    // it left behind.
    kill_group(pid, Signal::KILL);
    if !obeyed {
        let _ = tokio::time::timeout(GRACE, &mut carrying).await;
    }
    match why {
        Why::Deadline(deadline) => {
            Some(ExecOutput::TimedOut(u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX)))
        }
        Why::Output(limit) => Some(ExecOutput::OutputLimit(limit)),
        Why::Gone => None,
    }
}

fn word(exit: Exit) -> ExecOutput {
    match exit {
        Exit::Code(code) => ExecOutput::Exit(code),
        Exit::Signal(signal) => ExecOutput::Signal(signal_name(signal).into()),
    }
}

struct Started {
    child: Child,
    master: Option<Arc<Master>>,
}

fn start(agent: &Agent, request: &ExecRequest, with_input: bool) -> io::Result<Started> {
    let (program, arguments) = request.argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut env = request.env.clone();
    let pair = request.tty.map(|tty| pty::open(size(tty))).transpose()?;
    if pair.is_some() {
        env.entry("TERM".to_owned()).or_insert_with(|| "xterm-256color".to_owned());
    }
    let terminal = if pair.is_some() { Terminal::Controlling } else { Terminal::No };
    let mut command = agent.surroundings.command(program, request.cwd.as_deref(), &env, terminal);
    command.args(arguments);
    let master = match pair {
        Some(pair) => {
            command.stdin(pair.slave.try_clone()?).stdout(pair.slave.try_clone()?).stderr(pair.slave);
            Some(Arc::new(pair.master))
        }
        None => {
            command.stdin(if with_input { Stdio::piped() } else { Stdio::null() });
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            None
        }
    };
    let child = agent.children.start(&mut command)?;
    // `command` held the terminal's other end; it goes here, so that the program is its only holder.
    drop(command);
    Ok(Started { child, master })
}

fn size(tty: TtySize) -> Winsize {
    Winsize { ws_row: tty.rows.max(1), ws_col: tty.cols.max(1), ws_xpixel: 0, ws_ypixel: 0 }
}

/// Where output comes from.
enum Reader {
    Pipe(pipe::Receiver, Vec<u8>),
    Terminal(Arc<Master>),
    Closed,
}

impl Reader {
    fn pipe(pipe: Option<impl Into<std::os::fd::OwnedFd>>) -> io::Result<Self> {
        let Some(pipe) = pipe else { return Ok(Self::Closed) };
        pipe::Receiver::from_owned_fd(pipe.into()).map(|pipe| Self::Pipe(pipe, vec![0; BUFFER]))
    }

    fn is_open(&self) -> bool {
        !matches!(self, Self::Closed)
    }

    /// Cancel-safe: a read that is dropped has read nothing. Empty at the end.
    async fn read(&mut self) -> Bytes {
        let bytes = match self {
            Self::Pipe(pipe, buffer) => {
                let length = pipe.read(buffer).await.unwrap_or(0);
                Bytes::copy_from_slice(buffer.get(..length).unwrap_or_default())
            }
            Self::Terminal(master) => master.read().await.map_or_else(Bytes::new, Into::into),
            Self::Closed => Bytes::new(),
        };
        if bytes.is_empty() {
            *self = Self::Closed;
        }
        bytes
    }
}

/// Carries the output until the command has ended. What nobody takes any more, or is over the limit, is thrown away:
/// a command that is being ended must not hang on a full pipe.
async fn carry(
    mut out: Reader,
    mut err: Reader,
    mut exit: oneshot::Receiver<Exit>,
    pieces: &mpsc::Sender<Piece>,
    shared: &Shared,
) -> Exit {
    let mut ended = None;
    let mut aftermath = None;
    while ended.is_none() || out.is_open() || err.is_open() {
        let (name, mut bytes) = tokio::select! {
            bytes = out.read(), if out.is_open() => (Name::Stdout, bytes),
            bytes = err.read(), if err.is_open() => (Name::Stderr, bytes),
            result = &mut exit, if ended.is_none() => {
                ended = Some(result.unwrap_or(Exit::Code(255)));
                shared.ended.store(true, Ordering::Relaxed);
                aftermath = Some(Instant::now() + AFTERMATH);
                continue;
            }
            () = tokio::time::sleep_until(aftermath.unwrap_or_else(Instant::now)), if aftermath.is_some() => break,
        };
        let left = shared.left.load(Ordering::Relaxed);
        if bytes.len() as u64 > left {
            bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            shared.used_up.notify_one();
        }
        shared.left.store(left - bytes.len() as u64, Ordering::Relaxed);
        if !bytes.is_empty() {
            let _ = pieces.send((name, bytes)).await;
        }
    }
    ended.unwrap_or(Exit::Code(255))
}

/// Hands the input on. What a command does not read any more is taken and thrown away, so that its caller can go on.
async fn feed(
    stdin: Option<std::process::ChildStdin>,
    master: Option<&Master>,
    input: Option<&Input>,
    taken: &watch::Sender<u64>,
) {
    let Some(input) = input else { return };
    let mut pipe = stdin.and_then(|stdin| pipe::Sender::from_owned_fd(stdin.into()).ok());
    while let Some(bytes) = input.take().await {
        match (&mut pipe, master) {
            (Some(open), _) => {
                if open.write_all(&bytes).await.is_err() {
                    pipe = None;
                }
            }
            (None, Some(master)) => {
                let _ = master.write(&bytes).await;
            }
            (None, None) => {}
        }
        taken.send_modify(|total| *total += bytes.len() as u64);
    }
    if let Some(master) = master {
        let _ = master.write(END_OF_TRANSMISSION).await;
    }
}

async fn obey(pid: Pid, master: Option<&Master>, mut control: mpsc::Receiver<Control>, shared: &Shared) {
    while let Some(wish) = control.recv().await {
        match wish {
            Control::Resize(tty) => {
                if let Some(Err(problem)) = master.map(|master| master.resize(size(tty))) {
                    tracing::debug!(%problem, "a terminal was not resized");
                }
            }
            // Its number may be somebody else's once it was buried.
            Control::Signal(signal) if !shared.ended.load(Ordering::Relaxed) => kill_group(pid, signal),
            Control::Signal(_) => {}
        }
    }
}
