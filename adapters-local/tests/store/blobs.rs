use std::sync::Arc;

use burstflare_adapters_local::blobs::FsBlobs;
use burstflare_ports::blob::{BlobKey, Blobs};
use burstflare_ports::error::ErrorKind;
use burstflare_ports::stream::Body;
use bytes::Bytes;
use futures_util::StreamExt;

async fn backend() -> Arc<dyn Blobs> {
    let folder = tempfile::tempdir().expect("a folder").keep();
    Arc::new(FsBlobs::open(folder).expect("the blobs"))
}

burstflare_ports::blob_tests!(
    #[tokio::test]
    backend
);

fn key(text: &str) -> BlobKey {
    text.parse().expect("a key")
}

fn body(length: usize) -> Body {
    Body::Full(Bytes::from(vec![7; length]))
}

#[tokio::test]
async fn a_flipped_bit_is_found_before_the_last_chunk_is_given() {
    let folder = tempfile::tempdir().expect("a folder");
    let blobs = FsBlobs::open(folder.path()).expect("the blobs");
    blobs.put(&key("a/b"), body(700_000), 1 << 20).await.expect("the put");
    let file = folder.path().join("data/a/b@");
    let mut bytes = std::fs::read(&file).expect("the file");
    bytes[350_000] ^= 1;
    std::fs::write(&file, bytes).expect("the damage");
    let (_, mut flow) = blobs.get(&key("a/b"), None).await.expect("its head is whole");
    let (mut given, mut error) = (0, None);
    while let Some(chunk) = flow.next().await {
        match chunk {
            Ok(chunk) => given += chunk.len(),
            Err(found) => error = Some(found.kind()),
        }
    }
    assert_eq!(error, Some(ErrorKind::Corrupt));
    assert!(given < 700_000, "all bytes were given before the digest was looked at");
}

#[tokio::test]
async fn a_cut_off_file_is_corrupt() {
    let folder = tempfile::tempdir().expect("a folder");
    let blobs = FsBlobs::open(folder.path()).expect("the blobs");
    blobs.put(&key("a"), body(1_000), 1_000).await.expect("the put");
    let file = folder.path().join("data/a@");
    for length in [0, 39, 500, 1_039] {
        let bytes = std::fs::read(&file).expect("the file");
        std::fs::write(&file, &bytes[..length]).expect("the damage");
        let answer = blobs.get(&key("a"), None).await;
        assert_eq!(answer.err().map(|error| error.kind()), Some(ErrorKind::Corrupt), "{length} bytes");
        std::fs::write(&file, bytes).expect("the repair");
    }
}

#[tokio::test]
async fn opening_removes_what_a_crash_left_half_written() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(FsBlobs::open(folder.path()).expect("the blobs"));
    std::fs::write(folder.path().join("tmp/17"), b"half").expect("a leftover");
    let blobs = FsBlobs::open(folder.path()).expect("the blobs");
    assert_eq!(std::fs::read_dir(folder.path().join("tmp")).expect("the folder").count(), 0);
    blobs.put(&key("a"), body(5), 5).await.expect("the put");
    assert_eq!(std::fs::read_dir(folder.path().join("tmp")).expect("the folder").count(), 0);
}

#[tokio::test]
async fn puts_and_deletes_in_one_folder_do_not_trip_over_each_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let blobs = FsBlobs::open(folder.path()).expect("the blobs");
    let work = (0..8).map(|worker| {
        let blobs = blobs.clone();
        tokio::spawn(async move {
            for _ in 0..200 {
                let key = key(&format!("deep/er/{worker}"));
                blobs.put(&key, body(10), 10).await.expect("the put");
                blobs.delete(&key).await.expect("the delete");
            }
        })
    });
    for done in futures_util::future::join_all(work).await {
        done.expect("the worker");
    }
    assert_eq!(std::fs::read_dir(folder.path().join("data")).expect("the folder").count(), 0);
}

/// A file system of 1 MiB, where this process may mount one.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder").keep();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
            .arg(&folder)
            .status()
            .is_ok_and(|status| status.success());
        mounted.then_some(Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(&self.0).status();
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[tokio::test]
async fn a_full_disk_is_full_and_nothing_is_left() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("SKIPPED a_full_disk_is_full_and_nothing_is_left: this process may not mount a tmpfs");
        return;
    };
    let blobs = FsBlobs::open(disk.0.join("blobs")).expect("the blobs");
    blobs.put(&key("small"), body(1_000), 1_000).await.expect("the first put");
    let error = blobs.put(&key("big"), body(2 << 20), 4 << 20).await.expect_err("no space");
    assert_eq!(error.kind(), ErrorKind::Full, "{error:?}");
    assert_eq!(blobs.head(&key("big")).await.expect("head"), None);
    assert_eq!(std::fs::read_dir(disk.0.join("blobs/tmp")).expect("the folder").count(), 0);
    blobs.put(&key("other"), body(1_000), 1_000).await.expect("there is space again");
}
