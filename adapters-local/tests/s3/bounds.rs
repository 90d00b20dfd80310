//! What a put and a read hold in memory, seen by how much they take when the other side stands still.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use burstflare_ports::blob::Blobs;
use burstflare_ports::stream::Body;
use bytes::Bytes;
use futures_util::{StreamExt, stream};

use crate::fresh::Fresh;
use crate::key;
use crate::proxy::{Call, Fault};
use crate::reach::options;
use crate::server::PATIENCE;

const CHUNK: usize = 1 << 20;
/// Two parts on their way and one that waits; the body is not asked for more.
const MOST: usize = 3 * (8 << 20) + CHUNK;

#[tokio::test]
async fn a_put_takes_no_more_of_its_body_than_three_parts_while_the_service_stands_still() {
    let Some(fresh) = Fresh::behind_proxy(|port| options(port, "bounds", "")).await else { return };
    fresh.proxy().plan(|call, _| if call == Call::Part { Fault::Forever } else { Fault::None });
    let taken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&taken);
    let endless = stream::repeat_with(move || {
        count.fetch_add(CHUNK, Ordering::Relaxed);
        Ok(Bytes::from(vec![7; CHUNK]))
    });
    let task =
        tokio::spawn(async move { fresh.put(&key("endless"), Body::Stream(endless.boxed()), 1 << 36).await });
    let end = tokio::time::Instant::now() + PATIENCE;
    while taken.load(Ordering::Relaxed) < 3 * (8 << 20) {
        assert!(tokio::time::Instant::now() < end, "it does not fill its parts");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Whatever it would take on top, it has the time to.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(taken.load(Ordering::Relaxed) <= MOST, "{} bytes", taken.load(Ordering::Relaxed));
    task.abort();
}
