//! One blob's file: written, published, read, removed. Everything here blocks.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use burstflare_ports::blob::BlobInfo;
use bytes::Bytes;

const MARK: &[u8; 8] = b"flareb1\n";
const TRAILER: u64 = 40;

/// Held shared by who puts a file into a folder, and alone by who removes folders that look empty.
pub(super) type Folders = RwLock<()>;

/// A file that is being written; it vanishes with this value unless it was published.
pub(super) struct Writing {
    file: File,
    hasher: blake3::Hasher,
    temporary: Temporary,
}

struct Temporary(Option<PathBuf>);

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = self.0.take() {
            // What cannot be removed now is removed when the folder is opened again.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Writing {
    pub(super) fn begin(path: PathBuf) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        Ok(Self { file, hasher: blake3::Hasher::new(), temporary: Temporary(Some(path)) })
    }

    pub(super) fn write(mut self, chunks: &[Bytes]) -> io::Result<Self> {
        for chunk in chunks {
            self.hasher.update(chunk);
            self.file.write_all(chunk)?;
        }
        Ok(self)
    }

    /// Makes the blob appear below `root`; answers its digest.
    pub(super) fn finish(mut self, folders: &Folders, root: &Path, target: &Path) -> io::Result<String> {
        let digest = self.hasher.finalize();
        self.file.write_all(digest.as_bytes())?;
        self.file.write_all(MARK)?;
        self.file.sync_all()?;
        let folder = target.parent().unwrap_or(root);
        let Some(temporary) = self.temporary.0.as_deref() else { return Err(io::ErrorKind::NotFound.into()) };
        // Until the file is in it, nobody may take the folder away for being empty.
        let stay = folders.read().unwrap_or_else(PoisonError::into_inner);
        make_folders(root, folder)?;
        std::fs::rename(temporary, target)?;
        self.temporary.0 = None;
        drop(stay);
        match flush_folder(folder) {
            // The blob was deleted at once, and its folder with it; the deletion flushes what is above.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            flushed => flushed?,
        }
        Ok(digest.to_hex().to_string())
    }
}

/// A file that is being read.
pub(super) struct Reading {
    file: File,
    size: u64,
    digest: [u8; 32],
    left: u64,
    /// Only for a whole read; a range cannot be verified.
    hasher: Option<blake3::Hasher>,
}

impl Reading {
    pub(super) fn open(path: &Path, range: Option<Range<u64>>) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len().checked_sub(TRAILER).ok_or(io::ErrorKind::InvalidData)?;
        let (mut digest, mut mark) = ([0; 32], [0; 8]);
        file.seek(SeekFrom::Start(size))?;
        file.read_exact(&mut digest)?;
        file.read_exact(&mut mark)?;
        if mark != *MARK {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let hasher = range.is_none().then(blake3::Hasher::new);
        let range = range.unwrap_or(0..size);
        if range.start > range.end || range.end > size {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        file.seek(SeekFrom::Start(range.start))?;
        Ok(Self { file, size, digest, left: range.end - range.start, hasher })
    }

    pub(super) fn info(&self) -> BlobInfo {
        BlobInfo { size: self.size, blake3: blake3::Hash::from_bytes(self.digest).to_hex().to_string() }
    }

    /// The next chunk and what comes behind it. The last chunk of a whole read is given only once the digest is right.
    pub(super) fn next(mut self, chunk: usize) -> io::Result<Option<(Bytes, Option<Self>)>> {
        let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(chunk);
        let mut buffer = vec![0; length];
        self.file.read_exact(&mut buffer)?;
        self.left -= length as u64;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer);
            if self.left == 0 && *hasher.finalize().as_bytes() != self.digest {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        if length == 0 {
            return Ok(None);
        }
        let rest = (self.left > 0).then_some(self);
        Ok(Some((Bytes::from(buffer), rest)))
    }
}

/// Removes a blob and the folders that it leaves empty.
pub(super) fn delete(folders: &Folders, root: &Path, path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    let alone = folders.write().unwrap_or_else(PoisonError::into_inner);
    let mut folder = path.parent();
    while let Some(empty) = folder.filter(|folder| *folder != root) {
        // One that is not empty stays, and so do those above it.
        if std::fs::remove_dir(empty).is_err() {
            break;
        }
        folder = empty.parent();
    }
    drop(alone);
    folder.map_or(Ok(()), |folder| match flush_folder(folder) {
        // Another deletion took it away, and flushes what is above.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        flushed => flushed,
    })
}

/// Makes the folders between `root` and `folder`, each on stable storage.
fn make_folders(root: &Path, folder: &Path) -> io::Result<()> {
    if folder == root || folder.is_dir() {
        return Ok(());
    }
    let above = folder.parent().unwrap_or(root);
    make_folders(root, above)?;
    match DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => flush_folder(above),
        // Another put made it just now; whether it is on stable storage yet is not known.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => flush_folder(above),
        Err(error) => Err(error),
    }
}

fn flush_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
