//! Local forwarding (`ssh -L`): a channel to a port inside the machine.

use std::sync::Arc;

use bytes::BytesMut;
use russh::ChannelOpenFailure;
use russh::server::ChannelOpenHandle;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::channel::Out;
use super::inbox::Inbox;

const BUFFER: usize = 32 << 10;

/// Only the machine's own loopback: a session is no way to anywhere else.
pub(super) fn allowed(host: &str) -> bool {
    matches!(host, "localhost" | "127.0.0.1" | "::1" | "ip6-localhost" | "0.0.0.0" | "::")
}

/// Connects, answers the open request, and carries both directions until both have ended.
pub(super) async fn carry(host: String, port: u16, reply: ChannelOpenHandle, inbox: Arc<Inbox>, out: Out) {
    let hosts: &[&str] = match host.as_str() {
        "::1" | "::" => &["::1"],
        "127.0.0.1" | "0.0.0.0" => &["127.0.0.1"],
        _ => &["127.0.0.1", "::1"],
    };
    let mut connected = None;
    for host in hosts {
        if let Ok(stream) = TcpStream::connect((*host, port)).await {
            connected = Some(stream);
            break;
        }
    }
    let Some(stream) = connected else {
        reply.reject(ChannelOpenFailure::ConnectFailed).await;
        return;
    };
    let _ = stream.set_nodelay(true);
    reply.accept().await;
    let (mut from, mut to) = stream.into_split();
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
