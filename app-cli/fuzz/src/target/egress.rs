//! The egress proxy: what a machine asks it, and what the server's own proxy answers.

use burstflare_adapters_local::sandbox::fuzzing;

use super::{Target, texts};

pub(super) const EGRESS: Target = Target {
    name: "egress",
    run: |bytes| {
        fuzzing::requests(bytes);
        fuzzing::reply(bytes);
    },
    seeds: || {
        texts(&[
            "CONNECT crates.io:443 HTTP/1.1\r\nHost: crates.io:443\r\n\r\n",
            "CONNECT [::1]:80 HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET http://example.com/a?b HTTP/1.1\r\nHost: other\r\nConnection: x-a, close\r\nX-A: 1\r\n\r\n",
            "POST http://127.0.0.1:8787/ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            "GET http://user@localhost./ HTTP/1.0\r\nProxy-Authorization: Basic eA==\r\n\r\n",
            "GET /api HTTP/1.1\r\nHost: a\r\n\r\nGET http://b/ HTTP/1.1\r\nHost: b\r\n\r\n",
            "HTTP/1.1 200 Connection established\r\n\r\n",
        ])
    },
    words: &[
        b"CONNECT ",
        b"GET ",
        b"http://",
        b"https://",
        b" HTTP/1.1\r\n",
        b"\r\n\r\n",
        b"Host: ",
        b"Connection: ",
        b"localhost",
        b"127.0.0.1",
        b"[::ffff:127.0.0.1]",
        b"0x7f.1",
        b"@",
        b":0",
        b":65536",
        b"Transfer-Encoding: chunked\r\n",
        b"Content-Length: ",
        b"Upgrade: h2c\r\n",
        b"%40",
        b"HTTP/1.1 ",
    ],
    longest: 2048,
};
