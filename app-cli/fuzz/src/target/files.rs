//! The way of a path: from the query of a request through the edge to a handle in a machine.

use burstflare_agent::fuzzing as agent;
use burstflare_app_edge::fuzzing as edge;

use super::{Target, texts};

/// A query, as it comes from anybody; the machine gets it directly, too, for the edge may be broken into.
pub(super) const FILE_QUERY: Target = Target {
    name: "file_query",
    run: |bytes| {
        agent::file(bytes);
        if let Some(path) = edge::file_path(bytes) {
            let query: String = form_urlencoded::byte_serialize(path.as_bytes()).collect();
            agent::file(format!("path={query}").as_bytes());
        }
    },
    seeds: || {
        texts(&[
            "path=src/main.rs",
            "path=/workspace/in/main.rs",
            "path=%2Fworkspace%2F.%2F%2Fsrc",
            "path=/workspace/out/passwd",
            "path=up/up",
            "path=in%2F..%2F..",
            "path=src/all/etc",
            "path=gr%C3%BCn+%25FF&limit=3",
            "path=round",
            "path=",
        ])
    },
    words: &[
        b"path=",
        b"%2F",
        b"%2E%2E",
        b"..",
        b"/workspace",
        b"/home/flare",
        b"in/",
        b"out/",
        b"up/",
        b"round",
        b"src/all/",
        b"%00",
        b"%2500",
        b"%25",
        b"+",
        b"&",
    ],
    longest: 512,
};
