//! The way out: open to what is allowed, closed to the host and everything private.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc;

use burstflare_adapters_local::sandbox::{NetworkMode, SandboxRuntime, UpstreamProxy};
use burstflare_ports::error::ErrorKind;
use burstflare_ports::machine::MachineRuntime as _;
use burstflare_ports::secret::Secret;

use crate::Body as Trial;
use crate::world::{World, spec};

pub(crate) fn trials() -> Vec<(&'static str, Trial)> {
    vec![
        ("the_way_out_refuses_private_addresses", || Box::pin(refusals())),
        ("allowed_blocks_are_reached", || Box::pin(allowed())),
        ("the_servers_own_proxy_is_used", || Box::pin(upstream())),
        ("programs_are_told_of_the_proxy", || Box::pin(variables())),
        ("the_hosts_network_is_an_explicit_choice", || Box::pin(host_network())),
        ("what_is_not_supported_says_so", || Box::pin(unsupported())),
    ]
}

/// A server on loopback that answers every request with `text` and reports the heads it got.
fn server(text: &'static str) -> (SocketAddr, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("an address");
    let (heads, received) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            loop {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
                    head.push(byte[0]);
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                if head.is_empty() || heads.send(head.clone()).is_err() {
                    break;
                }
                // As an upstream proxy: accept the tunnel, and go on inside it.
                if head.starts_with("CONNECT") {
                    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").expect("written");
                    continue;
                }
                let length = text.len();
                write!(
                    stream,
                    "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}"
                )
                .expect("written");
                break;
            }
        }
    });
    (address, received)
}

async fn refusals() {
    let world = World::new().await;
    let machine = world.machine().await;
    let (address, heads) = server("never");
    let port = address.port();
    for host in [
        "127.0.0.1",
        "127.1.2.3",
        "0.0.0.0",
        "localhost",
        "10.0.0.1",
        "192.168.0.1",
        "172.16.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "224.0.0.1",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[fe80::1]",
        "[fc00::1]",
    ] {
        let tunnel = world.probe(machine, &["proxy", "CONNECT", &format!("{host}:{port}")]).await;
        assert!(tunnel.starts_with("HTTP/1.1 403"), "CONNECT {host}: {tunnel}");
        let plain = world.probe(machine, &["proxy", "GET", &format!("http://{host}:{port}/")]).await;
        assert!(plain.starts_with("HTTP/1.1 403"), "GET {host}: {plain}");
    }
    for (method, target) in [("GET", "/"), ("GET", "https://example.com/"), ("CONNECT", "nothing")] {
        let outcome = world.probe(machine, &["proxy", method, target]).await;
        assert!(outcome.starts_with("HTTP/1.1 400"), "{method} {target}: {outcome}");
    }
    let unknown = world.probe(machine, &["proxy", "CONNECT", "no-such-name.invalid:80"]).await;
    assert!(unknown.starts_with("HTTP/1.1 502"), "{unknown}");
    assert!(heads.try_recv().is_err(), "nothing arrived");
}

async fn allowed() {
    let world =
        World::with(|config| config.egress.allow = vec!["127.0.0.0/8".parse().expect("a block")]).await;
    let machine = world.machine().await;
    let (address, heads) = server("welcome");
    let tunnel = world.probe(machine, &["proxy", "CONNECT", &address.to_string()]).await;
    assert_eq!(tunnel, "HTTP/1.1 200 OK|welcome");
    assert!(heads.recv().expect("a head").starts_with("GET / HTTP/1.1"));
    let plain = world.probe(machine, &["proxy", "GET", &format!("http://{address}/path?q=1")]).await;
    assert_eq!(plain, "HTTP/1.1 200 OK|welcome");
    let head = heads.recv().expect("a head").to_lowercase();
    assert!(head.starts_with("get /path?q=1 http/1.1"), "{head}");
    assert!(head.contains(&format!("host: {address}")) && !head.contains("proxy-connection"), "{head}");
    let closed = world.probe(machine, &["proxy", "CONNECT", &format!("10.0.0.1:{}", address.port())]).await;
    assert!(closed.starts_with("HTTP/1.1 403"), "{closed}");
}

async fn upstream() {
    let (address, heads) = server("from upstream");
    let world = World::with(|config| {
        config.egress.upstream = Some(UpstreamProxy {
            address: address.to_string(),
            authorization: Some(Secret::new("Basic abc".to_owned())),
            bypass: vec!["direct.example".to_owned()],
        });
    })
    .await;
    let machine = world.machine().await;
    // A name that this host cannot resolve: the upstream proxy's business.
    let tunnel = world.probe(machine, &["proxy", "CONNECT", "name.invalid:443"]).await;
    assert_eq!(tunnel, "HTTP/1.1 200 OK|from upstream");
    let head = heads.recv().expect("a head");
    assert!(head.starts_with("CONNECT name.invalid:443 HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("Proxy-Authorization: Basic abc\r\n"), "{head}");
    heads.recv().expect("what went through the tunnel");
    let plain = world.probe(machine, &["proxy", "GET", "http://name.invalid/x"]).await;
    assert_eq!(plain, "HTTP/1.1 200 OK|from upstream");
    let head = heads.recv().expect("a head").to_lowercase();
    assert!(head.starts_with("get http://name.invalid/x http/1.1"), "{head}");
    assert!(head.contains("proxy-authorization: basic abc"), "{head}");
    // It opens nothing that is closed here.
    for target in ["127.0.0.1:1", "localhost:1", "metadata.google.internal:80", "10.0.0.1:80"] {
        let refused = world.probe(machine, &["proxy", "CONNECT", target]).await;
        assert!(refused.starts_with("HTTP/1.1 403"), "{target}: {refused}");
    }
    let direct = world.probe(machine, &["proxy", "CONNECT", "direct.example:443"]).await;
    assert!(direct.starts_with("HTTP/1.1 502"), "{direct}");
    assert!(heads.try_recv().is_err());
}

async fn variables() {
    let world = World::new().await;
    let machine = world.machine().await;
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
        assert_eq!(world.shell(machine, &format!("echo ${name}")).await, "http://127.0.0.1:3128", "{name}");
    }
}

async fn host_network() {
    let world = World::with(|config| config.network = NetworkMode::Host).await;
    let machine = world.machine().await;
    let here = std::fs::read_link("/proc/self/ns/net").expect("a namespace");
    assert_eq!(world.shell(machine, "readlink /proc/self/ns/net").await, here.to_string_lossy());
    let profile = world.runtime.profile();
    assert_eq!(profile.network, "host");
    assert!(
        profile.warnings.iter().any(|warning| warning.contains("share the host's network")),
        "{profile:?}"
    );
    assert_eq!(world.shell(machine, "echo \"$HTTP_PROXY\"").await, "");
}

async fn unsupported() {
    let world = World::new().await;
    let mut config = world.config.clone();
    config.network = NetworkMode::Pasta;
    let refused = SandboxRuntime::open(config, world.blobs.clone()).await.expect_err("not yet");
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    let mut config = world.config.clone();
    config.agent.exe = "/nonexistent".into();
    let refused = SandboxRuntime::open(config, world.blobs.clone()).await.expect_err("no agent");
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    let mut odd = spec(crate::world::key(), 1);
    odd.hostname = "x".repeat(65);
    let refused = world.runtime.start(odd).await.expect_err("no such host name");
    assert_eq!(refused.kind(), ErrorKind::Invalid);
}
