//! Carries the SSH stream between OpenSSH's pipes and one WebSocket, for machines whose agent cannot resume: large
//! pieces, and each side only as fast as the other one takes them.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;

use super::pipes;
use crate::client::Socket;
use crate::exit::{Exit, Failure};

/// Bytes of one message at most.
const PIECE: usize = 256 << 10;
/// How long the other side may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

/// Pumps until either side ends.
///
/// # Errors
/// When the connection to the server breaks.
pub async fn pump(socket: Socket) -> Result<(), Failure> {
    let Socket { mut sink, mut stream } = socket;
    let mut input = pipes::input().map_err(|error| Failure::local("cannot read standard input", error))?;
    let mut output =
        pipes::output().map_err(|error| Failure::local("cannot write standard output", error))?;
    let up = async {
        let mut buffer = BytesMut::with_capacity(PIECE);
        loop {
            buffer.reserve(PIECE);
            match input.read_buf(&mut buffer).await {
                Ok(0) => break,
                Ok(_) => sink
                    .send(Message::Binary(buffer.split().freeze()))
                    .await
                    .map_err(|error| broken(&error))?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Failure::local("cannot read standard input", error)),
            }
        }
        // OpenSSH is done: whatever still comes is of no use to it.
        let _ = sink.close().await;
        Ok(())
    };
    let down = async {
        while let Some(message) = stream.next().await {
            let bytes: Bytes = match message.map_err(|error| broken(&error))? {
                Message::Binary(bytes) => bytes,
                Message::Close(_) => break,
                _ => continue,
            };
            if let Err(error) = output.write_all(&bytes).await {
                if error.kind() == io::ErrorKind::BrokenPipe {
                    break;
                }
                return Err(Failure::local("cannot write standard output", error));
            }
            output.flush().await.map_err(|error| Failure::local("cannot write standard output", error))?;
        }
        Ok(())
    };
    tokio::pin!(up, down);
    tokio::select! {
        ended = &mut down => ended,
        ended = &mut up => {
            ended?;
            let _ = tokio::time::timeout(GOODBYE, down).await;
            Ok(())
        }
    }
}

fn broken(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Exit::Unavailable, format!("the connection to the session broke: {error}"))
        .hint("Connect again; the session goes on.")
}
