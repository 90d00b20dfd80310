//! Carries standard input and output over the agent's SSH WebSocket, as `flare ssh`'s ProxyCommand does: a stand-in
//! with which the tests put real OpenSSH clients in front of an agent.
//!
//! `ws-bridge SOCKET KEY EPOCH PUBLIC-KEY-FILE`
#![expect(clippy::expect_used, reason = "a tool for tests")]

use burstflare_ports::wire::{EPOCH_HEADER, SSH_KEY_HEADER};
use bytes::BytesMut;
use futures_util::{SinkExt, StreamExt};
use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().expect("SOCKET KEY EPOCH PUBLIC-KEY-FILE");
    let (socket, key, epoch, public) = (next(), next(), next(), next());
    let line = std::fs::read_to_string(public).expect("a public key");
    let request = Request::builder()
        .uri("ws://agent/v1/ssh")
        .header("host", "agent")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", generate_key())
        .header("authorization", format!("Bearer {key}"))
        .header(EPOCH_HEADER, epoch)
        .header(SSH_KEY_HEADER, line.trim())
        .body(())
        .expect("a request");
    let stream = UnixStream::connect(socket).await.expect("the agent");
    let (socket, _) = tokio_tungstenite::client_async(request, stream).await.expect("an upgrade");
    let (mut sink, mut source) = socket.split();
    let up = async {
        let mut stdin = tokio::io::stdin();
        loop {
            let mut buffer = BytesMut::with_capacity(64 << 10);
            if !matches!(stdin.read_buf(&mut buffer).await, Ok(length) if length > 0) {
                break;
            }
            if sink.send(Message::Binary(buffer.freeze())).await.is_err() {
                break;
            }
        }
        let _ = sink.close().await;
    };
    let down = async {
        let mut stdout = tokio::io::stdout();
        while let Some(Ok(message)) = source.next().await {
            let Message::Binary(bytes) = message else { continue };
            if stdout.write_all(&bytes).await.is_err() || stdout.flush().await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
    // Reading standard input blocks a thread that nothing can interrupt.
    std::process::exit(0);
}
