//! Ways to a server: ours, and another program's.

use std::time::{Duration, Instant};

use burstflare_adapters_local::s3::{Deadlines, S3Blobs, S3Keys, S3Options};
use burstflare_ports::secret::Secret;

use crate::server::{BUCKET, KEY, PATIENCE, REGION, SECRET};

/// How a server on this port is spoken to; `more` is added to the URL.
pub(crate) fn options(port: u16, prefix: &str, more: &str) -> S3Options {
    let place = format!("s3://{BUCKET}/{prefix}?endpoint=http://127.0.0.1:{port}&region={REGION}{more}");
    let keys = S3Keys { id: KEY.to_owned(), secret: Secret::new(SECRET.to_owned()) };
    S3Options { keys: Some(keys), ..S3Options::new(place.parse().expect("a place")) }
}

/// Deadlines that end a test soon, and yet not by mistake.
pub(crate) fn short() -> Deadlines {
    Deadlines {
        connect: Duration::from_secs(5),
        attempt: Duration::from_secs(10),
        operation: PATIENCE,
        silence: Duration::from_secs(2),
    }
}

/// Blobs of a server on this port. It may listen before it knows its bucket.
pub(crate) async fn blobs(options: S3Options) -> S3Blobs {
    let end = Instant::now() + PATIENCE;
    loop {
        match S3Blobs::open(options.clone()).await {
            Ok(blobs) => return blobs,
            Err(error) if Instant::now() > end => panic!("{error:?}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Another program's way to the same server.
pub(crate) fn client(port: u16) -> aws_sdk_s3::Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(aws_sdk_s3::config::BehaviorVersion::latest())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .credentials_provider(aws_sdk_s3::config::Credentials::new(KEY, SECRET, None, None, "test"))
        .region(aws_sdk_s3::config::Region::new(REGION))
        .endpoint_url(format!("http://127.0.0.1:{port}"))
        .force_path_style(true);
    aws_sdk_s3::Client::from_conf(config.build())
}
