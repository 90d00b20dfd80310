//! Blobs in a folder.
//!
//! A blob is a file: its bytes, then a trailer of 40 bytes (BLAKE3 of the bytes and a mark), so that bytes and digest
//! appear together. It is written under a temporary name, flushed, renamed, and the folder is flushed.

mod file;
mod list;

use std::fs::DirBuilder;
use std::io;
use std::ops::Range;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use burstflare_ports::blob::{BlobInfo, BlobKey, BlobPage, Blobs};
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::stream::{Body, ByteStream};
use futures_util::{StreamExt, stream};

use self::file::{Folders, Reading, Writing};

/// Bytes that are written or read in one go.
const CHUNK: usize = 256 * 1024;
/// The most keys of a page.
const LIST_LIMIT: usize = 200;

/// Blobs below one folder. Clones share it.
#[derive(Debug, Clone)]
pub struct FsBlobs {
    places: Arc<Places>,
}

/// Where things lie. `@` is in no key, so a blob's file and the folder of longer keys never collide.
#[derive(Debug)]
struct Places {
    data: PathBuf,
    temporary: PathBuf,
    folders: Folders,
    counter: AtomicU64,
}

impl FsBlobs {
    /// Blobs below `root`, which is made where it is missing. Half-written files of an earlier process are removed:
    /// only one process may use the folder.
    ///
    /// # Errors
    /// What the file system answers.
    pub fn open(root: impl Into<PathBuf>) -> PortResult<Self> {
        let root = root.into();
        let places = Places {
            data: root.join("data"),
            temporary: root.join("tmp"),
            folders: Folders::default(),
            counter: AtomicU64::new(0),
        };
        let prepare = || {
            for folder in [&places.data, &places.temporary] {
                DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            }
            std::fs::File::open(&root)?.sync_all()?;
            for entry in std::fs::read_dir(&places.temporary)? {
                std::fs::remove_file(entry?.path())?;
            }
            Ok(())
        };
        prepare().map_err(|error| failed("blobs.open", &root.display().to_string(), error))?;
        Ok(Self { places: Arc::new(places) })
    }
}

impl Places {
    fn file(&self, key: &BlobKey) -> PathBuf {
        let mut path = self.data.join(key.as_str()).into_os_string();
        path.push("@");
        path.into()
    }

    fn temporary(&self) -> PathBuf {
        self.temporary.join(self.counter.fetch_add(1, Ordering::Relaxed).to_string())
    }
}

#[async_trait]
impl Blobs for FsBlobs {
    async fn put(&self, key: &BlobKey, body: Body, limit: u64) -> PortResult<BlobInfo> {
        let operation = "blobs.put";
        let places = Arc::clone(&self.places);
        let mut writing = blocking(operation, key, move || Writing::begin(places.temporary())).await?;
        let mut flow = body.into_stream();
        let (mut size, mut waiting, mut waiting_bytes) = (0_u64, Vec::new(), 0);
        while let Some(chunk) = flow.next().await {
            let chunk = chunk?;
            size = size.saturating_add(chunk.len() as u64);
            if size > limit {
                return Err(PortError::new(
                    ErrorKind::TooLarge,
                    operation,
                    format!("{key} is over the limit of {limit} bytes"),
                ));
            }
            waiting_bytes += chunk.len();
            waiting.push(chunk);
            if waiting_bytes >= CHUNK {
                let chunks = std::mem::take(&mut waiting);
                waiting_bytes = 0;
                writing = blocking(operation, key, move || writing.write(&chunks)).await?;
            }
        }
        let (places, target) = (Arc::clone(&self.places), self.places.file(key));
        let publish = move || writing.write(&waiting)?.finish(&places.folders, &places.data, &target);
        let blake3 = blocking(operation, key, publish).await?;
        Ok(BlobInfo { size, blake3 })
    }

    async fn get(&self, key: &BlobKey, range: Option<Range<u64>>) -> PortResult<(BlobInfo, ByteStream)> {
        let operation = "blobs.get";
        let path = self.places.file(key);
        let reading = blocking(operation, key, move || Reading::open(&path, range)).await?;
        let info = reading.info();
        let key = key.clone();
        let flow = stream::try_unfold(Some(reading), move |reading| {
            let key = key.clone();
            async move {
                let Some(reading) = reading else { return Ok(None) };
                blocking(operation, &key, move || reading.next(CHUNK)).await
            }
        });
        Ok((info, Box::pin(flow)))
    }

    async fn head(&self, key: &BlobKey) -> PortResult<Option<BlobInfo>> {
        let path = self.places.file(key);
        match blocking("blobs.head", key, move || Reading::open(&path, None)).await {
            Ok(reading) => Ok(Some(reading.info())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn delete(&self, key: &BlobKey) -> PortResult<()> {
        let (places, path) = (Arc::clone(&self.places), self.places.file(key));
        blocking("blobs.delete", key, move || file::delete(&places.folders, &places.data, &path)).await
    }

    async fn list(&self, prefix: &BlobKey, after: Option<&BlobKey>, limit: usize) -> PortResult<BlobPage> {
        let (places, below, after) = (Arc::clone(&self.places), prefix.clone(), after.cloned());
        let limit = limit.clamp(1, LIST_LIMIT);
        blocking("blobs.list", prefix, move || list::page(&places.data, &below, after.as_ref(), limit)).await
    }
}

/// Runs file work where it may block.
async fn blocking<T: Send + 'static>(
    operation: &'static str,
    key: &BlobKey,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> PortResult<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(failed(operation, key.as_str(), error)),
        Err(_) => Err(PortError::new(ErrorKind::Internal, operation, "the work was cut off")),
    }
}

fn failed(operation: &'static str, what: &str, error: io::Error) -> PortError {
    let (kind, context) = match error.kind() {
        io::ErrorKind::NotFound => (ErrorKind::NotFound, format!("there is no {what}")),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            (ErrorKind::Full, format!("no space is left for {what}"))
        }
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
            (ErrorKind::Corrupt, format!("the bytes of {what} are not what was stored"))
        }
        io::ErrorKind::InvalidInput => (ErrorKind::Invalid, format!("{what} has no such range")),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            (ErrorKind::Denied, format!("the folder of {what} cannot be used"))
        }
        _ => (ErrorKind::Unavailable, format!("the disk does not answer for {what}")),
    };
    PortError::new(kind, operation, context).with_source(error)
}
