//! One connection to a terminal: shows what comes, sends what is typed.

use std::io;

use burstflare_ports::wire::terminal::{Ended, FromViewer, Hello, Size, ToViewer};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use super::keys::Keys;
use super::local;
use super::typed::Typed;
use crate::client::Socket;
use crate::exit::Failure;

/// Bytes that were shown and are not told of yet.
const TOLD: u64 = 32 << 10;

/// Where a terminal is shown.
pub trait Screen: AsyncWrite + Send + Unpin {}
impl<T: AsyncWrite + Send + Unpin> Screen for T {}

/// How a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// The user wants to go.
    Detached,
    /// The terminal's program ended.
    Ended(Ended),
    /// The agent ended it, with this code.
    Gone(String),
    /// It broke.
    Broken,
}

/// What outlives a connection.
pub struct Sitting {
    /// Pieces that were typed; closed when the local terminal is gone.
    pub typing: mpsc::Receiver<Vec<u8>>,
    /// The window changed.
    pub resized: Signal,
    /// Finds our own keys.
    pub keys: Keys,
    /// What is not confirmed.
    pub typed: Typed,
    /// Whether nothing is to be typed.
    pub read_only: bool,
    /// Bytes whose fate is unknown because the other side forgot.
    pub doubtful: bool,
}

impl Sitting {
    /// Before the first connection.
    ///
    /// # Errors
    /// When the system has no signals for us.
    pub fn new(typing: mpsc::Receiver<Vec<u8>>, read_only: bool) -> Result<Self, Failure> {
        let resized = signal(SignalKind::window_change())
            .map_err(|error| Failure::local("cannot listen to signals", error))?;
        let (keys, typed) = (Keys::default(), Typed::default());
        Ok(Self { typing, resized, keys, typed, read_only, doubtful: false })
    }

    /// Takes what was typed; whether to detach.
    pub fn typed(&mut self, piece: Option<Vec<u8>>) -> bool {
        let Some(piece) = piece else { return true };
        let (passed, detach) = self.keys.push(&piece);
        if !self.read_only {
            self.typed.push(&passed);
        }
        detach
    }

    /// Carries one connection from its greeting to its end. Cancel-safe in so far as what is unconfirmed stays known.
    pub async fn carry(&mut self, socket: Socket, hello: Hello, screen: &mut impl Screen) -> End {
        match self.converse(socket, hello, screen).await {
            Ok(end) => end,
            Err(_) => End::Broken,
        }
    }

    async fn converse(
        &mut self,
        socket: Socket,
        hello: Hello,
        screen: &mut impl Screen,
    ) -> Result<End, tokio_tungstenite::tungstenite::Error> {
        let Socket { mut sink, mut stream } = socket;
        sink.send(control(&FromViewer::Hello(hello))).await?;
        let (mut shown, mut told) = (0_u64, 0_u64);
        let mut welcome = false;
        loop {
            if welcome {
                while let Some(piece) = self.typed.take() {
                    sink.send(Message::Binary(piece.into())).await?;
                }
            }
            let message = tokio::select! {
                message = stream.next() => message,
                piece = self.typing.recv(), if self.typed.has_room() => {
                    if self.typed(piece) {
                        while let Some(piece) = self.typed.take() {
                            sink.send(Message::Binary(piece.into())).await?;
                        }
                        let _ = sink.close().await;
                        return Ok(End::Detached);
                    }
                    continue;
                }
                _ = self.resized.recv() => {
                    sink.send(control(&FromViewer::Size(local::size()))).await?;
                    continue;
                }
            };
            match message {
                None | Some(Ok(Message::Close(_))) => return Ok(End::Broken),
                Some(Err(error)) => return Err(error),
                Some(Ok(Message::Binary(bytes))) => {
                    show(screen, &bytes).await?;
                    shown += u64::try_from(bytes.len()).unwrap_or_default();
                    if shown - told >= TOLD {
                        told = shown;
                        sink.send(control(&FromViewer::Ack(shown))).await?;
                    }
                }
                Some(Ok(Message::Text(text))) => match serde_json::from_str(text.as_str()) {
                    Ok(ToViewer::Welcome(said)) => {
                        self.doubtful |= !self.read_only && !self.typed.resume(said.typed);
                        welcome = true;
                    }
                    Ok(ToViewer::Typed(typed)) => self.typed.confirm(typed),
                    Ok(ToViewer::Exit(ended)) => return Ok(End::Ended(ended)),
                    Ok(ToViewer::Gone(code)) => return Ok(End::Gone(code)),
                    // What a newer agent says beside that is for newer viewers.
                    Ok(ToViewer::Screen(_)) | Err(_) => {}
                },
                Some(Ok(_)) => {}
            }
        }
    }
}

async fn show(screen: &mut impl Screen, bytes: &[u8]) -> io::Result<()> {
    screen.write_all(bytes).await?;
    screen.flush().await
}

fn control(message: &FromViewer) -> Message {
    Message::Text(serde_json::to_string(message).unwrap_or_default().into())
}

/// How a view begins.
#[must_use]
pub fn hello(viewer: &str, size: Size, scrollback: u16, read_only: bool) -> Hello {
    Hello {
        protocol: burstflare_ports::wire::terminal::VIEW_PROTOCOL,
        // Who only looks on takes no room from who works.
        size: (!read_only).then_some(size),
        scrollback,
        viewer: Some(viewer.to_owned()),
        read_only,
    }
}
