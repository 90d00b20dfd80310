//! A bare handler that runs the list's statements through the same store, and nothing else: no router, no
//! guards, no resource, no JSON.

use std::convert::Infallible;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use burstflare_adapters_local::sqlite::{DataFolder, SqliteDatabase, SqliteStore};
use burstflare_ports::record::SecretHash;
use burstflare_ports::store::{Accounts as _, Sessions as _};
use burstflare_ports::time::Timestamp;
use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use crate::load;

const FOLDER: &str = "BENCH_BARE_FOLDER";
const HASH: &str = "BENCH_BARE_HASH";

pub(crate) fn is_asked_for() -> bool {
    std::env::var_os(FOLDER).is_some()
}

pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap())
}

/// Measures it in a process of its own, as the server is.
pub(crate) fn measure(folder: &Path, token: &str, span: Duration) -> f64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .env(FOLDER, folder.join("data"))
        .env(HASH, SecretHash::of(token).to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let port = line.trim().parse().expect("a port");
    let request = format!("GET / HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n\r\n").into_bytes();
    load::run(port, &request, span / 4);
    let rate = load::run(port, &request, span);
    child.kill().unwrap();
    child.wait().unwrap();
    rate
}

pub(crate) fn run() {
    let folder = std::env::var(FOLDER).unwrap();
    let hash: SecretHash = std::env::var(HASH).unwrap().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let folder = DataFolder::open(folder).unwrap();
        let database = SqliteDatabase::open(&folder, now()).await.unwrap();
        let store = Arc::new(SqliteStore::new(database));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{}", listener.local_addr().unwrap().port());
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let service = service_fn(|_| answer(&store, hash));
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await
                    .ok();
            });
        }
    });
}

async fn answer(store: &SqliteStore, hash: SecretHash) -> Result<hyper::Response<Full<Bytes>>, Infallible> {
    let principal = store.principal(&hash).await.unwrap().unwrap();
    let page = store.sessions(principal.workspace.id, None, 50).await.unwrap();
    assert_eq!(page.items.len(), 5);
    Ok(hyper::Response::new(Full::new(Bytes::from_static(b"ok"))))
}
