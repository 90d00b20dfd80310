//! The edge's own parsing: which host was meant, whose page asks, where a page begins.

use burstflare_app_edge::fuzzing;

use super::{Target, texts};

/// Lines: host, origin, query.
pub(super) const REQUEST: Target = Target {
    name: "request",
    run: |bytes| {
        let mut lines = bytes.splitn(3, |byte| *byte == b'\n');
        let mut line = || lines.next().unwrap_or_default();
        fuzzing::request(line(), line(), line());
    },
    seeds: || {
        texts(&[
            "127.0.0.1:8787\nhttp://127.0.0.1:8787\nlimit=5&cursor=abc",
            "[::1]:8787\nhttp://[::1]:8787\n",
            "flare.localhost:8787\nhttp://flare.localhost:8787\na=%ff&b=+",
            "3000--01jd0000000000000000000000.preview.localhost:8787\nnull\n",
            "flare.example.com:443\nhttps://flare.example.com\nx",
            "x@127.0.0.1:8787\nhttp://evil.example\n&&==",
        ])
    },
    words: &[
        b"127.0.0.1",
        b"[::1]",
        b"localhost",
        b"flare.localhost",
        b".preview.localhost",
        b":8787",
        b"@",
        b"https://",
        b"http://",
        b"--",
        b":443",
        b"%00",
        b"&",
        b"=",
        b"3000--01jd0000000000000000000000",
    ],
    longest: 512,
};

pub(super) const CURSOR: Target = Target {
    name: "cursor",
    run: fuzzing::cursor,
    seeds: || {
        texts(&[
            "d3NfMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAvYXVkaXQvNw",
            "d3NfMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAvYXVkaXQvLTE",
            "AA",
            "Lw",
        ])
    },
    words: &[b"d3NfMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAvYXVkaXQv", b"Lw", b"=", b"_-"],
    longest: 600,
};
