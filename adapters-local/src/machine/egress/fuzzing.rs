//! What machines send to their proxy, and proxies answer, for the fuzz targets.

use std::cell::OnceCell;
use std::convert::Infallible;
use std::net::IpAddr;

use bytes::Bytes;
use http::uri::Authority;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::{Builder, Runtime};

use super::policy;
use super::proxy::{Target, Wanted, remove_hop_by_hop, status_of};

/// As the proxy reads heads.
const HEAD: usize = 64 * 1024;

thread_local! {
    static RUNTIME: OnceCell<Option<Runtime>> = const { OnceCell::new() };
}

/// Heads of requests, one behind the other, as a machine sends them; nothing is connected to.
///
/// # Panics
/// Where one would lead elsewhere than it says, or to the host.
pub fn requests(bytes: &[u8]) {
    RUNTIME.with(|runtime| {
        let runtime = runtime.get_or_init(|| Builder::new_current_thread().build().ok());
        if let Some(runtime) = runtime {
            runtime.block_on(served(bytes));
        }
    });
}

async fn served(bytes: &[u8]) {
    let (mut machine, proxy) = tokio::io::duplex(HEAD * 4);
    let serve = hyper::server::conn::http1::Builder::new().max_buf_size(HEAD).serve_connection(
        TokioIo::new(proxy),
        service_fn(|request| async move { Ok::<_, Infallible>(look(request)) }),
    );
    let talk = async {
        // It may hang up in the middle, as anybody may.
        let _ = machine.write_all(bytes).await;
        let _ = machine.shutdown().await;
        let mut answers = Vec::new();
        let _ = machine.read_to_end(&mut answers).await;
    };
    let (_, ()) = futures_util::future::join(serve, talk).await;
}

fn look(request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (mut head, _) = request.into_parts();
    if let Ok(Wanted::Tunnel(target) | Wanted::Forward(target)) = Wanted::of(&head.method, &head.uri) {
        judge(&target);
    }
    remove_hop_by_hop(&mut head.headers);
    for name in ["connection", "proxy-authorization", "transfer-encoding", "upgrade", "te"] {
        assert!(!head.headers.contains_key(name), "{name} is passed on");
    }
    Response::new(Full::new(Bytes::new()))
}

fn judge(target: &Target) {
    assert!(
        target.port != 0 && !target.host.is_empty() && !target.host.contains(['@', '/', ' ', '\r', '\n'])
    );
    // What is told to another proxy means the same.
    let authority = target.authority();
    let again = authority.parse::<Authority>().map(|authority| Target::of(Some(&authority), None));
    assert!(matches!(&again, Ok(Ok(again)) if again == target), "{target:?} becomes {again:?}");
    if let Ok(address) = target.host.parse::<IpAddr>() {
        let host = address.is_loopback() || address.is_unspecified() || address.is_multicast();
        assert!(!host || !policy::allowed(address, &[]), "{address} is reached");
    }
    let name = target.host.trim_end_matches('.').to_ascii_lowercase();
    assert!(name != "localhost" || policy::local_name(&target.host), "{name} is a name like others");
}

/// The head of another proxy's reply.
pub fn reply(head: &[u8]) {
    let _ = status_of(head);
}
