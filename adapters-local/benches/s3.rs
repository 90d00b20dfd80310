//! `cargo bench -p burstflare-adapters-local --features s3 --bench s3`: what blobs on S3 cost, beside a folder and the bare SDK, on the
//! same server in the same run. `BENCH_SMALL` (default 300) and `BENCH_BIG` (default 6) are how many objects of 10 KB and 64 MB.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench stops at surprises"
)]

#[expect(dead_code, reason = "the tests share it")]
#[path = "../tests/s3/reach.rs"]
mod reach;
#[expect(dead_code, reason = "the tests share it")]
#[path = "../tests/s3/server.rs"]
mod server;

use std::time::{Duration, Instant};

use burstflare_adapters_local::blobs::FsBlobs;
use burstflare_ports::blob::Blobs;
use burstflare_ports::stream::Body;
use bytes::Bytes;
use futures_util::{StreamExt, stream};

const SMALL: usize = 10_000;
const BIG: usize = 64_000_000;

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn bytes(length: usize) -> Bytes {
    (0..length).map(|place| (place.wrapping_mul(2_654_435_761) >> 7).to_le_bytes()[0]).collect()
}

fn flow(whole: &Bytes) -> Body {
    const PIECE: usize = 256 << 10;
    let pieces: Vec<_> =
        (0..whole.len()).step_by(PIECE).map(|at| Ok(whole.slice(at..whole.len().min(at + PIECE)))).collect();
    Body::Stream(stream::iter(pieces).boxed())
}

/// The median of some runs, one after the other.
async fn median<F: Future<Output = ()>>(count: usize, run: impl Fn(usize) -> F) -> Duration {
    let mut times = Vec::new();
    for number in 0..count {
        let begun = Instant::now();
        run(number).await;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn line(what: &str, who: &str, size: usize, time: Duration) {
    let rate = size as f64 / 1e6 / time.as_secs_f64();
    println!("  {what:<12} {who:<14} {:>9.2} ms   {rate:>8.1} MB/s", time.as_secs_f64() * 1e3);
}

async fn blobs(who: &str, blobs: &dyn Blobs, size: usize, count: usize) {
    let whole = bytes(size);
    let key = |number: usize| format!("bench/{size}/{number}").parse().expect("a key");
    let put = median(count, async |number| {
        blobs.put(&key(number), flow(&whole), size as u64).await.expect("the put");
    });
    line("put", who, size, put.await);
    let get = median(count, async |number| {
        let (_, mut flow) = blobs.get(&key(number), None).await.expect("the get");
        let mut length = 0;
        while let Some(chunk) = flow.next().await {
            length += chunk.expect("its bytes").len();
        }
        assert_eq!(length, size);
    });
    line("get", who, size, get.await);
}

async fn bare(client: &aws_sdk_s3::Client, size: usize, count: usize) {
    let whole = bytes(size);
    let key = |number: usize| format!("bare/{size}/{number}");
    let put = median(count, async |number| {
        let call = client.put_object().bucket(server::BUCKET).key(key(number)).body(whole.clone().into());
        call.send().await.expect("the put");
    });
    line("put", "bare SDK", size, put.await);
    let get = median(count, async |number| {
        let answer =
            client.get_object().bucket(server::BUCKET).key(key(number)).send().await.expect("the get");
        let (mut body, mut length) = (answer.body, 0);
        while let Some(chunk) = body.next().await {
            length += chunk.expect("its bytes").len();
        }
        assert_eq!(length, size);
    });
    line("get", "bare SDK", size, get.await);
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    if std::env::args().any(|word| word == "--list" || word == "--test") {
        return;
    }
    let Some(server) = server::Server::start() else { return };
    let s3 = reach::blobs(reach::options(server.port, "bench", "")).await;
    let plain = reach::blobs(reach::options(server.port, "plain", "&checksums=required")).await;
    let client = reach::client(server.port);
    let folder = tempfile::tempdir().expect("a folder");
    let files = FsBlobs::open(folder.path()).expect("the folder");
    for (size, count) in [(SMALL, setting("BENCH_SMALL", 300)), (BIG, setting("BENCH_BIG", 6))] {
        println!("\n{size} bytes, median of {count}");
        blobs("S3", &s3, size, count).await;
        blobs("S3, required", &plain, size, count).await;
        bare(&client, size, count).await;
        blobs("folder", &files, size, count).await;
    }
}
