//! One viewer's conversation over its WebSocket.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use burstflare_ports::wire::terminal::{
    CONTROL_LIMIT, DATA_LIMIT, FromViewer, Hello, ToViewer, VIEW_PROTOCOL,
};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::OnUpgrade;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Message};

use super::life::{Life, Seat};
use super::outbox::Item;
use crate::server::Connection;
use crate::websocket;

/// For the viewer's first message.
const GREETING: Duration = Duration::from_secs(10);
/// A viewer that says nothing for so long is asked whether it is there.
const SILENCE: Duration = Duration::from_secs(30);
/// For what a viewer typed before its connection broke.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// A connection that takes nothing for so long is broken.
const WRITE: Duration = Duration::from_secs(60);
/// How long taking typed bytes is told of later, to go along with their echo.
const TYPED: Duration = Duration::from_millis(50);
/// People type little, and the library fills as much with zeros before each of its reads.
const BUFFER: usize = 4 << 10;

type Sink = SplitSink<WebSocketStream<Connection>, Message>;
type Source = SplitStream<WebSocketStream<Connection>>;

/// Serves a view until either side ends it.
pub(super) async fn serve(life: Arc<Life>, upgrade: OnUpgrade) -> io::Result<()> {
    let mut config = WebSocketConfig::default().read_buffer_size(BUFFER).write_buffer_size(0);
    config.max_message_size = Some(DATA_LIMIT);
    config.max_frame_size = Some(DATA_LIMIT);
    config.max_write_buffer_size = 4 * DATA_LIMIT;
    let (mut sink, mut source) = websocket::open(upgrade, config).await?.split();
    let hello = match tokio::time::timeout(GREETING, greeting(&mut source)).await {
        Ok(Ok(hello)) => hello,
        Ok(Err(code)) => return refuse(&mut sink, code).await,
        Err(_) => return refuse(&mut sink, "timeout").await,
    };
    let seat = match life.join(hello) {
        Ok(seat) => seat,
        Err(refused) => return refuse(&mut sink, refused.code).await,
    };
    drop(life);
    let listening = listen(&mut source, &seat);
    tokio::pin!(listening);
    let code = tokio::select! {
        code = &mut listening => code,
        ended = speak(&mut sink, &seat) => {
            // Who hung up may have typed before.
            if ended.is_err() {
                let _ = tokio::time::timeout(LAST_WORDS, listening).await;
            }
            return ended;
        }
    };
    match code {
        Some(code) => refuse(&mut sink, code).await,
        None => Ok(()),
    }
}

async fn greeting(source: &mut Source) -> Result<Hello, &'static str> {
    let Some(Ok(Message::Text(text))) = source.next().await else { return Err("invalid") };
    match control(text.as_str())? {
        FromViewer::Hello(hello) if hello.protocol != VIEW_PROTOCOL => Err("protocol"),
        FromViewer::Hello(hello) if !hello.viewer.as_deref().is_none_or(is_name) => Err("invalid"),
        FromViewer::Hello(hello) => Ok(hello),
        _ => Err("invalid"),
    }
}

fn is_name(text: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (16..=64).contains(&text.len()) && text.bytes().all(known)
}

fn control(text: &str) -> Result<FromViewer, &'static str> {
    if text.len() > CONTROL_LIMIT {
        return Err("too_large");
    }
    serde_json::from_str(text).map_err(|_| "invalid")
}

/// Ends the view, saying why.
async fn refuse(sink: &mut Sink, code: &str) -> io::Result<()> {
    let last = async {
        sink.feed(text(&ToViewer::Gone(code.to_owned()))?).await.map_err(io::Error::other)?;
        close(sink, CloseCode::Policy).await
    };
    tokio::time::timeout(GREETING, last).await.unwrap_or(Ok(()))
}

async fn close(sink: &mut Sink, code: CloseCode) -> io::Result<()> {
    let frame = CloseFrame { code, reason: "".into() };
    sink.send(Message::Close(Some(frame))).await.map_err(io::Error::other)
}

fn text(message: &ToViewer) -> io::Result<Message> {
    Ok(Message::Text(serde_json::to_string(message)?.into()))
}

/// Hears the viewer out. A code when it breaks the rules, nothing when it left.
async fn listen(source: &mut Source, seat: &Seat) -> Option<&'static str> {
    loop {
        // `speak` asks in between; an answer is a message like any other.
        let message = match tokio::time::timeout(2 * SILENCE, source.next()).await {
            Err(_) => return Some("timeout"),
            Ok(None | Some(Err(_) | Ok(Message::Close(_)))) => return None,
            Ok(Some(Ok(message))) => message,
        };
        match message {
            Message::Binary(bytes) => match seat.type_in(bytes) {
                true => {}
                false => return Some("too_fast"),
            },
            Message::Text(text) => match control(text.as_str()) {
                Ok(FromViewer::Ack(bytes)) => seat.acknowledge(bytes),
                Ok(FromViewer::Size(size)) => seat.resize(size),
                Ok(FromViewer::Hello(_)) => return Some("invalid"),
                Err(code) => return Some(code),
            },
            _ => {}
        }
    }
}

/// Tells the viewer everything. What is there when the last piece has gone out goes as one.
async fn speak(sink: &mut Sink, seat: &Seat) -> io::Result<()> {
    let mut typed = None;
    let mut asked = tokio::time::interval(SILENCE);
    asked.tick().await;
    loop {
        let Some((item, took)) = seat.take() else {
            return close(sink, CloseCode::Normal).await;
        };
        typed = took.or(typed);
        let Some(item) = item else {
            tokio::select! {
                () = seat.ready.notified() => {}
                () = tokio::time::sleep(TYPED), if typed.is_some() => {
                    if let Some(typed) = typed.take() {
                        send(sink, [text(&ToViewer::Typed(typed))?]).await?;
                    }
                }
                _ = asked.tick() => send(sink, [Message::Ping(Bytes::new())]).await?,
            }
            continue;
        };
        let first = match item {
            Item::Data(bytes) => Message::Binary(bytes),
            Item::Control(message) => text(&message)?,
        };
        match typed.take() {
            Some(typed) => send(sink, [first, text(&ToViewer::Typed(typed))?]).await?,
            None => send(sink, [first]).await?,
        }
    }
}

async fn send<const N: usize>(sink: &mut Sink, messages: [Message; N]) -> io::Result<()> {
    let sending = async {
        for message in messages {
            sink.feed(message).await?;
        }
        sink.flush().await
    };
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the viewer takes nothing");
    tokio::time::timeout(WRITE, sending).await.map_err(late)?.map_err(io::Error::other)
}
