//! Somebody's work in the bytes of a WebSocket: messages are, pings and pongs are not.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::activity::{Activity, Reason};

/// The longest header of a frame (RFC 6455, section 5.2): two bytes, a length of eight, a mask of four.
const HEADER: usize = 14;
/// Opcodes from here on are of control frames (section 5.5).
const CONTROL: u8 = 8;

/// A visitor's side of a connection, whose messages are noted as they are read.
pub(super) struct Watched<T> {
    inner: T,
    frames: Frames,
    activity: Arc<Activity>,
}

impl<T> Watched<T> {
    pub(super) fn new(inner: T, activity: Arc<Activity>) -> Self {
        Self { inner, frames: Frames::default(), activity }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buffer);
        if self.frames.carry_messages(buffer.filled().get(before..).unwrap_or_default()) {
            self.activity.note(Reason::Preview);
        }
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// Where in the frames a stream is. What is no WebSocket is read as one all the same, to no harm.
#[derive(Default)]
struct Frames {
    header: [u8; HEADER],
    filled: usize,
    /// Of the frame whose payload comes.
    payload: u64,
    message: bool,
}

impl Frames {
    /// Whether any of the next bytes belong to a message.
    fn carry_messages(&mut self, mut bytes: &[u8]) -> bool {
        let mut any = false;
        while let Some((first, rest)) = bytes.split_first() {
            if self.payload > 0 {
                let taken = usize::try_from(self.payload).unwrap_or(usize::MAX).min(bytes.len());
                self.payload -= u64::try_from(taken).unwrap_or(self.payload);
                bytes = bytes.get(taken..).unwrap_or_default();
                any |= self.message;
                continue;
            }
            if let Some(place) = self.header.get_mut(self.filled) {
                *place = *first;
            }
            self.filled += 1;
            bytes = rest;
            if let Some(length) = self.whole_header() {
                self.message = self.header[0] & 0x0f < CONTROL;
                self.payload = length;
                self.filled = 0;
                any |= self.message;
            }
        }
        any
    }

    /// The payload's length, once the header is there.
    fn whole_header(&self) -> Option<u64> {
        let [_, second, long @ ..] = &self.header;
        let extended = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        if self.filled < 2 + extended + mask {
            return None;
        }
        let long = long.iter().take(extended).fold(0, |length, byte| length << 8 | u64::from(*byte));
        Some(if extended == 0 { u64::from(second & 0x7f) } else { long })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(opcode: u8, masked: bool, length: usize) -> Vec<u8> {
        let bit = if masked { 0x80 } else { 0 };
        let mut bytes = vec![0x80 | opcode];
        match length {
            0..126 => bytes.push(bit | u8::try_from(length).expect("short")),
            126..65536 => {
                bytes.push(bit | 126);
                bytes.extend(u16::try_from(length).expect("short").to_be_bytes());
            }
            _ => {
                bytes.push(bit | 127);
                bytes.extend(u64::try_from(length).expect("long").to_be_bytes());
            }
        }
        bytes.extend(std::iter::repeat_n(9, if masked { 4 } else { 0 } + length));
        bytes
    }

    #[test]
    fn messages_count_and_control_frames_do_not_however_they_are_cut() {
        for masked in [true, false] {
            for (opcode, counts) in [(0, true), (1, true), (2, true), (8, false), (9, false), (10, false)] {
                for length in [0, 1, 125, 126, 65_535, 65_536, 100_000] {
                    let bytes = frame(opcode, masked, length);
                    for piece in [1, 2, 7, 4096, usize::MAX] {
                        let mut frames = Frames::default();
                        let mut any = false;
                        for bytes in bytes.chunks(piece.min(bytes.len())) {
                            any |= frames.carry_messages(bytes);
                        }
                        assert_eq!(any, counts, "{opcode} {length} {piece}");
                        // Right where the next one begins.
                        assert_eq!((frames.filled, frames.payload), (0, 0));
                    }
                }
            }
        }
    }

    #[test]
    fn a_long_message_counts_for_as_long_as_it_comes() {
        let mut frames = Frames::default();
        let bytes = frame(2, true, 1000);
        assert!(frames.carry_messages(&bytes[..100]));
        assert!(frames.carry_messages(&bytes[100..]));
        assert!(!frames.carry_messages(&frame(9, true, 100)));
        assert!(!frames.carry_messages(&[]));
    }

    #[test]
    fn bytes_that_are_no_frames_do_no_harm() {
        let mut frames = Frames::default();
        frames.carry_messages(&[0xff; 10]);
        frames.carry_messages(&[0xff; 10_000]);
        assert!(frames.payload > 1 << 60);
    }
}
