//! Blobs on an S3 service: the conformance suite and everything that can go wrong on the way, against a server that people run for
//! real. `.ci/tools/s3` installs it.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test stops at surprises and says what it skips"
)]

#[path = "s3/bounds.rs"]
mod bounds;
#[path = "s3/broken.rs"]
mod broken;
#[path = "s3/faulty.rs"]
mod faulty;
#[path = "s3/fresh.rs"]
mod fresh;
#[path = "s3/leftovers.rs"]
mod leftovers;
#[path = "s3/listing.rs"]
mod listing;
#[path = "s3/mistakes.rs"]
mod mistakes;
#[path = "s3/plain.rs"]
mod plain;
#[path = "s3/proxy.rs"]
mod proxy;
#[path = "s3/reach.rs"]
mod reach;
#[expect(dead_code, reason = "tests of other crates share it")]
#[path = "s3/server.rs"]
mod server;
#[path = "s3/virtual_host.rs"]
mod virtual_host;

use burstflare_ports::blob::{BlobKey, Blobs};
use burstflare_ports::stream::Body;
use bytes::Bytes;

fn key(text: &str) -> BlobKey {
    text.parse().expect("a key")
}

/// Bytes that differ from place to place, and from seed to seed.
fn bytes(length: usize, seed: u8) -> Bytes {
    (0..length).map(|place| (place.wrapping_mul(2_654_435_761) >> 7).to_le_bytes()[0] ^ seed).collect()
}

/// A body of which nobody knows how long it will be.
fn flow(whole: &Bytes) -> Body {
    const PIECE: usize = 100_000;
    let pieces: Vec<_> =
        (0..whole.len()).step_by(PIECE).map(|at| Ok(whole.slice(at..whole.len().min(at + PIECE)))).collect();
    Body::Stream(Box::pin(futures_util::stream::iter(pieces)))
}

async fn read(blobs: &dyn Blobs, text: &str) -> burstflare_ports::error::PortResult<Bytes> {
    let (_, flow) = blobs.get(&key(text), None).await?;
    Body::Stream(flow).collect(1 << 30, "test").await
}
