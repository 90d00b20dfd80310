//! The bucket in the host's name. Names below a test domain resolve nowhere, so they are reached through an HTTP proxy, which the
//! environment names as it would on a server in a closed network; that needs a process of its own.

use std::process::{Command, Stdio};
use std::sync::Arc;

use burstflare_adapters_local::s3::{S3Keys, S3Options};
use burstflare_ports::blob::Blobs;
use burstflare_ports::conformance::{BLOB_CASES, fresh_seed};
use burstflare_ports::secret::Secret;

use crate::proxy::{Call, Proxy};
use crate::reach::blobs;
use crate::server::{BUCKET, DOMAIN, KEY, REGION, SECRET, Server, left_out};

const INSIDE: &str = "FLARE_TEST_VIRTUAL_HOST";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_case_holds_in_the_virtual_host_style_through_a_proxy() {
    if std::env::var_os(INSIDE).is_some() {
        return inside().await;
    }
    let Some(server) = Server::start() else { return };
    // The bucket has to be there before somebody else looks for it.
    blobs(crate::reach::options(server.port, "", "")).await;
    let proxy = Proxy::start(server.port).await;
    let url = format!("http://127.0.0.1:{}", proxy.port);
    let mut child = Command::new(std::env::current_exe().expect("this test"));
    child.args([
        "--exact",
        "virtual_host::every_case_holds_in_the_virtual_host_style_through_a_proxy",
        "--nocapture",
    ]);
    for name in ["NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY"] {
        child.env_remove(name);
    }
    child.env(INSIDE, "1").env("http_proxy", url).stdin(Stdio::null());
    let ended =
        tokio::task::spawn_blocking(move || child.output()).await.expect("no panic").expect("it runs");
    let (out, err) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success(), "{out}{err}");
    assert!(out.contains("1 passed"), "{out}");
    assert!(proxy.calls(Call::Put) > 10 && proxy.calls(Call::Get) > 10, "the proxy saw nothing of it");
}

async fn inside() {
    let place = format!("s3://{BUCKET}/v?endpoint=http://{DOMAIN}&region={REGION}&addressing=host");
    let keys = S3Keys { id: KEY.to_owned(), secret: Secret::new(SECRET.to_owned()) };
    let backend =
        blobs(S3Options { keys: Some(keys), ..S3Options::new(place.parse().expect("a place")) }).await;
    let backend: Arc<dyn Blobs> = Arc::new(backend);
    for case in BLOB_CASES.iter().filter(|case| !left_out(case.name)) {
        let found = (case.run)(Arc::clone(&backend), fresh_seed(7)).await;
        assert_eq!(found, Ok(()), "{}", case.name);
    }
}
