//! Walking the roots into an archive. What is measured, written and hashed is one and the same read, so a file that
//! changes meanwhile can spoil only itself, never the archive.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use burstflare_ports::wire::path;
use burstflare_ports::wire::tree::{Digest, Entry, FORMAT, Header, Kind, MANIFEST_MEMBER, Summary};
use rustix::fs::{FileType, OFlags, Stat};
use rustix::io::Errno;

use super::member::{Member, end, padding};
use super::member_name;
use crate::folder::{self, Opened};

const LEVEL: i32 = 3;
const BUFFER: usize = 128 << 10;
const DEPTH: usize = 4000;

/// Writes the archive of all roots; the summary lacks the archive's own digest.
pub(crate) fn capture(roots: &[String], out: impl Write) -> io::Result<Summary> {
    let mut encoder = zstd::stream::write::Encoder::new(out, LEVEL)?;
    encoder.include_checksum(true)?;
    let mut capture = Capture {
        out: encoder,
        digest: Digest::default(),
        manifest: Vec::new(),
        entries: 0,
        buffer: vec![0; BUFFER],
    };
    // Roots are siblings of a kind: their steps are put into order as those of a folder are.
    let mut steps: Vec<Step<&String>> = Vec::new();
    for root in roots {
        steps.push(Step { key: member_name(root).to_vec(), what: root, inside: false });
        steps.push(Step { key: [member_name(root), b"/"].concat(), what: root, inside: true });
    }
    steps.sort_unstable_by(|one, other| one.key.cmp(&other.key));
    for Step { what: root, inside, .. } in steps {
        let handle = folder::open_root(root)?;
        if inside {
            capture.inside(handle.as_fd(), member_name(root), 0)?;
        } else {
            capture.folder(member_name(root), &rustix::fs::fstat(&handle)?)?;
        }
    }
    capture.finish(roots)
}

/// What comes next. An archive sorted by whole paths visits a folder twice: as an entry (`a`), and for what is in it
/// (`a/`), with siblings such as `a-b` between.
struct Step<T> {
    key: Vec<u8>,
    what: T,
    inside: bool,
}

struct Capture<W: Write> {
    out: zstd::stream::write::Encoder<'static, W>,
    digest: Digest,
    manifest: Vec<u8>,
    entries: u64,
    buffer: Vec<u8>,
}

impl<W: Write> Capture<W> {
    fn inside(&mut self, handle: BorrowedFd<'_>, prefix: &[u8], depth: usize) -> io::Result<()> {
        if depth > DEPTH {
            return Err(io::Error::other(format!("folders are nested too deep: {}", path::encode(prefix))));
        }
        let mut steps = Vec::new();
        for name in folder::names(handle)? {
            if depth == 0 && folder::is_staging(&name) {
                continue;
            }
            // Gone since the listing: it is not in the tree.
            let Some(stat) = present(folder::stat(handle, &name))? else { continue };
            if folder::kind(&stat) == FileType::Directory {
                let key = [&name[..], b"/"].concat();
                steps.push(Step { key, what: (name.clone(), stat), inside: true });
            }
            steps.push(Step { key: name.clone(), what: (name, stat), inside: false });
        }
        steps.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        for Step { what: (name, stat), inside, .. } in steps {
            let full = [prefix, b"/", &name].concat();
            if inside {
                if let Some(opened) =
                    folder::present(Opened::reading(handle, &name, OFlags::DIRECTORY, 0o500))?
                {
                    self.inside(opened.file.as_fd(), &full, depth + 1)?;
                }
                continue;
            }
            match folder::kind(&stat) {
                FileType::Directory => self.folder(&full, &stat)?,
                FileType::RegularFile => self.file(handle, &name, &full)?,
                FileType::Symlink => {
                    if let Some(target) = present(rustix::fs::readlinkat(handle, &name, Vec::new()))? {
                        self.bare(&full, Kind::Link, &stat, Some(target.as_bytes()))?;
                    }
                }
                FileType::Fifo => self.bare(&full, Kind::Pipe, &stat, None)?,
                // Sockets die with their process; devices cannot be made by the user.
                _ => {}
            }
        }
        Ok(())
    }

    fn folder(&mut self, full: &[u8], stat: &Stat) -> io::Result<()> {
        self.bare(full, Kind::Folder, stat, None)
    }

    /// An entry without content.
    fn bare(&mut self, full: &[u8], kind: Kind, stat: &Stat, link: Option<&[u8]>) -> io::Result<()> {
        let (mode, mtime_ns) = (mode(stat), folder::mtime_ns(stat));
        Member { name: full, kind, mode, mtime_ns, size: 0, link }.write(&mut self.out)?;
        self.list(&Entry {
            path: path::encode(full),
            kind,
            mode,
            mtime_ns,
            size: 0,
            blake3: None,
            link: link.map(path::encode),
        })
    }

    fn file(&mut self, handle: BorrowedFd<'_>, name: &[u8], full: &[u8]) -> io::Result<()> {
        // NONBLOCK: if a pipe took the file's place, opening must not hang.
        let before = folder::stat(handle, name);
        let Some(opened) = folder::present(Opened::reading(handle, name, OFlags::NONBLOCK, 0o400))? else {
            return Ok(());
        };
        let stat = rustix::fs::fstat(&opened.file)?;
        if folder::kind(&stat) != FileType::RegularFile {
            return Ok(());
        }
        // The mode may be lifted just now: what it was before counts, where that was the same file.
        let mode = before
            .ok()
            .filter(|before| before.st_ino == stat.st_ino)
            .map_or(mode(&stat), |before| mode(&before));
        let mtime_ns = folder::mtime_ns(&stat);
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        Member { name: full, kind: Kind::File, mode, mtime_ns, size, link: None }.write(&mut self.out)?;
        let blake3 = self.content(&opened, size)?;
        self.list(&Entry {
            path: path::encode(full),
            kind: Kind::File,
            mode,
            mtime_ns,
            size,
            blake3: Some(blake3.to_hex().to_string()),
            link: None,
        })
    }

    /// Exactly `size` bytes, whatever happens to the file: cut off where it grew, zeros where it shrank.
    fn content(&mut self, opened: &Opened, size: u64) -> io::Result<blake3::Hash> {
        let mut file = std::fs::File::from(opened.file.try_clone()?);
        let mut hasher = blake3::Hasher::new();
        let mut left = size;
        let mut ended = false;
        while left > 0 {
            let wanted = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let buffer = self.buffer.get_mut(..wanted).unwrap_or_default();
            let length = if ended { 0 } else { file.read(buffer)? };
            let piece = if length == 0 {
                ended = true;
                buffer.fill(0);
                &*buffer
            } else {
                buffer.get(..length).unwrap_or_default()
            };
            hasher.update(piece);
            self.out.write_all(piece)?;
            left -= piece.len() as u64;
        }
        padding(size, &mut self.out)?;
        Ok(hasher.finalize())
    }

    fn list(&mut self, entry: &Entry) -> io::Result<()> {
        self.digest.add(entry);
        self.entries += 1;
        serde_json::to_writer(&mut self.manifest, entry)?;
        self.manifest.push(b'\n');
        Ok(())
    }

    fn finish(mut self, roots: &[String]) -> io::Result<Summary> {
        let header = Header { format: FORMAT, roots: roots.to_vec(), entries: self.entries };
        let mut first = serde_json::to_vec(&header)?;
        first.push(b'\n');
        let size = (first.len() + self.manifest.len()) as u64;
        Member {
            name: MANIFEST_MEMBER.as_bytes(),
            kind: Kind::File,
            mode: 0o600,
            mtime_ns: 0,
            size,
            link: None,
        }
        .write(&mut self.out)?;
        self.out.write_all(&first)?;
        self.out.write_all(&self.manifest)?;
        padding(size, &mut self.out)?;
        end(&mut self.out)?;
        self.out.finish()?;
        Ok(self.digest.summary())
    }
}

/// Set-id bits are not kept.
fn mode(stat: &Stat) -> u32 {
    stat.st_mode & 0o1777
}

fn present<T>(result: rustix::io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NOENT | Errno::INVAL) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
