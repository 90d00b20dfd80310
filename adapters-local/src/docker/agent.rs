//! The agent's program, which has to run in any image: whether it is one that asks for nothing.

use std::fs;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use burstflare_ports::error::{ErrorKind, PortError, PortResult};

/// What the file cannot be without (ELF-64, System V ABI).
const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
/// A program that names an interpreter is linked dynamically.
const PT_INTERP: u32 = 3;

/// Finds the program and looks whether it is linked statically, for this kind of processor.
pub(super) fn find(path: &Path) -> PortResult<PathBuf> {
    let refused =
        |kind, detail: String| PortError::new(kind, "docker.agent", format!("{}: {detail}", path.display()));
    let real = fs::canonicalize(path).map_err(|error| {
        refused(ErrorKind::Unsupported, format!("the agent's program is not there: {error}"))
    })?;
    let found = look(&real).map_err(|error| refused(ErrorKind::Unsupported, error.to_string()))?;
    match found {
        Found::Static => Ok(real),
        Found::Dynamic => Err(refused(
            ErrorKind::Unsupported,
            "it is linked dynamically and runs only where its libraries are".to_owned(),
        )),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Found {
    Static,
    Dynamic,
}

fn look(path: &Path) -> io::Result<Found> {
    let odd = |text: &str| io::Error::new(io::ErrorKind::InvalidData, text.to_owned());
    let mut file = fs::File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.permissions().mode() & 0o111 == 0 {
        return Err(odd("it is no program: its mode says so"));
    }
    let mut header = [0; HEADER];
    file.read_exact(&mut header).map_err(|_| odd("it is no program: too short"))?;
    // 64 bits, little endian: what we run on.
    if header.get(..6) != Some(b"\x7fELF\x02\x01") {
        return Err(odd("it is no ELF program of 64 bits"));
    }
    if number(&header, 18, 2) != machine() {
        return Err(odd("it is for another kind of processor"));
    }
    let (offset, size, count) = (number(&header, 32, 8), number(&header, 54, 2), number(&header, 56, 2));
    if size != PROGRAM_HEADER as u64 || count == 0 {
        return Err(odd("its program headers are unreadable"));
    }
    file.seek(SeekFrom::Start(offset))?;
    for _ in 0..count {
        let mut entry = [0; PROGRAM_HEADER];
        file.read_exact(&mut entry).map_err(|_| odd("its program headers are cut off"))?;
        if number(&entry, 0, 4) == u64::from(PT_INTERP) {
            return Ok(Found::Dynamic);
        }
    }
    Ok(Found::Static)
}

fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    let digits = bytes.get(at..at + length).unwrap_or_default();
    digits.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// This processor's number in ELF headers.
const fn machine() -> u64 {
    if cfg!(target_arch = "aarch64") { 183 } else { 62 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(interp: bool, machine: u8) -> Vec<u8> {
        let mut bytes = vec![0; HEADER + PROGRAM_HEADER];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[18] = machine;
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = 1;
        bytes[HEADER] = if interp { 3 } else { 1 };
        bytes
    }

    #[test]
    fn only_a_static_program_for_this_processor_will_do() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("agent");
        let judged = |bytes: &[u8], mode| {
            fs::write(&path, bytes).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("mode");
            find(&path).map_err(|error| error.context().to_owned())
        };
        let own = u8::try_from(machine()).expect("small");
        assert!(judged(&program(false, own), 0o755).is_ok());
        let refused = [
            judged(&program(true, own), 0o755),
            judged(&program(false, 3), 0o755),
            judged(&program(false, own), 0o644),
            judged(b"#!/bin/sh\n", 0o755),
            judged(&program(false, own)[..80], 0o755),
        ];
        let words = ["dynamically", "processor", "mode", "too short", "cut off"];
        for (answer, word) in refused.into_iter().zip(words) {
            assert!(answer.as_ref().is_err_and(|text| text.contains(word)), "{word}: {answer:?}");
        }
        assert!(find(&folder.path().join("nothing")).is_err());
    }
}
