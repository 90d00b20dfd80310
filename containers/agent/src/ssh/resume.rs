//! Who may resume what: the streams of this machine by their ids, and the first message of a client.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use burstflare_ports::secret::Secret;
use burstflare_ports::wire::Refusal;
use burstflare_ports::wire::resume::{Frame, Open, Resume, Welcome};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use russh::keys::PublicKey;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_tungstenite::tungstenite::Message;

use super::link::{GRACE, Link};
use super::stream::Socket;

/// For a client's first message.
const HELLO: Duration = Duration::from_secs(20);
/// For a place to become free when the oldest stream without a socket is given up.
const EVICTION: Duration = Duration::from_secs(2);

/// The streams of this machine.
#[derive(Default)]
pub(super) struct Streams(Mutex<HashMap<String, Kept>>);

struct Kept {
    /// As its digest: comparing digests takes the same time for every wrong secret.
    secret: blake3::Hash,
    /// The key that was allowed when it began.
    key: PublicKey,
    link: Link,
}

/// A stream that has begun, for as long as it lives.
pub(super) struct Begun {
    /// What SSH is spoken on.
    pub(super) link: Link,
    id: String,
    streams: Arc<Streams>,
    _place: OwnedSemaphorePermit,
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.streams.kept().remove(&self.id);
    }
}

impl Streams {
    fn kept(&self) -> MutexGuard<'_, HashMap<String, Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hears what the client wants of a socket, and does it: `Some` when a new stream has begun.
    pub(super) async fn greet(
        self: &Arc<Self>,
        mut socket: Socket,
        key: &PublicKey,
        places: &Arc<Semaphore>,
    ) -> io::Result<Option<Begun>> {
        let first = tokio::time::timeout(HELLO, socket.next());
        let Ok(Some(Ok(Message::Binary(first)))) = first.await else {
            return Err(io::Error::other("no first message"));
        };
        match Frame::decode(first) {
            Ok(Frame::Open(Open { resume: None })) => {}
            Ok(Frame::Open(Open { resume: Some(wish) })) => {
                let mut socket = Some(socket);
                self.resume(&mut socket, &wish, key);
                if let Some(socket) = socket {
                    // One answer for every reason: who guesses learns nothing.
                    let gone = "The machine does not keep this connection any more.";
                    refuse(socket, "connection_gone", gone).await;
                }
                return Ok(None);
            }
            _ => {
                refuse(socket, "invalid", "The first message has to say which stream is meant.").await;
                return Ok(None);
            }
        }
        let Some(place) = self.place(places).await else {
            refuse(socket, "too_many_connections", "The session serves as many SSH connections as it can.")
                .await;
            return Ok(None);
        };
        let (id, secret) = (random()?, random()?);
        let link = Link::new(socket, welcome(&id, &secret, 0));
        let kept = Kept { secret: blake3::hash(secret.as_bytes()), key: key.clone(), link: link.clone() };
        self.kept().insert(id.clone(), kept);
        Ok(Some(Begun { link, id, streams: Arc::clone(self), _place: place }))
    }

    /// Takes the socket where it may go on with that stream.
    fn resume(&self, socket: &mut Option<Socket>, wish: &Resume, key: &PublicKey) {
        let kept = self.kept();
        let secret = blake3::hash(wish.secret.expose().as_bytes());
        let found = kept.get(&wish.id).filter(|kept| {
            // `Hash` compares in constant time.
            kept.secret == secret && kept.key.key_data() == key.key_data()
        });
        let Some(found) = found else { return };
        let greeting = |received| welcome(&wish.id, wish.secret.expose(), received);
        if let Err(broken) = found.link.attach(socket, wish.received, greeting) {
            tracing::debug!(%broken, "a stream could not be resumed");
        }
    }

    /// A place for another connection; the stream that has been without a socket for longest makes room.
    async fn place(&self, places: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = Arc::clone(places).try_acquire_owned() {
            return Some(place);
        }
        let oldest = {
            let kept = self.kept();
            let alone = kept.values().filter_map(|kept| Some((kept.link.alone_since()?, kept.link.clone())));
            alone.min_by_key(|(since, _)| *since).map(|(_, link)| link)
        };
        oldest?.give_up();
        tokio::time::timeout(EVICTION, Arc::clone(places).acquire_owned()).await.ok()?.ok()
    }
}

fn welcome(id: &str, secret: &str, received: u64) -> Bytes {
    let grace_ms = u64::try_from(GRACE.as_millis()).unwrap_or(u64::MAX);
    let secret = Secret::new(secret.to_owned());
    Frame::Welcome(Welcome { id: id.to_owned(), secret, received, grace_ms }).encode()
}

async fn refuse(mut socket: Socket, code: &str, message: &str) {
    let refusal = Frame::Refused(Refusal { code: code.to_owned(), message: message.to_owned() });
    let saying = async {
        socket.send(Message::Binary(refusal.encode())).await?;
        socket.close(None).await
    };
    let _ = tokio::time::timeout(HELLO, saying).await;
}

/// 256 random bits as text.
fn random() -> io::Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(blake3::Hash::from_bytes(bytes).to_hex().to_string())
}
