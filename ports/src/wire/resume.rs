//! A stream of bytes that survives the WebSocket that carries it: from `flare`'s end of an SSH connection to the agent.
//!
//! A client asks for it by the WebSocket subprotocol [`SUBPROTOCOL`]; an agent that does not know it answers without
//! one and speaks plain bytes. Whoever carries the WebSocket in between knows nothing of it. Each binary message is one
//! [`Frame`]: a byte of kind, then
//!
//! | kind | frame | what follows |
//! |---|---|---|
//! | 1 | `Open`, the client's first | JSON [`Open`]: a new stream, or the one to resume and how much of it has arrived |
//! | 2 | `Welcome`, the agent's first | JSON [`Welcome`] |
//! | 3 | `Refused`, instead of it | JSON [`super::Refusal`]; the connection ends |
//! | 4 | `Data` | offset of the first byte in its direction (8 bytes, big endian), then 1 to [`PIECE`] bytes |
//! | 5 | `Ack` | so many bytes of the other direction have been passed on (8 bytes) |
//! | 6, 7 | `Ping`, `Pong` | 8 bytes that come back |
//! | 8 | `End` | the direction ends at this offset (8 bytes); the stream is over, not merely cut |
//!
//! Each side keeps what it has sent until it is acknowledged, at most [`WINDOW`] bytes in [`MESSAGES`] messages: when that
//! is full it takes no more from its source, which is the back-pressure of the stream. Each side acknowledges at the
//! latest after [`ACK_BYTES`] or [`ACK_MESSAGES`], and right after a resumption. A client may send data of a new stream
//! behind its `Open`; one that resumes waits for `Welcome`. After a cut the client connects anew, with a new ticket, and
//! names the stream's id, its secret and the offset up to which it has received; the agent answers with its own, and
//! both send from there. Offsets of data have no gaps: what does not continue ends the stream with an error.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::Refusal;
use crate::secret::Secret;

/// The subprotocol's name in the WebSocket handshake.
pub const SUBPROTOCOL: &str = "flare-resume.1";
/// Bytes of data in one message at most.
pub const PIECE: usize = 256 << 10;
/// Bytes that one side may have sent and not seen acknowledged.
pub const WINDOW: u64 = 4 << 20;
/// Messages likewise.
pub const MESSAGES: usize = 4096;
/// After so many bytes an acknowledgement is due.
pub const ACK_BYTES: u64 = 256 << 10;
/// Likewise for messages.
pub const ACK_MESSAGES: u32 = 256;
/// What precedes the bytes of `Data`: the kind and the offset.
pub const HEAD: usize = 9;
/// Bytes of a JSON body at most.
const JSON: usize = 4 << 10;

/// A client's first message.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Open {
    /// The stream that goes on; a new one where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<Resume>,
}

/// Which stream goes on, and from where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// [`Welcome::id`].
    pub id: String,
    /// [`Welcome::secret`].
    pub secret: Secret<String>,
    /// Bytes that the client has received.
    pub received: u64,
}

/// An agent's first message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The stream's name in this life of the machine.
    pub id: String,
    /// Who knows it, and holds a ticket for the same key, may resume.
    pub secret: Secret<String>,
    /// Bytes that the agent has received.
    pub received: u64,
    /// How long the agent keeps the stream after a cut, in milliseconds.
    pub grace_ms: u64,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// See [`Open`].
    Open(Open),
    /// See [`Welcome`].
    Welcome(Welcome),
    /// The stream cannot be had.
    Refused(Refusal),
    /// Bytes, and the offset of the first.
    Data(u64, Bytes),
    /// Bytes that have been passed on.
    Ack(u64),
    /// To be answered with the same number.
    Ping(u64),
    /// The answer.
    Pong(u64),
    /// The direction ends at this offset.
    End(u64),
}

/// The other side does not keep to the protocol; the stream is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A message that is none.
    #[error("a malformed message")]
    Malformed,
    /// Data that leaves a gap, or comes twice.
    #[error("data out of order")]
    Order,
    /// More than the window holds.
    #[error("more data than the window holds")]
    Overrun,
    /// An offset that was never sent, or is no longer kept.
    #[error("an offset out of range")]
    Range,
}

impl Frame {
    /// Reads a message. Data is not copied.
    ///
    /// # Errors
    /// [`Broken::Malformed`].
    pub fn decode(mut message: Bytes) -> Result<Self, Broken> {
        let (kind, length) = (message.first().copied(), message.len());
        message.advance(length.min(1));
        match kind {
            Some(1) => read(&message).map(Self::Open),
            Some(2) => read(&message).map(Self::Welcome),
            Some(3) => read(&message).map(Self::Refused),
            Some(4) if (HEAD + 1..=HEAD + PIECE).contains(&length) => {
                Ok(Self::Data(message.get_u64(), message))
            }
            Some(kind @ 5..=8) if length == HEAD => {
                let number = message.get_u64();
                Ok(match kind {
                    5 => Self::Ack(number),
                    6 => Self::Ping(number),
                    7 => Self::Pong(number),
                    _ => Self::End(number),
                })
            }
            _ => Err(Broken::Malformed),
        }
    }

    /// Writes a message.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Open(open) => write(1, open),
            Self::Welcome(welcome) => write(2, welcome),
            Self::Refused(refusal) => write(3, refusal),
            Self::Data(at, bytes) => {
                let mut message = BytesMut::with_capacity(HEAD + bytes.len());
                message.put_u8(4);
                message.put_u64(*at);
                message.put_slice(bytes);
                message.freeze()
            }
            Self::Ack(number) => short(5, *number),
            Self::Ping(number) => short(6, *number),
            Self::Pong(number) => short(7, *number),
            Self::End(number) => short(8, *number),
        }
    }
}

fn read<T: serde::de::DeserializeOwned>(json: &[u8]) -> Result<T, Broken> {
    if json.len() > JSON {
        return Err(Broken::Malformed);
    }
    serde_json::from_slice(json).map_err(|_| Broken::Malformed)
}

fn write<T: Serialize>(kind: u8, message: &T) -> Bytes {
    let mut bytes = vec![kind];
    // Strings and numbers: it cannot fail, and a message without a body is refused by whoever reads it.
    bytes.extend(serde_json::to_vec(message).unwrap_or_default());
    bytes.into()
}

fn short(kind: u8, number: u64) -> Bytes {
    let mut message = BytesMut::with_capacity(HEAD);
    message.put_u8(kind);
    message.put_u64(number);
    message.freeze()
}

/// What one side has sent, or is to send, and the other one has not acknowledged.
#[derive(Debug, Default)]
pub struct Outbox {
    kept: VecDeque<Kept>,
    /// Of `kept`: what comes before was sent on this connection.
    next: usize,
    /// Where `kept` begins.
    start: u64,
    /// Where it ends.
    end: u64,
    /// The highest offset that has ever been sent.
    sent: u64,
    /// What the window is counted from.
    acked: u64,
}

/// One message of data.
#[derive(Debug)]
struct Kept {
    message: Bytes,
    end: u64,
}

impl Outbox {
    /// Whether more may be taken from the source.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.end - self.acked < WINDOW && self.kept.len() < MESSAGES
    }

    /// Takes in 1 to [`PIECE`] bytes, which stand in `message` behind [`HEAD`] bytes of room. Others are not taken.
    pub fn push(&mut self, mut message: BytesMut) {
        let length = message.len().saturating_sub(HEAD);
        let Some(head) = message.get_mut(..HEAD).filter(|_| (1..=PIECE).contains(&length)) else { return };
        let (mut kind, mut offset) = head.split_at_mut(1);
        kind.put_u8(4);
        offset.put_u64(self.end);
        self.end += length as u64;
        self.kept.push_back(Kept { message: message.freeze(), end: self.end });
    }

    /// The next message to send on this connection.
    pub fn next_message(&mut self) -> Option<Bytes> {
        let kept = self.kept.get(self.next)?;
        self.next += 1;
        self.sent = self.sent.max(kept.end);
        Some(kept.message.clone())
    }

    /// Bytes that wait to be sent.
    #[must_use]
    pub fn backlog(&self) -> u64 {
        let sent = match self.next.checked_sub(1) {
            Some(last) => self.kept.get(last).map_or(self.start, |kept| kept.end),
            None => self.start,
        };
        self.end - sent
    }

    /// Where the direction ends, as far as it has come.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The other side has passed on so much. What was acknowledged before may be acknowledged again.
    ///
    /// # Errors
    /// [`Broken::Range`] when it was never sent.
    pub fn acknowledge(&mut self, to: u64) -> Result<(), Broken> {
        if to > self.sent {
            return Err(Broken::Range);
        }
        self.acked = self.acked.max(to);
        self.drop_until(to);
        Ok(())
    }

    /// A new connection: the other side has received so much, and the rest is to be sent again.
    ///
    /// # Errors
    /// [`Broken::Range`] when that is not between what is kept and what was sent, or inside a message.
    pub fn resume(&mut self, received: u64) -> Result<(), Broken> {
        let is_bound = received == self.start || self.kept.iter().any(|kept| kept.end == received);
        if received < self.start || received > self.sent || !is_bound {
            return Err(Broken::Range);
        }
        self.drop_until(received);
        self.next = 0;
        Ok(())
    }

    fn drop_until(&mut self, to: u64) {
        while let Some(kept) = self.kept.front().filter(|kept| kept.end <= to) {
            self.start = kept.end;
            self.kept.pop_front();
            self.next = self.next.saturating_sub(1);
        }
    }
}

/// What one side has received of the other one.
#[derive(Debug, Default)]
pub struct Intake {
    received: u64,
    passed_on: u64,
    acked: u64,
    messages: u32,
    owed: bool,
}

impl Intake {
    /// Takes in a message of data.
    ///
    /// # Errors
    /// [`Broken::Order`] when it does not continue, [`Broken::Overrun`] when it is over the window.
    pub fn accept(&mut self, at: u64, length: usize) -> Result<(), Broken> {
        if at != self.received {
            return Err(Broken::Order);
        }
        self.received = self.received.checked_add(length as u64).ok_or(Broken::Range)?;
        // One message may be begun as long as there is any room.
        if self.received - self.acked > WINDOW + PIECE as u64 {
            return Err(Broken::Overrun);
        }
        self.messages = self.messages.saturating_add(1);
        Ok(())
    }

    /// So many bytes were passed on.
    pub fn pass_on(&mut self, length: usize) {
        self.passed_on = self.received.min(self.passed_on + length as u64);
    }

    /// Bytes that have been received.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// A new connection: what was acknowledged may not have arrived.
    pub fn resume(&mut self) {
        self.owed = true;
    }

    /// The acknowledgement that is due, once.
    pub fn acknowledgement(&mut self) -> Option<u64> {
        let new = self.passed_on - self.acked;
        let due = new >= ACK_BYTES || (new > 0 && self.messages >= ACK_MESSAGES);
        if !due && !self.owed {
            return None;
        }
        (self.acked, self.messages, self.owed) = (self.passed_on, 0, false);
        Some(self.acked)
    }
}

#[cfg(test)]
mod tests;
