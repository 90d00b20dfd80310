//! `GET /v1/exec`: a command on a WebSocket. The first message is the request; then binary messages are standard input,
//! text messages [`ExecInput`]. Back come binary messages with a stream's number first, and [`ExecOutput`] as text.
//!
//! Input is bounded by a window that the caller keeps to, so that a command which does not read never blocks signals
//! and resizes behind its input; output waits in the connection when the caller does not read.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use burstflare_ports::wire::{EXEC_STDERR, EXEC_STDOUT, ExecInput, ExecOutput};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use http::Request;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use rustix::process::Signal;
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::input::Input;
use super::run::{Control, Name, Piece, Wires, supervise};
use super::{BODY_LIMIT, IN_FLIGHT, read};
use crate::activity::Reason;
use crate::agent::Agent;
use crate::reply::{Refused, Reply};
use crate::websocket;

/// For the first message.
const FIRST: Duration = Duration::from_secs(30);
/// Resizes and signals that wait; more are dropped.
const CONTROLS: usize = 16;
/// For the last message, and the closing.
const LAST: Duration = Duration::from_secs(30);

/// Answers the upgrade and runs a command on what becomes of the connection.
pub(crate) fn upgrade(agent: &Arc<Agent>, request: &mut Request<Incoming>) -> Result<Reply, Refused> {
    let (reply, upgrade) = websocket::accept(request)?;
    let agent = Arc::clone(agent);
    tokio::spawn(async move {
        if let Err(problem) = serve(agent, upgrade).await {
            tracing::debug!(%problem, "a command's connection broke");
        }
    });
    Ok(reply)
}

async fn serve(agent: Arc<Agent>, upgrade: OnUpgrade) -> io::Result<()> {
    let mut config = WebSocketConfig::default().read_buffer_size(64 << 10).write_buffer_size(0);
    config.max_message_size = Some(BODY_LIMIT);
    config.max_frame_size = Some(BODY_LIMIT);
    let socket = websocket::open(upgrade, config).await?;
    let (mut sink, mut stream) = socket.split();
    let first = tokio::time::timeout(FIRST, stream.next()).await.map_err(io::Error::other)?;
    let request = match first {
        Some(Ok(Message::Text(text))) => read(text.as_bytes()),
        _ => Err(Refused::invalid("The first message is the request, as text.")),
    };
    let (request, inline) = match request {
        Ok(request) => request,
        Err(refused) => return farewell(&mut sink, &ExecOutput::Error(refused.message)).await,
    };
    let held = agent.activity.hold(Reason::Exec);
    let input = Arc::new(Input::default());
    let early = inline.map_or(0, |bytes| {
        input.push(&bytes);
        bytes.len() as u64
    });
    let (pieces, flowing) = mpsc::channel(IN_FLIGHT);
    let (controls, control) = mpsc::channel(CONTROLS);
    let (taken, progress) = watch::channel(0);
    let wires = Wires { input: Some(Arc::clone(&input)), control, pieces, taken };
    // A task of its own: it ends the command in good order when the caller is gone.
    let job = tokio::spawn(async move {
        let last = supervise(&agent, &request, wires).await;
        drop(held);
        last
    });
    tokio::select! {
        sent = send(&mut sink, flowing, progress, early) => sent?,
        () = listen(&mut stream, &input, &controls) => return Ok(()),
    }
    match job.await.map_err(io::Error::other)? {
        Some(last) => farewell(&mut sink, &last).await,
        None => Ok(()),
    }
}

/// Takes what the caller says, until they are gone or break a rule.
async fn listen(
    stream: &mut (impl Stream<Item = Result<Message, Error>> + Unpin),
    input: &Input,
    controls: &mpsc::Sender<Control>,
) {
    loop {
        match stream.next().await {
            Some(Ok(Message::Binary(bytes))) => {
                if !input.push(&bytes) {
                    return;
                }
            }
            Some(Ok(Message::Text(text))) => match serde_json::from_str::<ExecInput>(&text) {
                Ok(ExecInput::Eof) => input.end(),
                // A caller who floods us with them has the newest dropped.
                Ok(ExecInput::Resize(size)) => drop(controls.try_send(Control::Resize(size))),
                Ok(ExecInput::Signal(name)) => {
                    if let Some(signal) = signal(&name) {
                        let _ = controls.try_send(Control::Signal(signal));
                    }
                }
                Err(_) => return,
            },
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
            Some(Ok(Message::Close(_)) | Err(_)) | None => return,
        }
    }
}

/// Sends output and how much input was taken, until the command has ended.
async fn send(
    sink: &mut (impl Sink<Message, Error = Error> + Unpin),
    mut pieces: mpsc::Receiver<Piece>,
    mut progress: watch::Receiver<u64>,
    early: u64,
) -> io::Result<()> {
    let mut measured = true;
    loop {
        let message = tokio::select! {
            piece = pieces.recv() => match piece {
                Some(piece) => framed(piece),
                None => return Ok(()),
            },
            changed = progress.changed(), if measured => {
                measured = changed.is_ok();
                // What came with the request is not part of the window.
                let taken = progress.borrow_and_update().saturating_sub(early);
                text(&ExecOutput::Ack(taken))?
            }
        };
        sink.send(message).await.map_err(io::Error::other)?;
    }
}

fn framed((name, bytes): Piece) -> Message {
    let mut message = BytesMut::with_capacity(bytes.len() + 1);
    message.put_u8(match name {
        Name::Stdout => EXEC_STDOUT,
        Name::Stderr => EXEC_STDERR,
    });
    message.put(bytes);
    Message::Binary(Bytes::from(message))
}

fn text(output: &ExecOutput) -> io::Result<Message> {
    Ok(Message::Text(serde_json::to_string(output)?.into()))
}

async fn farewell(
    sink: &mut (impl Sink<Message, Error = Error> + Unpin),
    last: &ExecOutput,
) -> io::Result<()> {
    let message = text(last)?;
    let closing = async {
        sink.send(message).await?;
        sink.close().await
    };
    tokio::time::timeout(LAST, closing).await.map_err(io::Error::other)?.map_err(io::Error::other)
}

fn signal(name: &str) -> Option<Signal> {
    Some(match name {
        "HUP" => Signal::HUP,
        "INT" => Signal::INT,
        "QUIT" => Signal::QUIT,
        "TERM" => Signal::TERM,
        "KILL" => Signal::KILL,
        "USR1" => Signal::USR1,
        "USR2" => Signal::USR2,
        "WINCH" => Signal::WINCH,
        "CONT" => Signal::CONT,
        "STOP" => Signal::STOP,
        "TSTP" => Signal::TSTP,
        "ALRM" => Signal::ALARM,
        _ => return None,
    })
}
