//! Parsers of this crate, for the fuzz targets. What they unpack goes into a folder of its own, which is the process's
//! working folder meanwhile: so the roots have the same names in every run.

use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use bytes::BytesMut;

use crate::{bundle, files, sftp, tree};

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

/// Finds what a call of the files API names, among links that lead out and around.
///
/// # Panics
/// Where that is outside the roots, or has two texts.
pub fn file(query: &[u8]) {
    in_a_room(|roots| {
        let here = std::env::current_dir().unwrap_or_default();
        let roots: Vec<String> =
            roots.iter().map(|root| here.join(root).to_string_lossy().into_owned()).collect();
        let root = Path::new(&roots[0]);
        let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, root.join(name));
        let made = std::fs::create_dir(root.join("src"))
            .and_then(|()| std::fs::write(root.join("src/main.rs"), "fn main() {}\n"))
            .and_then(|()| link("src", "in"))
            .and_then(|()| link("../..", "up"))
            .and_then(|()| link("/etc", "out"))
            .and_then(|()| link("round", "round"))
            .and_then(|()| link("/proc/self/root", "src/all"));
        assert!(made.is_ok(), "{made:?}");
        let Some(touched) = files::touch(query, &roots) else { return };
        let (text, again) = touched.texts;
        assert_eq!(again.as_ref(), Some(&text), "one text for each place");
        for handle in touched.handles {
            let leads =
                std::fs::read_link(format!("/proc/self/fd/{}", handle.as_raw_fd())).unwrap_or_default();
            assert!(roots.iter().any(|root| leads.starts_with(root)), "it leads to {}", leads.display());
        }
    });
}

/// Reads packets of SFTP, and does nothing of what they ask.
pub fn sftp(bytes: &[u8]) {
    sftp::read_all(BytesMut::from(bytes));
}
