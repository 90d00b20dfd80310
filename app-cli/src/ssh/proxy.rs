//! Carries the SSH stream between OpenSSH's pipes and a WebSocket: large pieces, and each side only as fast as the
//! other one takes them.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio_tungstenite::tungstenite::Message;

use crate::client::Socket;
use crate::exit::{Exit, Failure};

/// Bytes of one message at most.
const PIECE: usize = 256 << 10;
/// What the kernel may hold in each pipe, where it lets us ask for it.
const PIPE: usize = 1 << 20;
/// How long the other side may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

/// Pumps until either side ends.
///
/// # Errors
/// When the connection to the server breaks.
pub async fn pump(socket: Socket) -> Result<(), Failure> {
    let Socket { mut sink, mut stream } = socket;
    let mut input = input().map_err(|error| Failure::local("cannot read standard input", error))?;
    let mut output = output().map_err(|error| Failure::local("cannot write standard output", error))?;
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

/// Standard input: by the reactor where it is a pipe, as under OpenSSH, else by a thread.
fn input() -> io::Result<Box<dyn AsyncRead + Send + Unpin>> {
    let fd = io::stdin().as_fd().try_clone_to_owned()?;
    widen(&fd);
    Ok(match pipe::Receiver::from_owned_fd(fd) {
        Ok(receiver) => Box::new(receiver),
        Err(_) => Box::new(tokio::io::stdin()),
    })
}

fn output() -> io::Result<Box<dyn AsyncWrite + Send + Unpin>> {
    let fd = io::stdout().as_fd().try_clone_to_owned()?;
    widen(&fd);
    Ok(match pipe::Sender::from_owned_fd(fd) {
        Ok(sender) => Box::new(sender),
        Err(_) => Box::new(tokio::io::stdout()),
    })
}

/// Fewer turns per megabyte; where it is refused it only takes longer.
fn widen(fd: &OwnedFd) {
    let _ = rustix::pipe::fcntl_setpipe_size(fd, PIPE);
}
