//! From the path of a call to a handle. Only the kernel walks: beneath the root's handle, never through links of
//! /proc, and never out. What processes of the session rename or replace meanwhile cannot lead elsewhere.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use burstflare_ports::wire::path;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::refuse;
use crate::folder;
use crate::reply::Refused;

/// Bytes of a path.
const LONGEST: usize = 4096;
/// Bytes of one name.
const NAME: usize = 255;
/// The kernel asks to try again when folders are renamed while it walks.
const TRIES: usize = 32;

/// A path of a call: the root it is in, opened, and the clean way below it.
pub(super) struct Place {
    /// The root.
    pub(super) root: OwnedFd,
    /// The root's own path.
    root_path: String,
    /// Names with single slashes between them; empty for the root itself.
    pub(super) below: Vec<u8>,
}

impl Place {
    /// Finds the root that a path is in.
    pub(super) fn find(roots: &[String], text: &str) -> Result<Self, Refused> {
        let raw = path::decode(text).filter(|raw| !raw.is_empty() && !raw.contains(&0)).ok_or_else(|| {
            Refused::invalid(
                "The path is malformed: what is not UTF-8, control characters and `%` are written as %XX, nothing else.",
            )
        })?;
        let absolute = raw.first() == Some(&b'/');
        let clean = clean(&raw)?;
        let (root_path, below) = if absolute {
            let found = roots.iter().find_map(|root| {
                let rest = clean.strip_prefix(root.trim_start_matches('/').as_bytes())?;
                let inside = rest.is_empty() || rest.first() == Some(&b'/');
                inside.then(|| (root.clone(), rest.strip_prefix(b"/").unwrap_or(rest).to_vec()))
            });
            found.ok_or_else(refuse::outside)?
        } else {
            (roots.first().cloned().ok_or_else(refuse::outside)?, clean)
        };
        let root = folder::open_root(&root_path).map_err(refuse::of_io)?;
        Ok(Self { root, root_path, below })
    }

    /// Whether it is the root itself.
    pub(super) fn is_root(&self) -> bool {
        self.below.is_empty()
    }

    /// The root's own path.
    pub(super) fn root_path(&self) -> &str {
        &self.root_path
    }

    /// The path in its text form.
    pub(super) fn text(&self) -> String {
        join(&self.root_path, &self.below)
    }

    /// What the whole path leads to, not opened: links are followed.
    pub(super) fn target(&self) -> Result<OwnedFd, Refused> {
        beneath(&self.root, &self.below, OFlags::PATH).map_err(refuse::of)
    }

    /// The folder that holds the last name, not opened, and that name. For a root this is the root and `.`.
    pub(super) fn parent(&self) -> Result<(OwnedFd, &[u8]), Refused> {
        let (folder, name) = self.split();
        let folder = beneath(&self.root, folder, OFlags::PATH | OFlags::DIRECTORY).map_err(refuse::of)?;
        Ok((folder, name))
    }

    /// The way to the last name, and that name.
    pub(super) fn split(&self) -> (&[u8], &[u8]) {
        match self.below.iter().rposition(|byte| *byte == b'/') {
            Some(at) => {
                (self.below.get(..at).unwrap_or_default(), self.below.get(at + 1..).unwrap_or_default())
            }
            None if self.below.is_empty() => (&[], b"."),
            None => (&[], &self.below),
        }
    }
}

/// The text form of something below a root.
pub(super) fn join(root: &str, below: &[u8]) -> String {
    let mut whole = root.as_bytes().to_vec();
    if !below.is_empty() {
        whole.push(b'/');
        whole.extend_from_slice(below);
    }
    path::encode(&whole)
}

/// Without `.` and surplus slashes; `..` is refused, because behind a link it is not what it looks like.
fn clean(raw: &[u8]) -> Result<Vec<u8>, Refused> {
    if raw.len() > LONGEST {
        return Err(Refused::invalid(format!("A path has at most {LONGEST} bytes.")));
    }
    let mut clean = Vec::with_capacity(raw.len());
    for name in raw.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b".")) {
        if name == b".." {
            return Err(Refused::invalid("A path holds no `..`."));
        }
        if name.len() > NAME {
            return Err(Refused::invalid(format!("A name has at most {NAME} bytes.")));
        }
        if !clean.is_empty() {
            clean.push(b'/');
        }
        clean.extend_from_slice(name);
    }
    Ok(clean)
}

/// Opens a path beneath a folder.
pub(super) fn beneath(root: impl AsFd, below: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC;
    let below = if below.is_empty() { b"." } else { below };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..TRIES {
        match rustix::fs::openat2(&root, below, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(Errno::NOSYS) => return walk(root.as_fd(), below, flags),
            result => return result,
        }
    }
    Err(Errno::BUSY)
}

/// Where the kernel has no openat2: name by name, and no link is followed at all.
fn walk(root: std::os::fd::BorrowedFd<'_>, below: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let mut names: Vec<&[u8]> = below.split(|byte| *byte == b'/').collect();
    let last = names.pop().unwrap_or(b".");
    let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut here = rustix::fs::openat(root, ".", step, Mode::empty())?;
    for name in names {
        here = rustix::fs::openat(&here, name, step, Mode::empty())?;
    }
    let found = rustix::fs::openat(&here, last, flags | OFlags::NOFOLLOW, Mode::empty())?;
    if rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode).is_symlink() {
        return Err(Errno::LOOP);
    }
    Ok(found)
}

/// Opens what a handle stands for. Whether it is a file was asked before: nothing else is ever opened here.
pub(super) fn reopen(handle: &OwnedFd, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let through = format!("/proc/self/fd/{}", handle.as_raw_fd());
    rustix::fs::open(through, flags | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn roots(folder: &tempfile::TempDir) -> Vec<String> {
        let root = |name: &str| {
            std::fs::create_dir_all(folder.path().join(name)).expect("made");
            folder.path().join(name).to_str().expect("UTF-8").to_owned()
        };
        vec![root("work"), root("work-too")]
    }

    #[test]
    fn paths_are_in_a_root_or_refused() {
        let folder = tempfile::tempdir().expect("folder");
        let roots = roots(&folder);
        let below =
            |text: &str| Place::find(&roots, text).map(|place| place.below).map_err(|refused| refused.code);
        assert_eq!(below("a/./b//c/"), Ok(b"a/b/c".to_vec()));
        assert_eq!(below("%FF"), Ok(vec![255]));
        assert_eq!(below(&format!("{}/x", roots[1])), Ok(b"x".to_vec()));
        assert_eq!(below(&roots[0]), Ok(Vec::new()));
        for text in ["/", "/etc/passwd", &format!("{}-three/x", roots[0])] {
            assert_eq!(below(text), Err("outside"), "{text}");
        }
        let long = "a/".repeat(3000);
        for text in ["", "..", "a/../b", "%", "%41", "a%00", &long, &"n".repeat(256)] {
            assert_eq!(below(text), Err("invalid"), "{text}");
        }
    }

    #[test]
    fn links_are_followed_inside_and_nowhere_else() {
        let folder = tempfile::tempdir().expect("folder");
        let roots = roots(&folder);
        let at = |name: &str| folder.path().join("work").join(name);
        std::fs::create_dir(at("d")).expect("made");
        std::fs::write(at("d/f"), "x").expect("written");
        std::fs::write(folder.path().join("secret"), "x").expect("written");
        for (target, name) in [
            ("d", "in"),
            ("../secret", "out"),
            ("d/../../secret", "around"),
            (folder.path().to_str().expect("UTF-8"), "absolute"),
            ("/proc/self/root", "magic"),
            ("loop", "loop"),
        ] {
            symlink(target, at(name)).expect("linked");
        }
        let code = |text: &str| {
            let place = Place::find(&roots, text).map_err(|refused| refused.code)?;
            place.target().map(drop).map_err(|refused| refused.code)
        };
        assert_eq!(code("in/f"), Ok(()));
        assert_eq!(code("none"), Err("no_such_file"));
        assert_eq!(code("d/f/x"), Err("not_folder"));
        for text in ["out", "around", "absolute/secret", "magic/etc/passwd", "magic", "loop"] {
            assert_eq!(code(text), Err("outside"), "{text}");
        }
        let root = folder::open_root(&roots[0]).expect("opens");
        for text in [&b"in/f"[..], b"out", b"absolute/secret"] {
            assert!(walk(root.as_fd(), text, OFlags::PATH).is_err(), "{text:?}");
        }
        assert!(walk(root.as_fd(), b"d/f", OFlags::PATH).is_ok());
    }
}
