//! The real records and blobs of one machine under the same worlds: SQLite and a folder. A call is carried out at once, in
//! one poll, so the scheduler stays the only source of order and a seed tells the same story as on the memory backends.
//!
//! When the control plane crashes, its files are copied as they lie, with what a power cut may leave beside them, and
//! the next life opens the copy.

use std::fs;
use std::io::Write as _;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};

use async_trait::async_trait;
use burstflare_adapters_local::blobs::FsBlobs;
use burstflare_adapters_local::sqlite::{DataFolder, SqliteDatabase, SqliteStore};
use burstflare_ports::blob::{BlobInfo, BlobKey, BlobPage, Blobs};
use burstflare_ports::error::PortResult;
use burstflare_ports::stream::{Body, ByteStream};
use burstflare_ports::time::Timestamp;
use futures_util::{StreamExt as _, stream};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::rng::Rng;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
});

/// The present files, opened.
struct Opened {
    folder: TempDir,
    store: Arc<SqliteStore>,
    blobs: FsBlobs,
}

/// Records and blobs in files.
#[derive(Clone)]
pub(crate) struct Disk {
    opened: Arc<Mutex<Opened>>,
}

impl Disk {
    pub(crate) fn new() -> Self {
        Self { opened: Arc::new(Mutex::new(open(room()))) }
    }

    pub(crate) fn store(&self) -> Arc<SqliteStore> {
        Arc::clone(&self.opened.lock().unwrap().store)
    }

    fn blobs(&self) -> FsBlobs {
        self.opened.lock().unwrap().blobs.clone()
    }

    /// The process dies: what lies in the files is what is left.
    pub(crate) fn crash(&self, rng: &Rng) {
        let left = room();
        let mut opened = self.opened.lock().unwrap();
        copy(opened.folder.path(), left.path());
        // Bytes behind the last whole commit of the log, as a write that was cut off leaves them.
        if rng.hits(5_000) {
            let log = fs::read_dir(left.path()).unwrap().flatten().map(|entry| entry.path());
            for log in log.filter(|path| path.to_string_lossy().ends_with("-wal")) {
                let garbage: Vec<u8> =
                    (0..rng.below(6_000)).map(|_| u8::try_from(rng.below(256)).unwrap()).collect();
                fs::OpenOptions::new().append(true).open(log).unwrap().write_all(&garbage).unwrap();
            }
        }
        // Half a blob that was never named.
        if rng.hits(5_000) {
            fs::write(
                left.path().join("blobs/tmp").join(rng.below(5).to_string()),
                vec![7; rng.below(9_000)],
            )
            .unwrap();
        }
        *opened = open(left);
    }
}

pub(crate) fn room() -> TempDir {
    // Memory, where there is some to be had as a folder: flushing costs nothing there.
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

fn open(folder: TempDir) -> Opened {
    let data = DataFolder::open(folder.path()).unwrap();
    let database = RUNTIME.block_on(SqliteDatabase::open(&data, Timestamp::from_millis(1))).unwrap();
    let blobs = FsBlobs::open(folder.path().join("blobs")).unwrap();
    Opened { folder, store: Arc::new(SqliteStore::new(database)), blobs }
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (place, name) = (to.join(entry.file_name()), entry.file_name().to_string_lossy().into_owned());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&place).unwrap();
            copy(&entry.path(), &place);
        } else if name != "lock" && !name.ends_with("-shm") {
            fs::copy(entry.path(), place).unwrap();
        }
    }
}

/// Carries a call out at once.
pub(crate) fn now<T: Send>(call: impl Future<Output = T> + Send) -> T {
    RUNTIME.block_on(call)
}

#[async_trait]
impl Blobs for Disk {
    async fn put(&self, key: &BlobKey, body: Body, limit: u64) -> PortResult<BlobInfo> {
        // The body comes in the world's time.
        let bytes = body.collect(usize::try_from(limit).unwrap_or(usize::MAX), "blobs.put").await?;
        now(self.blobs().put(key, Body::Full(bytes), limit))
    }

    async fn get(&self, key: &BlobKey, range: Option<Range<u64>>) -> PortResult<(BlobInfo, ByteStream)> {
        let blobs = self.blobs();
        now(async {
            let (info, stream) = blobs.get(key, range).await?;
            let chunks: Vec<_> = stream.collect().await;
            Ok((info, Box::pin(stream::iter(chunks)) as ByteStream))
        })
    }

    async fn head(&self, key: &BlobKey) -> PortResult<Option<BlobInfo>> {
        now(self.blobs().head(key))
    }

    async fn delete(&self, key: &BlobKey) -> PortResult<()> {
        now(self.blobs().delete(key))
    }

    async fn list(&self, prefix: &BlobKey, after: Option<&BlobKey>, limit: usize) -> PortResult<BlobPage> {
        now(self.blobs().list(prefix, after, limit))
    }
}
