//! What people set up wrongly, and what they are told.

use burstflare_adapters_local::s3::{S3Blobs, S3Keys, S3Options};
use burstflare_ports::blob::Blobs;
use burstflare_ports::error::{ErrorKind, PortError};
use burstflare_ports::secret::Secret;

use crate::fresh::Fresh;
use crate::key;
use crate::proxy::{Call, Fault};
use crate::reach::{options, short};
use crate::server::{KEY, Kind, REGION, SECRET};

async fn refused(options: S3Options) -> PortError {
    S3Blobs::open(options).await.expect_err("something is wrong")
}

#[track_caller]
fn told(error: &PortError, kind: ErrorKind, word: &str) {
    assert_eq!(error.kind(), kind, "{error:?}");
    assert!(error.context().contains(word), "{error:?}");
    assert!(!format!("{error:?}").contains(SECRET), "the secret is told");
}

#[tokio::test]
async fn each_mistake_has_its_own_words() {
    let Some(fresh) = Fresh::behind_proxy(|port| options(port, "x", "")).await else { return };
    let port = fresh.proxy().port;
    let keys =
        |id: &str, secret: &str| Some(S3Keys { id: id.to_owned(), secret: Secret::new(secret.to_owned()) });
    let mut unknown = options(port, "x", "");
    unknown.keys = keys("GK000000000000000000000000", SECRET);
    // Garage calls an unknown key a denied access.
    told(&refused(unknown).await, ErrorKind::Denied, "key");
    let mut wrong = options(port, "x", "");
    wrong.keys = keys(KEY, &"0".repeat(64));
    told(&refused(wrong).await, ErrorKind::Denied, "key");
    let text = format!("s3://not-there/x?endpoint=http://127.0.0.1:{port}&region={REGION}");
    let absent = S3Options { keys: keys(KEY, SECRET), ..S3Options::new(text.parse().expect("a place")) };
    told(&refused(absent.clone()).await, ErrorKind::Denied, "no such bucket");
    let blobs = S3Blobs::unchecked(absent).await.expect("nobody was asked");
    told(&blobs.head(&key("a")).await.expect_err("no bucket"), ErrorKind::Denied, "no such bucket");
    told(&blobs.get(&key("a"), None).await.err().expect("no bucket"), ErrorKind::Denied, "no such bucket");
    let text = format!("s3://flare-test/x?endpoint=http://127.0.0.1:{port}&region=elsewhere");
    let region = S3Options { keys: keys(KEY, SECRET), ..S3Options::new(text.parse().expect("a place")) };
    // SeaweedFS takes whatever region a request is signed for.
    if fresh.kind() == Kind::Garage {
        told(&refused(region).await, ErrorKind::Denied, "region");
    }
    // What this server never says.
    for (status, code, kind, word) in [
        (403, "RequestTimeTooSkewed", ErrorKind::Denied, "clock"),
        (400, "ExpiredToken", ErrorKind::Denied, "expired"),
        (507, "InsufficientStorage", ErrorKind::Full, "space"),
    ] {
        fresh
            .proxy()
            .plan(move |call, _| if call == Call::List { Fault::Refused(status, code) } else { Fault::None });
        told(&refused(options(port, "x", "")).await, kind, word);
    }
}

#[tokio::test]
async fn nobody_at_home_is_unavailable() {
    let mut nobody = options(1, "x", "");
    nobody.deadlines = short();
    told(&refused(nobody).await, ErrorKind::Unavailable, "endpoint");
}
