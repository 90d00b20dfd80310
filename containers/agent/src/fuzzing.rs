//! Parsers of this crate, for the fuzz targets. What they unpack goes into a folder of its own, which is the process's
//! working folder meanwhile: so the roots have the same names in every run.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use bytes::BytesMut;

use crate::{bundle, sftp, tree};

static TURN: Mutex<()> = Mutex::new(());

fn in_a_room<T>(work: impl FnOnce(&[String]) -> T) -> T {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    #[expect(clippy::expect_used, reason = "for fuzz targets alone")]
    let room = tempfile::tempdir().expect("a folder");
    let roots = ["workspace".to_owned(), "home/flare".to_owned()];
    let made = std::env::set_current_dir(room.path())
        .and_then(|()| std::fs::create_dir_all(&roots[0]))
        .and_then(|()| std::fs::create_dir_all(&roots[1]));
    assert!(made.is_ok(), "{made:?}");
    let outcome = work(&roots);
    confined(room.path(), 2);
    confined(&room.path().join("home"), 1);
    // The folder goes; nobody may stand in it.
    let left = std::env::set_current_dir("/");
    assert!(left.is_ok(), "{left:?}");
    drop(turn);
    outcome
}

fn confined(folder: &Path, expected: usize) {
    let Ok(found) = std::fs::read_dir(folder) else { return };
    let names: Vec<_> = found.flatten().map(|entry| entry.file_name()).collect();
    assert!(names.len() == expected, "something lies beside the roots: {names:?}");
}

/// Unpacks a bundle.
///
/// # Errors
/// Why it is refused.
///
/// # Panics
/// Where it leaves anything beside the root.
pub fn unpack(packed: &[u8]) -> Result<(), String> {
    in_a_room(|roots| bundle::unpack_into(&roots[0], packed)).map(drop).map_err(|refusal| refusal.to_string())
}

/// Restores an archive of all roots.
///
/// # Panics
/// Where it leaves anything beside the roots.
pub fn restore(archive: &[u8]) {
    let _ = in_a_room(|roots| tree::restore_roots(roots, archive));
}

/// An archive of two roots with a little of everything in them.
///
/// # Panics
/// Where it cannot be made.
#[must_use]
pub fn captured() -> Vec<u8> {
    in_a_room(|roots| {
        let root = Path::new(&roots[0]);
        let made = std::fs::create_dir(root.join("src"))
            .and_then(|()| std::fs::write(root.join("src/main.rs"), "fn main() {}\n"))
            .and_then(|()| std::os::unix::fs::symlink("src/main.rs", root.join("link")));
        assert!(made.is_ok(), "{made:?}");
        let mut archive = Vec::new();
        let captured = tree::capture_roots(roots, &mut archive);
        assert!(captured.is_ok(), "{captured:?}");
        archive
    })
}

/// Reads packets of SFTP, and does nothing of what they ask.
pub fn sftp(bytes: &[u8]) {
    sftp::read_all(BytesMut::from(bytes));
}
