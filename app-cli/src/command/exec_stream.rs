//! A command whose standard input is ours: over a WebSocket, input and output at the same time, at a terminal or not.

use std::os::fd::AsFd;

use burstflare_ports::wire::{EXEC_STDERR, EXEC_STDOUT, EXEC_WINDOW, ExecInput, ExecOutput, ExecRequest};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use serde::Serialize;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use super::exec::{broken, show, terminal};
use crate::client::{Call, Client, Socket, open_socket};
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};

const PIECE: usize = 32 << 10;

/// Runs a command; answers its exit code.
///
/// # Errors
/// When the server refuses or the command could not be started.
pub async fn run(
    context: &Context,
    client: &Client,
    session: &str,
    request: &ExecRequest,
    with_input: bool,
) -> Outcome {
    let call = Call::post(&["sessions", session, "attach"]).json(&json!({ "purpose": "exec" }));
    let attached = client.json(&call.within(std::time::Duration::from_secs(120))).await?;
    let (Some(path), Some(ticket)) = (attached["url_path"].as_str(), attached["ticket"].as_str()) else {
        return Err(Failure::new(Exit::Other, "the server's answer is not what this version understands"));
    };
    let mut socket = open_socket(client, &format!("{path}?ticket={ticket}")).await?;
    say(&mut socket, request).await?;
    let _raw = request.tty.and_then(|_| Raw::begin());
    let mut resized = signal(SignalKind::window_change())
        .map_err(|error| Failure::local("cannot listen to signals", error))?;
    let mut input = with_input.then(input);
    if input.is_none() {
        say(&mut socket, &ExecInput::Eof).await?;
    }
    let (mut sent, mut taken) = (0_u64, 0_u64);
    loop {
        let room = sent - taken + PIECE as u64 <= EXEC_WINDOW as u64;
        tokio::select! {
            piece = next(&mut input), if room && input.is_some() => match piece {
                Some(piece) => {
                    sent += piece.len() as u64;
                    give(&mut socket, Message::Binary(piece)).await?;
                }
                None => {
                    input = None;
                    say(&mut socket, &ExecInput::Eof).await?;
                }
            },
            _ = resized.recv(), if request.tty.is_some() => {
                say(&mut socket, &ExecInput::Resize(terminal())).await?;
            }
            message = socket.stream.next() => match message {
                Some(Ok(Message::Binary(bytes))) => output(context, &bytes),
                Some(Ok(Message::Text(text))) => match serde_json::from_str(&text) {
                    Ok(ExecOutput::Ack(total)) => taken = total.min(sent),
                    _ => if let Some(code) = show(context, text.as_bytes())? {
                        return Ok(code);
                    },
                },
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(broken()),
            },
        }
    }
}

fn output(context: &Context, bytes: &[u8]) {
    match bytes.split_first() {
        Some((&EXEC_STDOUT, bytes)) => context.output.out_bytes(bytes),
        Some((&EXEC_STDERR, bytes)) => context.output.err_bytes(bytes),
        // A stream that a later version knows.
        _ => {}
    }
}

async fn say(socket: &mut Socket, message: &(impl Serialize + Sync)) -> Result<(), Failure> {
    let text =
        serde_json::to_string(message).map_err(|error| Failure::local("cannot make the request", error))?;
    give(socket, Message::Text(text.into())).await
}

async fn give(socket: &mut Socket, message: Message) -> Result<(), Failure> {
    socket.sink.send(message).await.map_err(|_| broken())
}

async fn next(input: &mut Option<mpsc::Receiver<Bytes>>) -> Option<Bytes> {
    match input {
        Some(input) => input.recv().await,
        None => None,
    }
}

/// Our standard input, read ahead by two pieces.
fn input() -> mpsc::Receiver<Bytes> {
    let (sender, receiver) = mpsc::channel(2);
    tokio::spawn(async move {
        let mut stdin = tokio::io::stdin();
        let mut buffer = vec![0; PIECE];
        while let Ok(length @ 1..) = stdin.read(&mut buffer).await {
            let piece = Bytes::copy_from_slice(buffer.get(..length).unwrap_or_default());
            if sender.send(piece).await.is_err() {
                return;
            }
        }
    });
    receiver
}

/// Our terminal hands every key on, until this is dropped.
struct Raw(Termios);

impl Raw {
    fn begin() -> Option<Self> {
        let stdin = std::io::stdin();
        let before = tcgetattr(stdin.as_fd()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin.as_fd(), OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin().as_fd(), OptionalActions::Now, &self.0);
    }
}
