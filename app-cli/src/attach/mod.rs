//! Looking at a terminal of a session from the one we are started in.

mod keys;
mod local;
mod typed;
mod view;

use std::io::Read as _;

pub use keys::Keys;
pub use local::{Raw, is_there, size};
pub use typed::Typed;
pub use view::{End, Screen, Sitting, hello};

/// Pieces that were typed and not yet looked at; more waits in the kernel.
const PIECES: usize = 16;

/// Reads the keyboard on a thread of its own, which ends with the program.
#[must_use]
pub fn typing() -> tokio::sync::mpsc::Receiver<Vec<u8>> {
    let (send, typing) = tokio::sync::mpsc::channel(PIECES);
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin();
        let mut piece = [0; 4096];
        while let Ok(read @ 1..) = stdin.read(&mut piece) {
            if send.blocking_send(piece.get(..read).unwrap_or_default().to_vec()).is_err() {
                return;
            }
        }
    });
    typing
}
