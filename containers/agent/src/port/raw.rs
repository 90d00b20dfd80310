//! `GET /v1/ports/{port}/tcp`: one TCP connection over a WebSocket. An empty message ends its direction, so that the other
//! one can go on.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use http::Request;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::connect;
use crate::activity::{Activity, Reason};
use crate::agent::Agent;
use crate::reply::{Refused, Reply};
use crate::websocket;

/// Longest message in.
const MESSAGE: usize = 1 << 20;
const BUFFER: usize = 64 << 10;

/// Answers the upgrade once the port has taken the connection.
pub(super) async fn upgrade(
    agent: &Arc<Agent>,
    port: u16,
    mut request: Request<Incoming>,
) -> Result<Reply, Refused> {
    let place = agent.port_places.take()?;
    let (reply, upgrade) = websocket::accept(&mut request)?;
    let stream = connect(agent, port).await?;
    let activity = Arc::clone(&agent.activity);
    tokio::spawn(async move {
        if let Err(problem) = carry(&activity, upgrade, stream).await {
            tracing::debug!(%problem, "a forwarded connection broke");
        }
        drop(place);
    });
    Ok(reply)
}

async fn carry(activity: &Activity, upgrade: OnUpgrade, stream: TcpStream) -> io::Result<()> {
    let mut config = WebSocketConfig::default().read_buffer_size(BUFFER).write_buffer_size(0);
    config.max_message_size = Some(MESSAGE);
    config.max_frame_size = Some(MESSAGE);
    let socket = websocket::open(upgrade, config).await?;
    let (mut sink, mut messages) = socket.split();
    let (mut from, mut to) = stream.into_split();
    let inward = async {
        while let Some(message) = messages.next().await {
            match message.map_err(io::Error::other)? {
                Message::Binary(bytes) if bytes.is_empty() => to.shutdown().await?,
                Message::Binary(bytes) => {
                    activity.note(Reason::Preview);
                    to.write_all(&bytes).await?;
                }
                Message::Close(_) => break,
                Message::Text(_) => return Err(io::Error::new(io::ErrorKind::InvalidData, "a text message")),
                // Pings are answered by the library.
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
        Ok(())
    };
    let outward = async {
        loop {
            let mut buffer = BytesMut::with_capacity(BUFFER);
            let length = from.read_buf(&mut buffer).await?;
            sink.send(Message::Binary(buffer.freeze())).await.map_err(io::Error::other)?;
            if length == 0 {
                break;
            }
        }
        // The caller says when it is done, too.
        std::future::pending::<io::Result<Bytes>>().await
    };
    tokio::select! {
        ended = inward => ended,
        ended = outward => ended.map(drop),
    }
}
