//! The proxy never outlives OpenSSH: whatever it is waiting for, it ends soon after its pipes have closed or a signal.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::flare::{EXE, Place, Server, have, session};
use crate::ssh_resume::{client, config, eventually};

/// Far more than it takes, far less than what it may be waiting for.
const SOON: Duration = Duration::from_secs(60);
const UNAVAILABLE: i32 = 7;
const INTERRUPTED: i32 = 130;

/// The proxy, with us in the place of OpenSSH.
struct Proxy {
    child: Child,
    input: Option<ChildStdin>,
    output: Option<BufReader<ChildStdout>>,
}

impl Proxy {
    fn of(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("runs");
        let input = child.stdin.take();
        let output = child.stdout.take().map(BufReader::new);
        Self { child, input, output }
    }

    fn at(place: &Place, url: &str) -> Command {
        let mut command = place.command(EXE);
        command.args(["ssh-proxy", "--url", url, "s.flare"]);
        command
    }

    /// One whose session has answered.
    fn reached(place: &Place, server: &Server) -> Self {
        let mut proxy = Self::of(&mut Self::at(place, &server.url));
        let mut banner = String::new();
        proxy.output.as_mut().expect("a pipe").read_line(&mut banner).expect("text");
        assert!(banner.starts_with("SSH-2.0-"), "{banner}");
        proxy
    }

    /// Writes until nothing is taken any more.
    fn fill(&mut self) {
        let mut input = self.input.as_ref().expect("a pipe");
        rustix::io::ioctl_fionbio(input, true).expect("set");
        let piece = vec![b'x'; 64 << 10];
        let mut taken = Instant::now();
        let mut total = 0;
        while total < 4 << 20 || taken.elapsed() < Duration::from_secs(1) {
            match input.write(&piece) {
                Ok(length) => (total, taken) = (total + length, Instant::now()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    std::thread::park_timeout(Duration::from_millis(5));
                }
                Err(error) => panic!("{error}"),
            }
            assert!(taken.elapsed() < SOON, "a window is taken: {total}");
        }
    }

    fn signal(&self, signal: Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).expect("sent");
    }

    /// What OpenSSH's end means to us.
    fn hang_up(&mut self) {
        (self.input, self.output) = (None, None);
    }

    #[track_caller]
    fn ends(&mut self) -> ExitStatus {
        let until = Instant::now() + SOON;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().expect("waits") {
                return status;
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
        panic!("it goes on");
    }

    #[track_caller]
    fn ends_with(&mut self, code: i32) {
        let status = self.ends();
        assert_eq!(status.code(), Some(code), "{status}");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server that takes connections and says nothing.
struct Silent {
    listener: TcpListener,
    url: String,
}

impl Silent {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("set");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        Self { listener, url }
    }

    /// A proxy that has asked it, and waits.
    fn asked(&self, place: &Place) -> (Proxy, TcpStream) {
        let proxy = Proxy::of(
            place
                .command(EXE)
                .env("FLARE_URL", &self.url)
                .env("FLARE_TOKEN", "none")
                .args(["ssh-proxy", "s.flare"]),
        );
        let until = Instant::now() + SOON;
        let mut asked = loop {
            match self.listener.accept() {
                Ok((asked, _)) => break asked,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => panic!("{error}"),
            }
            assert!(Instant::now() < until, "it asks");
            std::thread::park_timeout(Duration::from_millis(5));
        };
        asked.set_nonblocking(false).expect("set");
        asked.set_read_timeout(Some(SOON)).expect("set");
        asked.read_exact(&mut [0; 4]).expect("a request");
        (proxy, asked)
    }
}

fn running(place: &Place) -> Server {
    let server = place.server();
    session(place, &server, None);
    server
}

/// The session says goodbye to somebody who reads no more, but has not closed the other pipe.
#[test]
fn a_proxy_ends_with_a_session_whose_last_words_nobody_reads() {
    let place = Place::new();
    let server = running(&place);
    let mut proxy = Proxy::reached(&place, &server);
    proxy.output = None;
    // To a name the session answers with its proposal; after the rest it gives the connection up.
    let mut said = b"SSH-2.0-nobody\r\n".to_vec();
    said.extend([0xff; 256]);
    proxy.input.as_mut().expect("a pipe").write_all(&said).expect("written");
    // Who was first to end it decides about the code.
    let status = proxy.ends();
    assert!(status.code().is_some(), "{status}");
}

#[test]
fn a_proxy_ends_with_its_pipes() {
    let place = Place::new();
    let server = running(&place);
    for which in 0..3 {
        let mut proxy = Proxy::reached(&place, &server);
        match which {
            0 => proxy.input = None,
            1 => proxy.output = None,
            _ => proxy.hang_up(),
        }
        proxy.ends_with(0);
    }
}

/// Nothing is read while the window is full, and the end of what is not read is seen all the same.
#[test]
fn a_proxy_with_much_on_its_way_to_a_frozen_server_ends_with_its_pipes() {
    let place = Place::new();
    let server = running(&place);
    let mut proxies = [Proxy::reached(&place, &server), Proxy::reached(&place, &server)];
    server.signal(Signal::STOP);
    for proxy in &mut proxies {
        proxy.fill();
    }
    let [left, told] = &mut proxies;
    left.hang_up();
    told.signal(Signal::TERM);
    left.ends_with(UNAVAILABLE);
    told.ends_with(INTERRUPTED);
    server.signal(Signal::CONT);
}

#[test]
fn a_proxy_that_looks_for_a_dead_server_ends_with_its_client() {
    if !have("ssh") {
        return;
    }
    let place = Place::new();
    let server = running(&place);
    config(&place, &server.url);
    let mut ssh = client(&place, "ssh");
    let ssh = ssh.args(["s.flare", "echo here; exec sleep 3600"]);
    let mut ssh = ssh.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
    let mut here = [0; 5];
    ssh.stdout.as_mut().expect("a pipe").read_exact(&mut here).expect("output");
    let children = format!("/proc/{0}/task/{0}/children", ssh.id());
    let proxy = std::fs::read_to_string(children).expect("a list").trim().to_owned();
    assert!(proxy.parse::<u32>().is_ok(), "one child: {proxy}");
    let mut told = Proxy::reached(&place, &server);
    server.signal(Signal::KILL);
    assert_eq!(server.ended(), None);
    let mut said = BufReader::new(ssh.stderr.take().expect("a pipe")).lines();
    let said = said.find(|line| line.as_ref().is_ok_and(|line| line.contains("trying to resume")));
    assert!(said.is_some(), "it looks for the server");
    ssh.kill().expect("killed");
    ssh.wait().expect("ended");
    told.signal(Signal::HUP);
    told.ends_with(INTERRUPTED);
    eventually("end of the proxy", || {
        let stat = std::fs::read_to_string(format!("/proc/{proxy}/stat")).unwrap_or_default();
        // Whoever adopted it may be slow to bury it.
        stat.is_empty() || stat.contains(") Z ")
    });
}

#[test]
fn a_proxy_that_waits_for_its_ticket_ends_with_its_client() {
    let place = Place::new();
    let silent = Silent::new();
    let (mut left, _kept) = silent.asked(&place);
    left.hang_up();
    left.ends_with(UNAVAILABLE);
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let (mut told, _kept) = silent.asked(&place);
        told.signal(signal);
        told.ends_with(INTERRUPTED);
    }
}

#[test]
fn a_signal_ends_a_proxy_that_carries() {
    let place = Place::new();
    let server = running(&place);
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let mut proxy = Proxy::reached(&place, &server);
        proxy.signal(signal);
        proxy.ends_with(INTERRUPTED);
    }
}

/// Its remarks go where OpenSSH's go, and whoever is to read them may not.
#[test]
fn a_proxy_whose_remarks_nobody_reads_ends() {
    let place = Place::new();
    let server = running(&place);
    let url = server.url.clone();
    server.signal(Signal::KILL);
    assert_eq!(server.ended(), None);
    let (_unread, full) = rustix::pipe::pipe().expect("a pipe");
    rustix::io::ioctl_fionbio(&full, true).expect("set");
    let mut full = File::from(full);
    while full.write(&[b'x'; 1024]).is_ok() {}
    rustix::io::ioctl_fionbio(&full, false).expect("set");
    let mut proxy = Proxy::of(Proxy::at(&place, &url).stderr(full));
    let status = proxy.ends();
    assert_eq!((status.code(), status.signal()), (Some(UNAVAILABLE), None));
}
