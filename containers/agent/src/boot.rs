//! The first steps: hardening, the boot message, the socket.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{FromRawFd, OwnedFd};

use burstflare_ports::wire::{BOOT_LIMIT, Boot, OLDEST_PROTOCOL};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, setrlimit};

/// Raised to this where the hard limit allows: deep trees hold one handle for each level.
const OPEN_FILES: u64 = 65_536;

/// Makes the process unreadable to its own user's other processes and small at rest.
pub(crate) fn harden() {
    // First of all: from here on nobody of the same user reads our memory or takes our descriptors.
    undumpable();
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt only sets numbers, and no other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 256 << 10);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 128 << 10);
    }
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    // Orphans of our children become ours even where we are not process 1, so that an end is an end for all.
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
}

/// Nobody reads our memory.
pub(crate) fn undumpable() {
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// Lifts our own limit of open files; children get back what we were given.
pub(crate) fn raise_open_files() -> Rlimit {
    let given = getrlimit(Resource::Nofile);
    let wanted = given.maximum.map_or(OPEN_FILES, |hard| hard.min(OPEN_FILES));
    if given.current.is_some_and(|current| current < wanted) {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: given.maximum });
    }
    given
}

/// Reads the boot message from fd 3 and takes over the socket on fd 4.
pub(crate) fn take() -> io::Result<(Boot, OwnedFd)> {
    let pipe = inherited(3)?;
    let listener = inherited(4)?;
    let mut message = Vec::new();
    File::from(pipe).take(BOOT_LIMIT as u64 + 1).read_to_end(&mut message)?;
    let boot = parse(&message);
    message.fill(0);
    Ok((boot?, listener))
}

fn inherited(number: i32) -> io::Result<OwnedFd> {
    // SAFETY: fcntl on a number that is no descriptor answers EBADF and does nothing else.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::other(format!("fd {number} was not handed over")));
    }
    // SAFETY: it is open (fcntl succeeded) and by the start-up contract nobody else in this process owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Reads a boot message, without quoting it where it is malformed.
pub(crate) fn parse(message: &[u8]) -> io::Result<Boot> {
    let invalid = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
    if message.is_empty() {
        return Err(invalid("the starter went away before the boot message".into()));
    }
    if message.len() > BOOT_LIMIT {
        return Err(invalid("boot message over the limit".into()));
    }
    let boot: Boot = serde_json::from_slice(message).map_err(|error| {
        // Not the error's text: it may quote a secret.
        invalid(format!("boot message malformed at line {} column {}", error.line(), error.column()))
    })?;
    if boot.protocol < OLDEST_PROTOCOL {
        return Err(invalid(format!("the edge speaks protocol {} at most", boot.protocol)));
    }
    if boot.key.expose().len() < 16 {
        return Err(invalid("the key is too short".into()));
    }
    check_roots(&boot.roots).map_err(invalid)?;
    Ok(boot)
}

/// Roots are absolute, tidy, and none lies in another.
fn check_roots(roots: &[String]) -> Result<(), String> {
    if roots.is_empty() {
        return Err("no roots".into());
    }
    for (at, root) in roots.iter().enumerate() {
        let below = root.strip_prefix('/').ok_or_else(|| format!("root {root} is not absolute"))?;
        if below.is_empty() || below.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(format!("root {root} is not a tidy path"));
        }
        let nested = |other: &String| {
            other == root || root.strip_prefix(other.as_str()).is_some_and(|rest| rest.starts_with('/'))
        };
        if roots.iter().enumerate().any(|(other_at, other)| other_at != at && nested(other)) {
            return Err(format!("root {root} lies in another"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_absolute_tidy_and_apart() {
        let check = |roots: &[&str]| check_roots(&roots.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert!(check(&["/workspace", "/home/flare", "/work"]).is_ok());
        for roots in
            [&[][..], &["a"], &["/"], &["/a/../b"], &["/a/"], &["/a", "/a/b"], &["/a/b", "/a"], &["/a", "/a"]]
        {
            assert!(check(roots).is_err(), "{roots:?}");
        }
    }

    #[test]
    fn a_malformed_boot_message_is_refused_without_being_quoted() {
        assert!(parse(b"").is_err());
        let error =
            parse(br#"{"protocol":1,"key":"sesame","machine":5}"#).expect_err("malformed").to_string();
        assert!(!error.contains("sesame"), "{error}");
    }
}
