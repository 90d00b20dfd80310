//! Members of a deterministic tar: GNU headers, long names as their own members before the entry.

use std::io::{self, Read, Write};

use tar::{EntryType, Header};

/// What every entry's time is set to: 1980-01-01, the oldest one that zip and other tools can hold.
const EPOCH: u64 = 315_532_800;

/// Writes entries one behind the other.
pub(super) struct Archive<W: Write> {
    builder: tar::Builder<W>,
}

impl<W: Write> Archive<W> {
    pub(super) fn new(writer: W) -> Self {
        Self { builder: tar::Builder::new(writer) }
    }

    pub(super) fn folder(&mut self, path: &[u8], mode: u32) -> io::Result<()> {
        self.entry(&[path, b"/"].concat(), EntryType::Directory, mode, None, 0, io::empty())
    }

    pub(super) fn link(&mut self, path: &[u8], target: &[u8]) -> io::Result<()> {
        self.entry(path, EntryType::Symlink, 0o777, Some(target), 0, io::empty())
    }

    pub(super) fn file(&mut self, path: &[u8], mode: u32, size: u64, content: impl Read) -> io::Result<()> {
        self.entry(path, EntryType::Regular, mode, None, size, content)
    }

    pub(super) fn finish(self) -> io::Result<W> {
        self.builder.into_inner()
    }

    fn entry(
        &mut self,
        path: &[u8],
        kind: EntryType,
        mode: u32,
        target: Option<&[u8]>,
        size: u64,
        content: impl Read,
    ) -> io::Result<()> {
        let mut header = blank(kind, mode, size);
        if let Some(target) = target {
            if target.len() > header.as_old().linkname.len() {
                self.long(EntryType::GNULongLink, target)?;
            }
            put(&mut header.as_old_mut().linkname, target);
        }
        if path.len() > header.as_old().name.len() {
            self.long(EntryType::GNULongName, path)?;
        }
        put(&mut header.as_old_mut().name, path);
        header.set_cksum();
        self.builder.append(&header, content)
    }

    fn long(&mut self, kind: EntryType, text: &[u8]) -> io::Result<()> {
        let mut header = blank(kind, 0o644, text.len() as u64 + 1);
        put(&mut header.as_old_mut().name, b"././@LongLink");
        header.set_cksum();
        self.builder.append(&header, text.chain(io::repeat(0).take(1)))
    }
}

fn blank(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(EPOCH);
    header.set_size(size);
    header
}

/// As the file system has it: the crate's own setters would tidy the text up.
fn put(field: &mut [u8], text: &[u8]) {
    let length = text.len().min(field.len());
    field.fill(0);
    field[..length].copy_from_slice(&text[..length]);
}
