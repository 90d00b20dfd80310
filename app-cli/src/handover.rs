//! Shows an address that is a secret in the desktop's browser. Everybody on the machine sees the arguments of processes, so
//! what the desktop is handed is a file that only its owner reads. The file leads to a loopback address, which is good for
//! one visit and leads on; so it is known when the browser came, and nothing is left behind.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// How long the browser may take to come: longer than a ticket lives it would be of no use.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long one connection may take to say what it wants.
const REQUEST: Duration = Duration::from_secs(5);
/// The longest request line and headers that are read.
const HEAD: usize = 16 << 10;
/// Connections at once; browsers open some in advance.
const CONNECTIONS: usize = 16;

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// A browser was led to the address.
    Yes,
    /// The opener could not be run, or says that it failed.
    NoOpener,
    /// No browser came in time.
    Nobody,
}

/// Has `opener` open `address`, and waits until a browser came. Dropping it takes the file away.
///
/// # Errors
/// When neither a port of loopback nor a file is to be had, or the opener cannot be run.
pub async fn show(opener: &Path, address: &str) -> io::Result<Shown> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    // The file's name is seen by everybody, so it says nothing of the path.
    let path = format!("/{}", random()?);
    let page = Page::new(&format!("http://{}{path}", listener.local_addr()?))?;
    let mut child = Command::new(opener)
        .arg(&page.0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let opened = tokio::task::spawn_blocking(move || child.wait().is_ok_and(|status| status.success()));
    let failed = async {
        match opened.await {
            Ok(false) => {}
            // Most openers end before the browser has begun.
            _ => std::future::pending().await,
        }
    };
    Ok(tokio::select! {
        visited = tokio::time::timeout(PATIENCE, lead_on(&listener, &path, address)) => {
            if visited.is_ok() { Shown::Yes } else { Shown::Nobody }
        }
        () = failed => Shown::NoOpener,
    })
}

/// Leads the one who knows the path on to the address, once.
async fn lead_on(listener: &TcpListener, path: &str, address: &str) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS => {
                if let Ok((stream, _)) = accepted {
                    let (path, address) = (path.to_owned(), address.to_owned());
                    let answered = async move { answer(stream, &path, &address).await };
                    connections.spawn(tokio::time::timeout(REQUEST, answered));
                }
            }
            Some(answered) = connections.join_next() => {
                if matches!(answered, Ok(Ok(Ok(true)))) {
                    return;
                }
            }
        }
    }
}

/// Answers one request; whether it was the one.
async fn answer(mut stream: TcpStream, path: &str, address: &str) -> io::Result<bool> {
    let mut head = Vec::with_capacity(1024);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() > HEAD || stream.read_buf(&mut head).await? == 0 {
            return Ok(false);
        }
    }
    let known = head.starts_with(format!("GET {path} HTTP/1.1\r\n").as_bytes());
    let status = match known {
        true => format!("303 See Other\r\nLocation: {address}"),
        false => "404 Not Found".to_owned(),
    };
    let rest =
        "Cache-Control: no-store\r\nReferrer-Policy: no-referrer\r\nContent-Length: 0\r\nConnection: close";
    stream.write_all(format!("HTTP/1.1 {status}\r\n{rest}\r\n\r\n").as_bytes()).await?;
    stream.shutdown().await?;
    Ok(known)
}

/// A file of its own that leads to a link. It goes when it is dropped.
struct Page(PathBuf);

impl Page {
    fn new(link: &str) -> io::Result<Self> {
        // What lies there goes with the sign-in, should this program be killed.
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_dir());
        let folder = runtime.unwrap_or_else(std::env::temp_dir);
        let page = Self(folder.join(format!("flare-open-{}.html", random()?)));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&page.0)?;
        write!(
            file,
            "<!doctype html>\n<meta charset=\"utf-8\">\n<meta name=\"referrer\" content=\"no-referrer\">\n\
             <meta http-equiv=\"refresh\" content=\"0; url={link}\">\n<title>flare open</title>\n\
             <p><a href=\"{link}\">Go on to the preview</a></p>\n"
        )?;
        Ok(page)
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::debug!(%error, "the file for the browser was not removed");
        }
    }
}

fn random() -> io::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes.iter().fold(String::with_capacity(32), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    }))
}
