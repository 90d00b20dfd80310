//! Packs entries into an unnamed temporary file.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};

use burstflare_core::domain::bundle::BundleLimits;
use burstflare_ports::wire::bundle::{BundleEntry, BundleKind, BundlePolicy};

use super::archive::Archive;
use super::folder::unreadable;
use super::{Content, Item};
use crate::exit::{Exit, Failure};

const LEVEL: i32 = 3;

/// A bundle, ready to be sent.
#[derive(Debug)]
pub struct Packed {
    /// It has no name: it goes when it is closed, whatever happens.
    pub file: File,
    /// Bytes.
    pub size: u64,
    /// BLAKE3, hexadecimal: the same for the same folder.
    pub digest: String,
    /// Entries.
    pub entries: usize,
}

/// Packs the entries, in their order, holding each against the policy that the server has too.
///
/// # Errors
/// The first entry that cannot be in a bundle or cannot be read.
pub fn pack(items: &[Item]) -> Result<Packed, Failure> {
    let limits = BundleLimits::default();
    let mut policy = BundlePolicy::new(limits.entries);
    for item in items {
        check(&mut policy, item)?;
    }
    let broken = |error: io::Error| {
        Failure::local("cannot write the bundle", error)
            .hint("Make room in the folder of temporary files, or name another one with TMPDIR.")
    };
    let file = unnamed().map_err(broken)?;
    let hashing = Hashing { file, hasher: blake3::Hasher::new(), size: 0 };
    let mut encoder =
        zstd::Encoder::new(BufWriter::with_capacity(256 << 10, hashing), LEVEL).map_err(broken)?;
    encoder.include_checksum(true).map_err(broken)?;
    let mut archive = Archive::new(encoder);
    for item in items {
        append(&mut archive, item)?;
    }
    let encoder = archive.finish().map_err(broken)?;
    let hashing = encoder
        .finish()
        .and_then(|buffer| buffer.into_inner().map_err(io::IntoInnerError::into_error))
        .map_err(broken)?;
    if hashing.size > limits.packed {
        return Err(Failure::new(
            Exit::Usage,
            format!(
                "the bundle has {}; at most {} are taken",
                crate::text::bytes(hashing.size),
                crate::text::bytes(limits.packed)
            ),
        )
        .hint("Name what a build can make or fetch itself in .flareignore."));
    }
    Ok(Packed {
        digest: hashing.hasher.finalize().to_hex().to_string(),
        file: hashing.file,
        size: hashing.size,
        entries: items.len(),
    })
}

fn check(policy: &mut BundlePolicy, item: &Item) -> Result<(), Failure> {
    let (kind, size, link) = match &item.content {
        Content::Folder => (BundleKind::Folder, 0, None),
        Content::File(_, size) => (BundleKind::File, *size, None),
        Content::Embedded(bytes) => (BundleKind::File, bytes.len() as u64, None),
        Content::Link(target) => (BundleKind::Link, 0, Some(target.as_slice())),
    };
    let entry = BundleEntry { path: &item.path, kind, mode: item.mode, size, link };
    policy.check(entry).map(drop).map_err(|refusal| {
        let failure = Failure::usage(format!("the folder cannot be uploaded: {refusal}"));
        match (&item.content, item.mode & 0o6000) {
            (Content::Link(target), _) => failure.hint(format!(
                "It points to `{}`. Make it a relative link inside of the folder, or name it in .flareignore.",
                String::from_utf8_lossy(target)
            )),
            (_, 1..) => failure.hint("Take the bit away with `chmod u-s,g-s`, or name the file in .flareignore."),
            _ => failure.hint("Name what does not belong there in .flareignore."),
        }
    })
}

fn append<W: Write>(archive: &mut Archive<W>, item: &Item) -> Result<(), Failure> {
    let shown = || String::from_utf8_lossy(&item.path).into_owned();
    match &item.content {
        Content::Folder => archive.folder(&item.path, item.mode),
        Content::Link(target) => archive.link(&item.path, target),
        Content::Embedded(bytes) => archive.file(&item.path, item.mode, bytes.len() as u64, *bytes),
        Content::File(path, size) => {
            let file = File::open(path).map_err(|error| unreadable(path, &error))?;
            let mut exact = Exact { file, left: *size };
            let written = archive.file(&item.path, item.mode, *size, &mut exact);
            if exact.left > 0 || exact.grew() {
                return Err(Failure::new(Exit::Conflict, format!("{} changed while it was read", shown()))
                    .hint("Upload again when nothing writes to the folder."));
            }
            written
        }
    }
    .map_err(|error| Failure::local(format_args!("cannot pack {}", shown()), error))
}

/// Reads as many bytes as the header promised.
struct Exact {
    file: File,
    left: u64,
}

impl Exact {
    fn grew(&mut self) -> bool {
        self.file.read(&mut [0]).is_ok_and(|read| read > 0)
    }
}

impl Read for Exact {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read(&mut buffer[..most])?;
        self.left -= read as u64;
        Ok(read)
    }
}

struct Hashing {
    file: File,
    hasher: blake3::Hasher,
    size: u64,
}

impl Write for Hashing {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.file.write(buffer)?;
        self.hasher.update(&buffer[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A file without a name, so that nothing is left behind by any kind of end.
fn unnamed() -> io::Result<File> {
    let dir = std::env::temp_dir();
    let opened = rustix::fs::open(
        &dir,
        rustix::fs::OFlags::TMPFILE | rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
    );
    if let Ok(fd) = opened {
        return Ok(fd.into());
    }
    // A file system without O_TMPFILE: make one and take its name away.
    let path =
        dir.join(format!(".flare-bundle-{}-{}", std::process::id(), crate::credential::now().millis()));
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}
