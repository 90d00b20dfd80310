//! Files through the API: bodies that break off, are refused, or are large.

use bytes::Bytes;
use http::Method;

use crate::files_call::{get, names, put, query};
use crate::machine::{Machine, eventually};

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_nothing() {
    use tokio::io::AsyncWriteExt as _;
    let machine = Machine::start();
    put(&machine, b"f", &[], "before").await.info();
    let mut stream = tokio::net::UnixStream::connect(machine.socket()).await.unwrap();
    let head = format!(
        "PUT /v1/files?path=f HTTP/1.1\r\nhost: agent\r\nauthorization: Bearer {}\r\nflare-epoch: {}\r\n\
         content-length: 1000000\r\n\r\n",
        crate::machine::KEY,
        crate::machine::EPOCH
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![b'x'; 500_000]).await.unwrap();
    let staged = || names(&machine.roots[0]).len() == 2;
    eventually("a draft", staged).await;
    assert_eq!(get(&machine, b"f").await.bytes, "before", "half of it is never seen");
    drop(stream);
    eventually("the draft's end", || names(&machine.roots[0]) == ["f"]).await;
    assert_eq!(get(&machine, b"f").await.bytes, "before");
}

#[tokio::test]
async fn who_is_refused_in_the_middle_of_a_body_reads_why() {
    let machine = Machine::start();
    for _ in 0..10 {
        let answer = put(&machine, b"none/f", &[], vec![0; 4 << 20]).await;
        assert_eq!((answer.status, answer.code().as_str()), (404, "no_such_file"));
    }
}

#[tokio::test]
async fn large_files_flow_both_ways_and_the_agent_stays_small() {
    let machine = Machine::start();
    let size = 96 << 20;
    let big: Vec<u8> = (0_u32..).flat_map(u32::to_le_bytes).take(size).collect();
    let big = Bytes::from(big);
    put(&machine, b"big", &[], big.clone()).await.info();
    let read = get(&machine, b"big").await;
    assert!(read.bytes == big);
    // A reader that stands still holds a few chunks, not the file.
    let mut standing = Vec::new();
    for _ in 0..8 {
        standing.push(machine.open(Method::GET, &query(b"big", ""), "").await);
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", machine.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    eprintln!("resident at most: {kib} KiB");
    assert!(kib < 64 << 10, "{kib} KiB resident");
}
