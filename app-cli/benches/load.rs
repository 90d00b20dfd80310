//! A load of one request, over and over, on sixteen connections for a bounded time.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const CONNECTIONS: usize = 16;

/// Answers per second.
pub(crate) fn run(port: u16, request: &[u8], span: Duration) -> f64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let begun = Instant::now();
        let until = begun + span;
        let tasks: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                let request = request.to_vec();
                tokio::spawn(async move { one(port, &request, until).await })
            })
            .collect();
        let mut total = 0_u32;
        for task in tasks {
            total += task.await.unwrap();
        }
        f64::from(total) / begun.elapsed().as_secs_f64()
    })
}

async fn one(port: u16, request: &[u8], until: Instant) -> u32 {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut buffer = vec![0; 64 << 10];
    let mut answers = 0;
    while Instant::now() < until {
        stream.write_all(request).await.unwrap();
        let mut filled = 0;
        loop {
            let read = stream.read(&mut buffer[filled..]).await.unwrap();
            assert!(read > 0, "the server closed the connection");
            filled += read;
            if let Some(length) = whole(&buffer[..filled]) {
                assert!(filled == length && buffer.starts_with(b"HTTP/1.1 200"), "an unexpected answer");
                break;
            }
        }
        answers += 1;
    }
    answers
}

/// The length of the answer, once its head and body are there.
fn whole(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|part| part == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&bytes[..head]).ok()?.to_ascii_lowercase();
    let length: usize = text.split("content-length:").nth(1)?.lines().next()?.trim().parse().ok()?;
    (bytes.len() >= head + length).then_some(head + length)
}
