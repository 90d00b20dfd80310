//! One session channel's program: started, fed, its output carried, its end reported.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use russh::server::{Handle, Msg};
use russh::{ChannelWriteHalf, Pty};
use rustix::process::Pid;
use rustix::termios::Winsize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;

use super::inbox::Inbox;
use super::{modes, signals};
use crate::agent::Agent;
use crate::process::{NO_SHELL, Terminal};
use crate::pty::{self, Master};
use crate::reaper::{Child, Exit};
use crate::sftp;

/// RFC 4254 section 5.2.
pub(super) const STDERR: u32 = 1;
/// What shells end with where there is no such program.
const NOT_FOUND: u32 = 127;
const BUFFER: usize = 64 << 10;
/// What the kernel may hold of a program's output: fewer turns between it and us.
const PIPE: usize = 512 << 10;
/// After the end of a terminal's program: how long a silent, how long a busy terminal is still read.
const SILENT: Duration = Duration::from_millis(60);
const BUSY: Duration = Duration::from_millis(500);

/// The sending half of a channel.
pub(super) type Out = ChannelWriteHalf<Msg>;

/// What a client asked for before it started a program.
#[derive(Default)]
pub(super) struct Wish {
    /// A terminal.
    pub(super) terminal: Option<TerminalWish>,
    /// Variables.
    pub(super) env: BTreeMap<String, String>,
}

/// A terminal as the client has it.
pub(super) struct TerminalWish {
    /// Value of TERM.
    pub(super) term: String,
    /// In characters and pixels.
    pub(super) size: Winsize,
    /// RFC 4254 section 8.
    pub(super) modes: Vec<(Pty, u32)>,
}

/// What to run.
pub(super) enum Program {
    /// The user's login shell.
    Shell,
    /// A line for the user's shell.
    Command(Vec<u8>),
}

/// How a program is called.
struct Start<'a> {
    program: &'a OsStr,
    name: Option<String>,
    arguments: Vec<OsString>,
}

impl<'a> Start<'a> {
    /// By the shell; where there is none the words of the line are the program and its arguments, split at blanks alone.
    fn of(shell: Option<&'a str>, program: &'a Program) -> io::Result<Self> {
        let none = || io::Error::new(io::ErrorKind::Unsupported, NO_SHELL);
        match (program, shell) {
            (Program::Shell, shell) => {
                let shell = shell.ok_or_else(none)?;
                let name = format!("-{}", shell.rsplit('/').next().unwrap_or(shell));
                Ok(Self { program: shell.as_ref(), name: Some(name), arguments: Vec::new() })
            }
            (Program::Command(line), Some(shell)) => {
                let arguments = vec!["-c".into(), OsStr::from_bytes(line).to_owned()];
                Ok(Self { program: shell.as_ref(), name: None, arguments })
            }
            (Program::Command(line), None) => {
                let mut words = line
                    .split(u8::is_ascii_whitespace)
                    .filter(|word| !word.is_empty())
                    .map(OsStr::from_bytes);
                let program = words.next().ok_or_else(none)?;
                Ok(Self { program, name: None, arguments: words.map(OsStr::to_owned).collect() })
            }
        }
    }
}

/// Says on a channel why its program does not run, and ends it as a shell does that finds none.
pub(super) async fn refuse(problem: io::Error, out: Out) {
    let _ = out.extended_data_bytes(STDERR, format!("flare-agent: {problem}\r\n").into_bytes()).await;
    let _ = out.eof().await;
    let _ = out.exit_status(NOT_FOUND).await;
    let _ = out.close().await;
}

/// A program that runs, and what its channel can still do to it.
pub(super) struct Running {
    /// Its process, and group.
    pub(super) pid: Pid,
    /// Its terminal.
    pub(super) terminal: Option<Arc<Master>>,
    child: Child,
}

/// Starts a program.
pub(super) fn start(agent: &Agent, wish: &Wish, program: &Program) -> io::Result<Running> {
    let start = Start::of(agent.surroundings.shell, program)?;
    let mut env = wish.env.clone();
    let attached = match &wish.terminal {
        Some(wish) => {
            let pair = pty::open(wish.size)?;
            modes::apply(&pair.slave, &wish.modes)?;
            env.insert("TERM".into(), wish.term.clone());
            env.insert("SSH_TTY".into(), pair.name.clone());
            Some(pair)
        }
        None => None,
    };
    let terminal = if attached.is_some() { Terminal::Controlling } else { Terminal::No };
    let mut command = agent.surroundings.command(start.program, None, &env, terminal);
    if let Some(name) = start.name {
        command.arg0(name);
    }
    command.args(start.arguments);
    let terminal = match attached {
        Some(pair) => {
            command.stdin(pair.slave.try_clone()?).stdout(pair.slave.try_clone()?).stderr(pair.slave);
            Some(Arc::new(pair.master))
        }
        None => {
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            None
        }
    };
    let named = |problem: io::Error| {
        io::Error::new(problem.kind(), format!("{}: {problem}", start.program.to_string_lossy()))
    };
    let child = agent.children.start(&mut command).map_err(named)?;
    // `command` held the terminal's other end; it goes here, so that the program is its only holder.
    drop(command);
    Ok(Running { pid: child.pid, terminal, child })
}

/// Carries everything until the program has ended, then says how.
pub(super) async fn attend(running: Running, inbox: Arc<Inbox>, out: Out, session: Handle) {
    let Running { terminal, child, .. } = running;
    let exit = match terminal {
        Some(master) => with_terminal(&master, child, &inbox, &out).await,
        None => with_pipes(child, &inbox, &out).await,
    };
    inbox.close();
    let _ = out.eof().await;
    match exit {
        Exit::Code(code) => {
            let _ = out.exit_status(u32::from(code)).await;
        }
        Exit::Signal(signal) => {
            let name = signals::ended_by(signal);
            let _ = session.exit_signal_request(out.id(), name, false, String::new(), String::new()).await;
        }
    }
    let _ = out.close().await;
}

async fn with_terminal(master: &Master, child: Child, inbox: &Inbox, out: &Out) -> Exit {
    let feeding = async {
        // The end of the client's input means nothing to a terminal.
        while let Some(bytes) = inbox.next().await {
            if master.write(&bytes).await.is_err() {
                break;
            }
        }
        inbox.close();
        std::future::pending::<()>().await;
    };
    let mut exit = child.exit;
    let carrying = async {
        let exit = loop {
            tokio::select! {
                batch = master.read() => match batch {
                    Some(batch) => if out.data_bytes(batch).await.is_err() { return Exit::Code(255) },
                    None => break (&mut exit).await.unwrap_or(Exit::Code(255)),
                },
                exit = &mut exit => break exit.unwrap_or(Exit::Code(255)),
            }
        };
        // Its last words may still be on their way through the kernel. Who else holds the terminal does not count.
        let rest = async {
            while let Ok(Some(batch)) = tokio::time::timeout(SILENT, master.read()).await {
                if out.data_bytes(batch).await.is_err() {
                    break;
                }
            }
        };
        let _ = tokio::time::timeout(BUSY, rest).await;
        exit
    };
    tokio::select! {
        exit = carrying => exit,
        () = feeding => Exit::Code(255),
    }
}

async fn with_pipes(child: Child, inbox: &Inbox, out: &Out) -> Exit {
    let Child { exit, pipes, .. } = child;
    let stdin = pipes.stdin.and_then(|pipe| pipe::Sender::from_owned_fd(pipe.into()).ok());
    let stdout = pipes.stdout.and_then(|pipe| pipe::Receiver::from_owned_fd(pipe.into()).ok());
    let stderr = pipes.stderr.and_then(|pipe| pipe::Receiver::from_owned_fd(pipe.into()).ok());
    let feeding = async {
        if let Some(mut stdin) = stdin {
            while let Some(bytes) = inbox.next().await {
                if stdin.write_all(&bytes).await.is_err() {
                    break;
                }
            }
        }
        // The pipe is closed by now: the program sees the end.
        inbox.close();
        std::future::pending::<()>().await;
    };
    // As sshd does, the channel lives as long as anybody can still write into it.
    let carrying = async {
        tokio::join!(carry(stdout, None, out), carry(stderr, Some(STDERR), out));
        exit.await.unwrap_or(Exit::Code(255))
    };
    tokio::select! {
        exit = carrying => exit,
        () = feeding => Exit::Code(255),
    }
}

async fn carry(pipe: Option<pipe::Receiver>, stream: Option<u32>, out: &Out) {
    let Some(mut pipe) = pipe else { return };
    // Where it is refused, it only takes longer.
    let _ = rustix::pipe::fcntl_setpipe_size(&pipe, PIPE);
    loop {
        let mut buffer = BytesMut::with_capacity(BUFFER);
        match pipe.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let sent = match stream {
            None => out.data_bytes(buffer).await,
            Some(stream) => out.extended_data_bytes(stream, buffer).await,
        };
        if sent.is_err() {
            return;
        }
    }
}

/// Serves SFTP on a channel; the work is done by a thread of its own, because disks block.
pub(super) async fn transfer(agent: Arc<Agent>, inbox: Arc<Inbox>, out: Out) {
    let (requests, input) = tokio::sync::mpsc::channel::<Bytes>(4);
    let (output, mut replies) = tokio::sync::mpsc::channel::<Bytes>(4);
    let serving = tokio::task::spawn_blocking(move || sftp::serve(&agent, input, &output));
    let feeding = async {
        while let Some(bytes) = inbox.next().await {
            if requests.send(bytes).await.is_err() {
                break;
            }
        }
        drop(requests);
        inbox.close();
    };
    let carrying = async {
        while let Some(bytes) = replies.recv().await {
            if out.data_bytes(bytes).await.is_err() {
                break;
            }
        }
    };
    tokio::join!(feeding, carrying);
    let code = u32::from(!matches!(serving.await, Ok(Ok(()))));
    let _ = out.eof().await;
    let _ = out.exit_status(code).await;
    let _ = out.close().await;
}
