//! A channel and a connection, each carried into the other until both directions have ended.

use std::sync::Arc;

use bytes::BytesMut;
use russh::ChannelOpenFailure;
use russh::server::ChannelOpenHandle;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::channel::Out;
use super::inbox::Inbox;
use super::reach::{self, From, To};
use crate::agent::Agent;

const BUFFER: usize = 32 << 10;

/// What a client wants to reach.
pub(super) enum Target {
    /// A host and port, as the machine sees them.
    Tcp(String, u16),
    /// A unix socket.
    Unix(String),
}

/// Connects, answers the open request, and carries.
pub(super) async fn open(
    agent: Arc<Agent>,
    target: Target,
    reply: ChannelOpenHandle,
    inbox: Arc<Inbox>,
    out: Out,
) {
    let reached: Result<(From, To), ChannelOpenFailure> = match &target {
        Target::Tcp(host, port) => reach::tcp(&agent, host, *port).await,
        Target::Unix(path) => reach::unix(&agent, path).await,
    };
    match reached {
        Ok((from, to)) => {
            reply.accept().await;
            carry(from, to, &inbox, &out).await;
        }
        Err(reason) => reply.reject(reason).await,
    }
}

/// Carries both directions; the end of one is passed on while the other one goes on.
pub(super) async fn carry(mut from: From, mut to: To, inbox: &Inbox, out: &Out) {
    let inward = async {
        while let Some(bytes) = inbox.next().await {
            if to.write_all(&bytes).await.is_err() {
                break;
            }
        }
        inbox.close();
        let _ = to.shutdown().await;
    };
    let outward = async {
        loop {
            let mut buffer = BytesMut::with_capacity(BUFFER);
            if !matches!(from.read_buf(&mut buffer).await, Ok(length) if length > 0) {
                break;
            }
            if out.data_bytes(buffer).await.is_err() {
                return;
            }
        }
        let _ = out.eof().await;
    };
    tokio::join!(inward, outward);
    let _ = out.close().await;
}
