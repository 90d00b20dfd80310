//! What is left behind by who does not finish, and by others.

use std::time::Duration;

use burstflare_ports::blob::Blobs;
use burstflare_ports::error::ErrorKind;
use burstflare_ports::stream::Body;
use futures_util::{StreamExt, stream};

use crate::fresh::Fresh;
use crate::proxy::{Call, Fault};
use crate::reach::{blobs, options};
use crate::server::PATIENCE;
use crate::{bytes, key};

/// Ten parts, and then nothing, for ever.
fn endless() -> Body {
    Body::Stream(stream::iter((0..10).map(|_| Ok(bytes(8 << 20, 1)))).chain(stream::pending()).boxed())
}

async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let end = tokio::time::Instant::now() + PATIENCE;
    while !so() {
        assert!(tokio::time::Instant::now() < end, "never so: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_put_that_is_dropped_in_its_middle_gives_its_upload_up() {
    let Some(fresh) = Fresh::behind_proxy(|port| options(port, "left", "")).await else { return };
    let store = fresh.blobs.clone();
    let task = tokio::spawn(async move { store.put(&key("a"), endless(), 1 << 30).await });
    until("two parts are stored", || fresh.proxy().calls(Call::Part) >= 3).await;
    task.abort();
    until("it is given up", || fresh.proxy().calls(Call::Abort) >= 1).await;
    assert_eq!(fresh.blobs.shutdown(PATIENCE).await, 0);
    let mut later = options(fresh.proxy().port, "left", "");
    later.stale = Duration::ZERO;
    assert_eq!(blobs(later).await.sweep().await.expect("a sweep"), 0, "an upload is left");
}

#[tokio::test]
async fn what_could_not_be_given_up_is_swept_when_it_is_old_and_ours() {
    let Some(fresh) = Fresh::behind_proxy(|port| options(port, "left", "")).await else { return };
    fresh
        .proxy()
        .plan(|call, _| if call == Call::Abort { Fault::Refused(503, "SlowDown") } else { Fault::None });
    for name in ["a", "b/c"] {
        let store = fresh.blobs.clone();
        let key = key(name);
        let before = fresh.proxy().calls(Call::Part);
        let task = tokio::spawn(async move { store.put(&key, endless(), 1 << 30).await });
        until("a part is on its way", || fresh.proxy().calls(Call::Part) > before).await;
        task.abort();
    }
    until("giving up was tried", || fresh.proxy().calls(Call::Abort) >= 2).await;
    fresh.blobs.shutdown(PATIENCE).await;
    fresh.proxy().plan(|_, _| Fault::None);
    let port = fresh.proxy().port;
    assert_eq!(blobs(options(port, "left", "")).await.sweep().await.expect("a sweep"), 0, "they are young");
    let mut other = options(port, "elsewhere", "");
    other.stale = Duration::ZERO;
    assert_eq!(blobs(other).await.sweep().await.expect("a sweep"), 0, "another's are left alone");
    let mut later = options(port, "left", "");
    later.stale = Duration::ZERO;
    // A server that runs does it by itself.
    let later = blobs(later).await;
    later.run();
    until("they are swept", || fresh.proxy().calls(Call::Abort) >= 2).await;
    assert_eq!(later.shutdown(PATIENCE).await, 0);
    assert_eq!(later.sweep().await.expect("a sweep"), 0, "something is left");
}

#[tokio::test]
async fn what_others_put_there_is_no_blob() {
    let Some(fresh) = Fresh::start(|port| options(port, "ours", "")).await else { return };
    // The same bucket with a longer prefix puts its objects below ours; a bare PUT has no digest.
    fresh.put(&key("a/b"), Body::Full(bytes(5, 0)), 5).await.expect("the put");
    fresh.put_foreign("ours/a/c", "x").await;
    fresh.put_foreign("ours/a/no key", "x").await;
    let error = fresh.get(&key("a/c"), None).await.err().expect("no blob");
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
    let page = fresh.list(&key("a"), None, 1).await.expect("a page");
    assert_eq!((page.keys, page.next), (vec![key("a/b")], Some(key("a/b"))));
    let page = fresh.list(&key("a"), Some(&key("a/b")), 1).await.expect("a page");
    assert_eq!((page.keys, page.next), (vec![key("a/c")], None));
}
