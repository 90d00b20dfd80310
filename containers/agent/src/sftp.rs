//! SFTP version 3 (draft-ietf-secsh-filexfer-02) with OpenSSH's extensions, as `sftp` and `scp` use it.
//!
//! Written here rather than taken from a crate because names are bytes: what is not UTF-8 has to survive. The
//! machine's whole file system is the session's, held by the user's own permissions; every request resolves the
//! folder once, by handle, and works on one name in it.

mod attributes;
mod files;
mod wire;

use std::io;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use tokio::sync::mpsc;

use self::files::Files;
use self::wire::{Reader, Reply, kind};
use crate::agent::Agent;

/// Longest packet, both ways; what OpenSSH's server takes.
pub(crate) const PACKET: usize = 256 << 10;
/// Longest piece of a file in one packet.
pub(crate) const PIECE: usize = PACKET - 1024;

/// Answers requests until the input ends. Blocks.
pub(crate) fn serve(
    agent: &Arc<Agent>,
    mut input: mpsc::Receiver<Bytes>,
    output: &mpsc::Sender<Bytes>,
) -> io::Result<()> {
    let mut files = Files::new(agent.surroundings.cwd())?;
    let mut buffer = BytesMut::new();
    while let Some(bytes) = input.blocking_recv() {
        buffer.extend_from_slice(&bytes);
        drop(bytes);
        while let Some(packet) = take(&mut buffer)? {
            let reply = answer(&mut files, &packet)?;
            if output.blocking_send(reply).is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The next whole packet, without its length.
fn take(buffer: &mut BytesMut) -> io::Result<Option<BytesMut>> {
    let Some(head) = buffer.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*head) as usize;
    if length == 0 || length > PACKET {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "an SFTP packet over the limit"));
    }
    if buffer.len() < 4 + length {
        buffer.reserve(4 + length - buffer.len());
        return Ok(None);
    }
    buffer.advance(4);
    Ok(Some(buffer.split_to(length)))
}

fn answer(files: &mut Files, packet: &[u8]) -> io::Result<Bytes> {
    let mut reader = Reader::new(packet);
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "a malformed SFTP packet");
    let what = reader.byte().ok_or_else(malformed)?;
    if what == kind::INIT {
        return Ok(wire::version());
    }
    let id = reader.number().ok_or_else(malformed)?;
    let reply = match files.handle(what, &mut reader) {
        Some(Ok(reply)) => reply,
        Some(Err(error)) => Reply::failure(&error),
        None => Reply::malformed(),
    };
    Ok(reply.encode(id))
}

/// Takes a stream apart into packets and their fields, and does nothing of what they ask.
#[cfg(feature = "fuzzing")]
pub(crate) fn read_all(mut buffer: BytesMut) {
    while let Ok(Some(packet)) = take(&mut buffer) {
        let mut reader = Reader::new(&packet);
        if reader.byte().is_some() && reader.number().is_some() {
            while reader.bytes().is_some() {}
            let _ = attributes::Attributes::decode(&mut reader);
        }
        let mut reader = Reader::new(&packet);
        let (_, _) = (reader.byte(), reader.number());
        let _ = reader.bytes().and_then(|_| attributes::Attributes::decode(&mut reader));
    }
}
