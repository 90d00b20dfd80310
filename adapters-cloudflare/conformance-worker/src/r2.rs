//! What is R2's own: parts, trailers, objects that are not ours.

use std::sync::Arc;

use burstflare_adapters_cloudflare::R2Blobs;
use burstflare_ports::blob::{BlobKey, Blobs};
use burstflare_ports::conformance::{Finding, Verdict};
use burstflare_ports::error::ErrorKind;
use burstflare_ports::stream::Body;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use worker::Env;

/// The names of the cases.
pub(crate) const CASES: [&str; 4] = [
    "blobs_around_the_size_of_parts_come_back",
    "a_long_blob_costs_bounded_memory",
    "a_changed_object_is_corrupt",
    "foreign_objects_are_not_listed",
];

const PART: usize = 5 << 20;

/// Runs a case; none where there is none.
pub(crate) async fn run(name: &str, env: &Env, seed: u64) -> worker::Result<Option<Verdict>> {
    let blobs = Arc::new(R2Blobs::new(env.bucket("BLOBS")?));
    let key = |rest: &str| format!("r2/{seed:x}/{rest}").parse().map_err(|_| Finding(rest.to_owned()));
    Ok(Some(match name {
        "blobs_around_the_size_of_parts_come_back" => match key("parts") {
            Ok(key) => parts(&*blobs, &key).await,
            Err(finding) => Err(finding),
        },
        "a_long_blob_costs_bounded_memory" => match key("long") {
            Ok(key) => long(&*blobs, &key).await,
            Err(finding) => Err(finding),
        },
        "a_changed_object_is_corrupt" => changed(&*blobs, env, &format!("r2/{seed:x}/changed")).await,
        "foreign_objects_are_not_listed" => foreign(&*blobs, env, &format!("r2/{seed:x}/foreign")).await,
        _ => return Ok(None),
    }))
}

fn bytes(length: usize) -> Bytes {
    (0..length).map(|place| (place.wrapping_mul(37) >> 5).to_le_bytes()[0]).collect()
}

fn wrong<T>(what: String) -> Result<T, Finding> {
    Err(Finding(what))
}

/// One part, one byte beside it, and trailers that end in a part of their own.
async fn parts(blobs: &dyn Blobs, key: &BlobKey) -> Verdict {
    for size in [PART - 1, PART, PART + 1, 2 * PART - 40, 2 * PART - 20, 2 * PART, 2 * PART + 1] {
        let whole = bytes(size);
        let chunks: Vec<_> = whole.chunks(700_001).map(|chunk| Ok(whole.slice_ref(chunk))).collect();
        let info = blobs.put(key, Body::Stream(Box::pin(stream::iter(chunks))), u64::MAX).await?;
        if blobs.head(key).await? != Some(info.clone()) || info.size != size as u64 {
            return wrong(format!("{size} bytes: {info:?}"));
        }
        let (found, flow) = blobs.get(key, None).await?;
        if found != info || Body::Stream(flow).collect(3 * PART, "case").await? != whole {
            return wrong(format!("{size} bytes come back as others"));
        }
        let (start, end) = (size - 1_000.min(size), size);
        let (_, flow) = blobs.get(key, Some(start as u64..end as u64)).await?;
        let tail = Body::Stream(flow).collect(PART, "case").await?;
        if whole.get(start..end) != Some(&tail) {
            return wrong(format!("the end of {size} bytes"));
        }
        let beyond = blobs.get(key, Some(start as u64..end as u64 + 1)).await;
        if beyond.err().map(|error| error.kind()) != Some(ErrorKind::Invalid) {
            return wrong(format!("a byte behind {size} can be read"));
        }
    }
    Ok(())
}

/// Four times what an isolate could hold twice.
async fn long(blobs: &dyn Blobs, key: &BlobKey) -> Verdict {
    const CHUNKS: u64 = 256;
    let chunk = bytes(1 << 20);
    let flow = stream::iter((0..CHUNKS).map(move |_| Ok(chunk.clone())));
    let before = memory();
    let info = blobs.put(key, Body::Stream(Box::pin(flow)), u64::MAX).await?;
    let (found, mut flow) = blobs.get(key, None).await?;
    let mut read = 0;
    while let Some(chunk) = flow.next().await {
        read += chunk?.len() as u64;
    }
    if found != info || read != CHUNKS << 20 {
        return wrong(format!("{read} bytes of {found:?}"));
    }
    blobs.delete(key).await?;
    let grown = memory() - before;
    if grown > 8 << 20 { wrong(format!("the memory has grown by {grown} bytes")) } else { Ok(()) }
}

#[cfg(target_arch = "wasm32")]
fn memory() -> usize {
    core::arch::wasm32::memory_size::<0>() * 65_536
}

#[cfg(not(target_arch = "wasm32"))]
const fn memory() -> usize {
    0
}

fn broken(error: &worker::Error) -> Finding {
    Finding(error.to_string())
}

async fn changed(blobs: &dyn Blobs, env: &Env, name: &str) -> Verdict {
    let key: BlobKey = name.parse().map_err(|_| Finding(name.to_owned()))?;
    let bucket = env.bucket("BLOBS").map_err(|error| broken(&error))?;
    let info = blobs.put(&key, Body::Full(bytes(900_000)), 1 << 20).await?;
    let mut other = bytes(900_000).to_vec();
    if let Some(byte) = other.get_mut(899_999) {
        *byte ^= 1;
    }
    let notes = [("blake3".to_owned(), info.blake3)].into_iter().collect::<std::collections::HashMap<_, _>>();
    bucket.put(name, other).custom_metadata(notes).execute().await.map_err(|error| broken(&error))?;
    let (_, flow) = blobs.get(&key, None).await?;
    match Body::Stream(flow).collect(1 << 20, "case").await {
        Err(error) if error.kind() == ErrorKind::Corrupt => {}
        other => return wrong(format!("one flipped bit: {other:?}")),
    }
    bucket.put(name, vec![1; 100]).execute().await.map_err(|error| broken(&error))?;
    match blobs.head(&key).await {
        Err(error) if error.kind() == ErrorKind::Corrupt => Ok(()),
        other => wrong(format!("no digest at all: {other:?}")),
    }
}

async fn foreign(blobs: &dyn Blobs, env: &Env, name: &str) -> Verdict {
    let bucket = env.bucket("BLOBS").map_err(|error| broken(&error))?;
    for rest in ["a b", "b//c", "c/é"] {
        let name = format!("{name}/{rest}");
        bucket.put(name, vec![1]).execute().await.map_err(|error| broken(&error))?;
    }
    let prefix: BlobKey = name.parse().map_err(|_| Finding(name.to_owned()))?;
    let own: BlobKey = format!("{name}/d").parse().map_err(|_| Finding(name.to_owned()))?;
    blobs.put(&own, Body::Full(bytes(1)), 1).await?;
    let page = blobs.list(&prefix, None, 1).await?;
    if page.keys == [own] && page.next.is_none() { Ok(()) } else { wrong(format!("{page:?}")) }
}
