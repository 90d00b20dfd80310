//! `POST /v1/exec`: one command, its output as JSON lines while it runs.

mod text;

use std::collections::BTreeMap;
use std::io;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use burstflare_ports::wire::{ExecOutput, ExecRequest};
use bytes::Bytes;
use hyper::body::Incoming;
use rustix::process::Signal;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::text::{Piece, Splitter};
use crate::activity::Reason;
use crate::agent::Agent;
use crate::body;
use crate::process::Terminal;
use crate::reaper::{Child, Exit, kill_group, signal_name};
use crate::reply::{self, Refused, Reply};

const BODY_LIMIT: usize = 1 << 20;
const ARGUMENTS: usize = 1024;
const ARGUMENT_BYTES: usize = 128 << 10;
const DEFAULT_DEADLINE: Duration = Duration::from_secs(3600);
const LONGEST_DEADLINE: Duration = Duration::from_secs(24 * 3600);
const BUFFER: usize = 16 << 10;
/// Lines on their way to the caller; a full flow makes the command wait.
const IN_FLIGHT: usize = 4;
/// How long output of processes that outlive the command is still taken along.
const AFTERMATH: Duration = Duration::from_millis(250);

type Lines = mpsc::Sender<io::Result<Bytes>>;

/// Starts the command; the answer's body is its output.
pub(crate) async fn exec(agent: &Arc<Agent>, body: Incoming) -> Result<Reply, Refused> {
    let body = body::whole(body, BODY_LIMIT).await?;
    let request: ExecRequest =
        serde_json::from_slice(&body).map_err(|error| Refused::invalid(error.to_string()))?;
    check(&request.argv, request.cwd.as_deref(), &request.env)?;
    let (lines, flow) = mpsc::channel(IN_FLIGHT);
    tokio::spawn(run(Arc::clone(agent), request, lines));
    Ok(reply::flow("application/x-ndjson", flow))
}

/// Refuses what cannot be passed to a program.
pub(crate) fn check(
    argv: &[String],
    cwd: Option<&str>,
    env: &BTreeMap<String, String>,
) -> Result<(), Refused> {
    let bytes: usize = argv.iter().map(|argument| argument.len() + 1).sum();
    let program = argv.first().map_or("", String::as_str);
    if program.is_empty() || argv.len() > ARGUMENTS || bytes > ARGUMENT_BYTES {
        return Err(Refused::invalid("`argv` takes 1 to 1,024 items of at most 128 KiB together."));
    }
    if cwd.is_some_and(|cwd| !cwd.starts_with('/')) {
        return Err(Refused::invalid("`cwd` has to be absolute."));
    }
    if env.keys().any(|name| name.is_empty() || name.contains(['=', '\0'])) {
        return Err(Refused::invalid("`env` holds a name that is none."));
    }
    let texts = argv.iter().chain(env.values()).map(String::as_str).chain(cwd);
    if texts.into_iter().any(|text| text.contains('\0')) {
        return Err(Refused::invalid("NUL bytes cannot be passed to a command."));
    }
    Ok(())
}

async fn run(agent: Arc<Agent>, request: ExecRequest, lines: Lines) {
    // Held for as long as somebody waits for the command.
    let _held = agent.activity.hold(Reason::Exec);
    let last = match start(&agent, &request) {
        Ok(child) => {
            let deadline =
                request.timeout_ms.map_or(DEFAULT_DEADLINE, Duration::from_millis).min(LONGEST_DEADLINE);
            attend(child, deadline, &lines).await
        }
        Err(problem) => Some(ExecOutput::Error(format!("The command could not be started: {problem}."))),
    };
    if let Some(last) = last {
        let _ = lines.send(line(&last)).await;
    }
}

fn start(agent: &Agent, request: &ExecRequest) -> io::Result<Child> {
    let (program, arguments) = request.argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = agent.surroundings.command(program, request.cwd.as_deref(), &request.env, Terminal::No);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    agent.children.start(&mut command)
}

/// Carries the output and answers the last line; `None` when the caller went away.
async fn attend(child: Child, deadline: Duration, lines: &Lines) -> Option<ExecOutput> {
    let Child { pid, exit, pipes } = child;
    let mut ended = None;
    let last = tokio::select! {
        last = carry(pipes, exit, &mut ended, lines) => last,
        () = tokio::time::sleep(deadline) => {
            Some(ExecOutput::Error(format!("The deadline of {} ms passed; the command was killed.", deadline.as_millis())))
        }
        () = lines.closed() => None,
    };
    if ended.is_none() {
        kill_group(pid, Signal::KILL);
    }
    last
}

async fn carry(
    pipes: crate::reaper::Pipes,
    mut exit: tokio::sync::oneshot::Receiver<Exit>,
    ended: &mut Option<Exit>,
    lines: &Lines,
) -> Option<ExecOutput> {
    let (Some(stdout), Some(stderr)) = (pipes.stdout, pipes.stderr) else { return None };
    let streams = pipe::Receiver::from_owned_fd(stdout.into())
        .and_then(|stdout| Ok((stdout, pipe::Receiver::from_owned_fd(stderr.into())?)));
    let (mut stdout, mut stderr) = match streams {
        Ok(streams) => streams,
        Err(problem) => return Some(ExecOutput::Error(problem.to_string())),
    };
    let (mut out, mut err) = (Stream::new(Name::Stdout), Stream::new(Name::Stderr));
    let mut aftermath = None;
    while !(ended.is_some() && out.closed && err.closed) {
        let piece = tokio::select! {
            piece = out.read(&mut stdout), if !out.closed => piece,
            piece = err.read(&mut stderr), if !err.closed => piece,
            result = &mut exit, if ended.is_none() => {
                *ended = Some(result.unwrap_or(Exit::Code(255)));
                aftermath = Some(Instant::now() + AFTERMATH);
                continue;
            }
            () = tokio::time::sleep_until(aftermath.unwrap_or_else(Instant::now)), if aftermath.is_some() => break,
        };
        for output in piece {
            lines.send(line(&output)).await.ok()?;
        }
    }
    for output in [out.finish(), err.finish()].into_iter().flatten() {
        lines.send(line(&output)).await.ok()?;
    }
    Some(match (*ended)? {
        Exit::Code(code) => ExecOutput::Exit(code),
        Exit::Signal(signal) => ExecOutput::Signal(signal_name(signal).into()),
    })
}

#[derive(Clone, Copy)]
enum Name {
    Stdout,
    Stderr,
}

/// One of the two output streams.
struct Stream {
    name: Name,
    splitter: Splitter,
    buffer: Vec<u8>,
    closed: bool,
}

impl Stream {
    fn new(name: Name) -> Self {
        Self { name, splitter: Splitter::default(), buffer: vec![0; BUFFER], closed: false }
    }

    /// Cancel-safe: a read that is dropped has read nothing.
    async fn read(&mut self, pipe: &mut pipe::Receiver) -> Vec<ExecOutput> {
        let length = pipe.read(&mut self.buffer).await.unwrap_or(0);
        self.closed = length == 0;
        let pieces = self.splitter.push(self.buffer.get(..length).unwrap_or_default());
        pieces.into_iter().map(|piece| self.output(piece)).collect()
    }

    fn finish(&mut self) -> Option<ExecOutput> {
        self.splitter.finish().map(|piece| self.output(piece))
    }

    fn output(&self, piece: Piece) -> ExecOutput {
        match (self.name, piece) {
            (Name::Stdout, Piece::Text(text)) => ExecOutput::Stdout(text),
            (Name::Stdout, Piece::Binary(bytes)) => ExecOutput::StdoutB64(STANDARD.encode(bytes)),
            (Name::Stderr, Piece::Text(text)) => ExecOutput::Stderr(text),
            (Name::Stderr, Piece::Binary(bytes)) => ExecOutput::StderrB64(STANDARD.encode(bytes)),
        }
    }
}

fn line(output: &ExecOutput) -> io::Result<Bytes> {
    let mut line = serde_json::to_vec(output)?;
    line.push(b'\n');
    Ok(line.into())
}
