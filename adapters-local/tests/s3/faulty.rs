//! The conformance suite once more, with a fault at almost every call: whatever is tried again has to come out as if nothing
//! had happened.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use burstflare_ports::blob::Blobs;

use crate::fresh::Fresh;
use crate::proxy::{Call, Fault};
use crate::reach::{options, short};

async fn backend() -> Arc<dyn Blobs> {
    let make = |port| {
        let mut options = options(port, "faulty", "");
        options.deadlines = short();
        // So that most bodies have more than one, where the server takes small ones.
        options.part = crate::server::least_part();
        options
    };
    let fresh = Fresh::behind_proxy(make).await;
    if let Some(fresh) = &fresh {
        let count = AtomicUsize::new(0);
        fresh.proxy().plan(move |call, before| fault(call, before, count.fetch_add(1, Ordering::Relaxed)));
    }
    Fresh::or_memory(fresh)
}

burstflare_ports::blob_tests!(
    #[tokio::test]
    backend,
    unless crate::server::left_out
);

/// Twice each call fails, in ways that the number of calls so far chooses; then it is let through.
fn fault(call: Call, before: usize, count: usize) -> Fault {
    const ANY: [Fault; 8] = [
        Fault::Refused(500, "InternalError"),
        Fault::Refused(503, "SlowDown"),
        Fault::Refused(503, "ServiceUnavailable"),
        Fault::Cut,
        Fault::LostAnswer,
        Fault::CutAnswer(10),
        Fault::Slow(Duration::from_millis(50)),
        Fault::None,
    ];
    if before >= 2 {
        return Fault::None;
    }
    let chance = count.wrapping_mul(0x9E37_79B9) / 7 % (ANY.len() + 1);
    match (ANY.get(chance), call) {
        (Some(fault), _) => *fault,
        (None, Call::Put | Call::Part) => Fault::CutAfter(1_000),
        (None, Call::Complete) => Fault::FailedWith200,
        (None, Call::Get) => Fault::CutAnswer(100_000),
        (None, _) => Fault::Cut,
    }
}
