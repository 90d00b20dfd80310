//! Bytes that no decent client and no decent application sends, on raw connections: requests that one side takes for two,
//! and answers that are none.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Instant;

use crate::flare::PATIENCE;
use crate::preview::World;

const MANIFEST: &str = r#"on_start = "exec python3 /workspace/app.py"
[[ports]]
port = 3000
visibility = "public"
[[ports]]
port = 3001
visibility = "public"
"#;

/// On port 3000 an application that tells what reached it, one request a line, byte by byte. On port 3001 one whose answers
/// are its paths: what stands there, percent-encoded, is sent, and then it hangs up.
const APP: &str = r#"
import socket, threading, urllib.parse
seen, lock = [], threading.Lock()
def serve(port, handle):
    listener = socket.create_server(('127.0.0.1', port))
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=handle, args=(connection,)).start()
def head(connection):
    data = b''
    while b'\r\n\r\n' not in data:
        piece = connection.recv(65536)
        if not piece: return data
        data += piece
    return data
def told(connection):
    with connection:
        data = head(connection)
        if data.startswith(b'GET /seen '):
            with lock: body = ''.join(repr(one) + '\n' for one in seen).encode()
        else:
            # Everything of this connection, until nothing more comes.
            connection.settimeout(0.3)
            try:
                while piece := connection.recv(65536): data += piece
            except TimeoutError: pass
            with lock: seen.append(data)
            body = b'noted\n'
        connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n' % len(body) + body)
def raw(connection):
    with connection:
        path = head(connection).split(b' ')[1]
        connection.sendall(urllib.parse.unquote_to_bytes(path[1:]))
threading.Thread(target=serve, args=(3001, raw)).start()
serve(3000, told)
"#;

fn world() -> Option<World> {
    let world = World::with(MANIFEST, APP)?;
    world.until(|items| items.iter().filter(|port| port["open"] == true).count() == 2);
    Some(world)
}

/// Sends bytes and reads what comes until the server hangs up or has said all.
fn talk(world: &World, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(world.authority()).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    // A server that refuses in the middle hangs up.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn answers(text: &str) -> Vec<&str> {
    text.split("HTTP/1.1 ").skip(1).filter_map(|answer| answer.get(..3)).collect()
}

/// Every request that reached the application, as Python writes bytes.
fn seen(world: &World) -> Vec<String> {
    let (_, text) = world.ask("GET /seen", &[]);
    text.lines().map(str::to_owned).collect()
}

/// A second request, hidden in what one of two readers takes for the first one's body.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: HOST\r\n\r\n";

#[test]
fn a_request_is_one_request_to_everybody() {
    let Some(world) = world() else { return };
    let preview = world.host_of(3000);
    for (host, path) in [(preview.clone(), "/first"), (world.authority().to_owned(), "/api/v1/auth/register")]
    {
        let hidden = HIDDEN.replace("HOST", &host);
        let size = hidden.len();
        let first = format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: text/plain\r\n");
        let refused = [
            ("two lengths", format!("{first}Content-Length: 0\r\nContent-Length: {size}\r\n\r\n{hidden}")),
            ("a list of lengths", format!("{first}Content-Length: 0, {size}\r\n\r\n{hidden}")),
            ("a length with a sign", format!("{first}Content-Length: +{size}\r\n\r\n{hidden}")),
            ("chunks that are none", format!("{first}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{hidden}")),
            (
                "chunks that are not last",
                format!("{first}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{hidden}"),
            ),
            (
                "a folded line",
                format!("{first}X-Own: a\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"),
            ),
            ("a space before the colon", format!("{first}Content-Length : {size}\r\n\r\n{hidden}")),
            ("a carriage return alone", format!("{first}X: 1\rContent-Length: {size}\r\n\r\n{hidden}")),
            ("a null", format!("{first}X: a\0b\r\n\r\n{hidden}")),
            ("two hosts", format!("{first}Host: evil.example\r\nConnection: close\r\n\r\n{hidden}")),
        ];
        for (what, bytes) in refused {
            let text = talk(&world, bytes.as_bytes());
            let all = answers(&text);
            assert!(all.first().is_some_and(|status| *status == "400"), "{what} at {host}: {text}");
            let hidden =
                text.contains("noted") || all.len() > 1 && all[1..].iter().any(|status| *status != "400");
            assert!(!hidden, "{what} at {host}: {text}");
        }
        assert!(seen(&world).iter().all(|one| one.contains("/both")), "{:?}", seen(&world));
        // RFC 9112, section 6.1: chunks count, and nothing is read behind them.
        for both in [
            format!("Content-Length: {size}\r\nTransfer-Encoding: chunked"),
            "Transfer-Encoding: chunked\r\nContent-Length: 5".to_owned(),
        ] {
            let first = first.replace(path, "/both");
            let text = talk(&world, format!("{first}{both}\r\n\r\n0\r\n\r\n{hidden}").as_bytes());
            assert_eq!(answers(&text).len(), 1, "{both} at {host}: {text}");
            assert!(text.to_lowercase().contains("connection: close"), "{both} at {host}: {text}");
        }
    }

    // What is understood is understood once: the application gets its own framing, whatever came.
    let body = "3;x=\"\r\nGET /hidden\"\r\nabc\r\n0\r\nX-Trailer: 1\r\n\r\n";
    let first = format!("POST /chunks HTTP/1.1\r\nHost: {preview}\r\nConnection: close\r\n");
    let text = talk(&world, format!("{first}Transfer-Encoding: chunked\r\n\r\n{body}").as_bytes());
    assert!(text.starts_with("HTTP/1.1 400") || text.contains("noted"), "{text}");
    talk(&world, format!("{first}Content-Length: 3\r\n\r\nabcGET /hidden HTTP/1.1\r\n\r\n").as_bytes());
    talk(
        &world,
        format!("POST /lines HTTP/1.1\nHost: {preview}\nConnection: close\nContent-Length: 3\n\nabc")
            .as_bytes(),
    );
    let seen = seen(&world);
    assert!(seen.iter().all(|one| !one.contains("/hidden HTTP")), "{seen:?}");
    assert_eq!(seen.iter().filter(|one| one.contains("/both")).count(), 2, "{seen:?}");
    assert!(seen.iter().all(|one| one.matches("\\r\\nhost: ").count() == 1), "{seen:?}");
    assert!(seen.iter().all(|one| !one.to_lowercase().contains("x-trailer")), "{seen:?}");
    assert!(
        seen.iter().any(|one| one.contains("/lines HTTP/1.1\\r\\n") && one.ends_with("abc'")),
        "{seen:?}"
    );
}

#[test]
fn the_host_that_decides_is_the_host_that_is_told() {
    let Some(world) = world() else { return };
    let host = world.host_of(3000);
    let ask = |target: &str, host: &str| {
        talk(&world, format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes())
    };
    for evil in ["http://evil.example/a", "http://evil.example:80/a", "https://evil.example/a"] {
        assert!(ask(evil, &host).starts_with("HTTP/1.1 421"), "{evil}");
    }
    assert!(ask(&format!("http://x@{host}/a"), &host).starts_with("HTTP/1.1 4"), "a user's name");
    assert!(seen(&world).is_empty());
    // RFC 9112, section 3.2.2: the line counts, the header does not.
    assert!(ask(&format!("http://{host}/line"), "evil.example").contains("noted"));
    assert!(ask(&format!("http://{}/api/v1/me", world.authority()), &host).starts_with("HTTP/1.1 401"));
    let told = seen(&world);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("GET /line HTTP/1.1"), "{told:?}");
    assert!(told[0].contains(&format!("host: {host}")) && !told[0].contains("evil"), "{told:?}");
}

#[test]
fn what_belongs_to_a_connection_is_not_passed_on_and_takes_nothing_along() {
    let Some(world) = world() else { return };
    let host = world.host_of(3000);
    let text = talk(
        &world,
        format!(
            "POST /hop HTTP/1.1\r\nHost: {host}\r\nConnection: close, Host, Content-Length, Flare-Epoch, X-Forwarded-For, \
             Flare-App-Host, Authorization, X-Hop, HTTP2-Settings, Upgrade\r\nX-Hop: 1\r\nHTTP2-Settings: AAMA\r\n\
             Upgrade: h2c\r\nKeep-Alive: timeout=1\r\nProxy-Authorization: Basic eDp5\r\nTE: trailers\r\n\
             X-Own: 1\r\nContent-Length: 3\r\n\r\nabc"
        )
        .as_bytes(),
    );
    assert!(text.contains("noted"), "{text}");
    let told = seen(&world).concat().to_lowercase();
    assert!(told.contains(&format!("host: {host}")) && told.contains("x-forwarded-for: 127.0.0.1"), "{told}");
    assert!(told.contains("x-own: 1") && told.contains("abc"), "{told}");
    for gone in
        ["x-hop", "http2-settings", "upgrade", "keep-alive", "proxy-auth", "te:", "flare", "connection:"]
    {
        assert!(!told.contains(gone), "{gone}: {told}");
    }

    // A body before the protocol changes is read by one as a body, by another as the new protocol's first bytes.
    let handshake = "Connection: Upgrade, close\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for body in ["Content-Length: 3\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"] {
        let text = talk(&world, format!("GET /up HTTP/1.1\r\nHost: {host}\r\n{handshake}{body}").as_bytes());
        assert!(text.starts_with("HTTP/1.1 400"), "{text}");
    }
    assert!(!seen(&world).concat().contains("/up"));
}

#[test]
fn a_head_has_bounds() {
    let Some(world) = world() else { return };
    for host in [world.host_of(3000), world.authority().to_owned()] {
        let first = format!("GET /large HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
        let long = format!("{first}X-Long: {}\r\n\r\n", "a".repeat(300 << 10));
        let many = format!("{first}{}\r\n", "X-Many: 1\r\n".repeat(20_000));
        let target = format!("GET /{} HTTP/1.1\r\nHost: {host}\r\n\r\n", "a".repeat(300 << 10));
        for (what, bytes) in [("long", long), ("many", many), ("a long path", target)] {
            let text = talk(&world, bytes.as_bytes());
            let refused =
                ["HTTP/1.1 431", "HTTP/1.1 414", "HTTP/1.1 400"].iter().any(|one| text.starts_with(one));
            assert!(refused || text.is_empty(), "{what}: {text}");
        }
    }
    assert!(seen(&world).is_empty());
    assert!(world.ask("GET /", &[]).0.starts_with("HTTP/1.1 200"), "and the next one is answered");
}

#[test]
fn answers_that_are_none_are_told_as_such() {
    let Some(world) = world() else { return };
    let host = world.host_of(3001);
    let ask = |answer: &str, accept: &str| {
        let path: String = answer.bytes().map(|byte| format!("%{byte:02x}")).collect();
        talk(
            &world,
            format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\nAccept: {accept}\r\nConnection: close\r\n\r\n")
                .as_bytes(),
        )
    };
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: 1\r\n".repeat(200));
    for answer in [
        "",
        "garbage\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "\u{16}\u{3}\u{1}",
        "HTTP/2 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nBad Header\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
        many.as_str(),
    ] {
        let told = ask(answer, "*/*");
        assert!(
            told.starts_with("HTTP/1.1 502") && told.contains("\"code\":\"port_broken\""),
            "{answer:?}: {told}"
        );
        assert!(told.contains("flare port-forward"), "a hint: {told}");
        let page = ask(answer, "text/html");
        assert!(page.starts_with("HTTP/1.1 502") && page.contains("<h1>"), "{answer:?}: {page}");
    }

    // One that dies in the middle: what came is passed on, and nobody takes it for the whole.
    let cut = ask("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", "*/*");
    assert!(cut.starts_with("HTTP/1.1 200") && cut.ends_with("half"), "{cut}");
    assert!(cut.to_lowercase().contains("content-length: 100"), "{cut}");
    let cut = ask("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", "*/*");
    assert!(cut.starts_with("HTTP/1.1 200") && cut.contains("half") && !cut.contains("0\r\n\r\n"), "{cut}");
    // And nothing of an answer is another one.
    let two = ask(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        "*/*",
    );
    assert!(two.ends_with("ok") && answers(&two) == ["200"], "{two}");
}

/// The forwarded port goes on when a server dies and another takes its place; what was open then ends.
#[test]
fn a_forwarded_port_outlives_the_server() {
    let Some(world) = world() else { return };
    let mut forward = world.forward(3000);
    let address = forward.address.clone();
    let ask = |path: &str| -> Option<String> {
        let mut stream = TcpStream::connect(&address).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).ok()?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).ok()?;
        Some(line).filter(|line| !line.is_empty())
    };
    assert_eq!(ask("/before").as_deref(), Some("HTTP/1.1 200 OK\r\n"));
    let _world = world.restart();
    let end = Instant::now() + PATIENCE;
    while ask("/after").is_none() {
        assert!(Instant::now() < end, "never again");
        assert!(forward.child.try_wait().expect("waits").is_none(), "it ended");
    }
}
