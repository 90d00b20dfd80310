//! A keystroke's echo through a terminal of a session: WebSocket, edge, agent, PTY and back; beside the same program on
//! a bare PTY.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::time::{Duration, Instant};

use burstflare_ports::wire::terminal::{FromViewer, Hello, VIEW_PROTOCOL};
use rustix::pty::OpenptFlags;
use serde_json::json;
use tokio_tungstenite::tungstenite::{Message, WebSocket, client};

use crate::client::Client;
use crate::stats::Times;

/// A program that answers every key itself, as shells do: the kernel's own echo would come before it.
const PROGRAM: [&str; 3] = ["/bin/sh", "-c", "stty raw -echo; printf ready; exec cat"];

/// Measures and prints.
pub(crate) fn run(client: &mut Client, template: &str, count: u64) {
    let bare = Times::of(bare(count).into_iter());
    let session = client.create_session("bench-terminal", template);
    client.exec_first_byte(&session);
    let ours = Times::of(ours(client, &session, count).into_iter());
    client.delete_session(&session);
    println!("\nterminal echo by WebSocket      median        p99     ({count} keystrokes)");
    println!("  through edge and agent      {ours}   (aim: median <= 0.5 ms)");
    println!("  a bare PTY, `cat`           {bare}");
}

fn ours(client: &mut Client, session: &str, count: u64) -> Vec<Duration> {
    let path = format!("/api/v1/sessions/{session}/terminals");
    let made = client.json("POST", &path, &json!({ "argv": PROGRAM }));
    let attached =
        client.json("POST", &format!("/api/v1/sessions/{session}/attach"), &json!({ "purpose": "terminal" }));
    let stream = TcpStream::connect(("127.0.0.1", client.port())).unwrap();
    stream.set_nodelay(true).unwrap();
    let url = format!(
        "ws://127.0.0.1:{}{}/{}?ticket={}",
        client.port(),
        attached["url_path"].as_str().unwrap(),
        made["id"],
        attached["ticket"].as_str().unwrap()
    );
    let (mut socket, _) = client::client(url, stream).unwrap();
    let hello = Hello { protocol: VIEW_PROTOCOL, size: None, scrollback: 0, viewer: None, read_only: false };
    let hello = serde_json::to_string(&FromViewer::Hello(hello)).unwrap();
    socket.send(Message::Text(hello.into())).unwrap();
    let mut shown = Vec::new();
    while !shown.windows(5).any(|text| text == b"ready") {
        shown.extend(output(&mut socket));
    }
    let times = (0..count).map(|number| echo(&mut socket, key(number))).collect();
    client.json("DELETE", &format!("{path}/{}", made["id"]), &serde_json::Value::Null);
    times
}

fn key(number: u64) -> u8 {
    b'a' + u8::try_from(number % 26).unwrap()
}

fn echo(socket: &mut WebSocket<TcpStream>, key: u8) -> Duration {
    let begun = Instant::now();
    socket.send(Message::Binary(vec![key].into())).unwrap();
    let answer = output(socket);
    let took = begun.elapsed();
    assert_eq!(answer, [key], "the echo of this key and nothing else");
    took
}

fn output(socket: &mut WebSocket<TcpStream>) -> Vec<u8> {
    loop {
        if let Message::Binary(bytes) = socket.read().unwrap() {
            return bytes.to_vec();
        }
    }
}

fn bare(count: u64) -> Vec<Duration> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = rustix::pty::openpt(flags).unwrap();
    rustix::pty::unlockpt(&master).unwrap();
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).unwrap();
    let mut command = std::process::Command::new(PROGRAM[0]);
    command.args(&PROGRAM[1..]);
    command.stdin(slave.try_clone().unwrap()).stdout(slave.try_clone().unwrap()).stderr(slave);
    // SAFETY: between fork and exec it only makes system calls.
    unsafe {
        command.pre_exec(|| {
            rustix::process::setsid()?;
            rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
            Ok(())
        });
    }
    let mut cat = command.spawn().unwrap();
    drop(command);
    let mut screen = File::from(master);
    let mut keyboard = screen.try_clone().unwrap();
    let mut piece = [0; 64];
    let mut shown = Vec::new();
    while !shown.windows(5).any(|text| text == b"ready") {
        let read = screen.read(&mut piece).unwrap();
        shown.extend_from_slice(&piece[..read]);
    }
    let times = (0..count)
        .map(|number| {
            let begun = Instant::now();
            keyboard.write_all(&[key(number)]).unwrap();
            let read = screen.read(&mut piece).unwrap();
            let took = begun.elapsed();
            assert_eq!(&piece[..read], [key(number)]);
            took
        })
        .collect();
    cat.kill().unwrap();
    cat.wait().unwrap();
    times
}
