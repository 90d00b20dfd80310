//! SSH connections outlive the server and the network; they do not outlive the machine.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::flare::{EXE, PATIENCE, Place, Server, have, run, session, wait};

/// OpenSSH's configuration for the sessions of a server.
pub(crate) fn config(place: &Place, url: &str) -> PathBuf {
    let config = place.path("ssh_config");
    run(place.command(EXE).args(["config-ssh", "--yes", "--url", url, "--file"]).arg(&config)).ok();
    config
}

/// A client of OpenSSH that uses it.
pub(crate) fn client(place: &Place, program: &str) -> Command {
    let mut command = place.command(program);
    command.arg("-F").arg(place.path("ssh_config"));
    command
}

pub(crate) fn free_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port().to_string()
}

fn kill_and_start(place: &Place, server: &mut Option<Server>, words: &[&str]) {
    let old = server.take().expect("a server");
    old.signal(Signal::KILL);
    assert_eq!(old.ended(), None, "killed, not ended");
    *server = Some(place.server_with(words));
}

/// Waits for a condition.
#[track_caller]
pub(crate) fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < until, "no {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

#[track_caller]
fn ends_well(child: &mut Child) {
    let status = wait(child).expect("it ends");
    assert!(status.success(), "{status}");
}

#[test]
fn output_goes_on_where_it_was_when_the_server_is_killed() {
    const LINES: u32 = 3_000_000;
    if !have("ssh") {
        return;
    }
    let place = Place::new();
    let port = free_port();
    let words = ["--port", port.as_str()];
    let mut server = Some(place.server_with(&words));
    session(&place, server.as_ref().expect("a server"), None);
    config(&place, &server.as_ref().expect("a server").url);
    let script = format!(
        "awk 'BEGIN {{ for (i = 0; i < {LINES}; i++) print i }}'; read line; echo \"<$line>\"; exit 7"
    );
    let mut ssh = client(&place, "ssh");
    let mut ssh =
        ssh.args(["s.flare", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("runs");
    let mut lines = BufReader::new(ssh.stdout.take().expect("a pipe")).lines();
    for expected in 0..LINES {
        // It is in the middle of its output: more than all buffers together is still to come.
        if [1_000, 400_000, 900_000].contains(&expected) {
            kill_and_start(&place, &mut server, &words);
        }
        let line = lines.next().expect("a line").expect("read");
        assert_eq!(line, expected.to_string(), "no gap, nothing twice");
    }
    // It is silent now; a kill in the silence, and one direction as well as the other goes on.
    kill_and_start(&place, &mut server, &words);
    ssh.stdin.take().expect("a pipe").write_all(b"typed\n").expect("written");
    assert_eq!(lines.next().expect("a line").expect("read"), "<typed>");
    assert!(lines.next().is_none());
    assert_eq!(wait(&mut ssh).expect("ends").code(), Some(7));
}

/// A network between client and server whose connections can be cut.
struct Network {
    url: String,
    cables: Arc<Mutex<Vec<TcpStream>>>,
    carried: Arc<AtomicUsize>,
}

impl Network {
    /// The server answers to its own name alone, so that is put into the requests.
    fn before(server: &Server) -> Self {
        let target = server.url.strip_prefix("http://").expect("plain").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let ours = listener.local_addr().expect("an address").to_string();
        assert_eq!(ours.len(), target.len(), "ports of five digits");
        let url = format!("http://{ours}");
        let (cables, carried) = (Arc::<Mutex<Vec<TcpStream>>>::default(), Arc::<AtomicUsize>::default());
        let (all, bytes) = (Arc::clone(&cables), Arc::clone(&carried));
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(&target) else { continue };
                all.lock()
                    .expect("cables")
                    .extend([near.try_clone().expect("a clone"), far.try_clone().expect("a clone")]);
                for (mut from, mut to) in
                    [(near.try_clone().expect("a clone"), far.try_clone().expect("a clone")), (far, near)]
                {
                    let bytes = Arc::clone(&bytes);
                    let (ours, target) = (ours.clone(), target.clone());
                    std::thread::spawn(move || {
                        let mut piece = vec![0; 64 << 10];
                        while let Ok(read @ 1..) = from.read(&mut piece) {
                            bytes.fetch_add(read, Ordering::Relaxed);
                            if [&b"GET "[..], b"POST ", b"PUT "].iter().any(|verb| piece.starts_with(verb)) {
                                let at =
                                    piece.windows(ours.len()).position(|window| window == ours.as_bytes());
                                let at = at.expect("a host");
                                piece[at..at + target.len()].copy_from_slice(target.as_bytes());
                            }
                            if to.write_all(&piece[..read]).is_err() {
                                break;
                            }
                        }
                        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
                    });
                }
            }
        });
        Self { url, cables, carried }
    }

    /// Cuts everything that is connected now.
    fn cut(&self) {
        for cable in self.cables.lock().expect("cables").drain(..) {
            let _ = cable.shutdown(Shutdown::Both);
        }
    }
}

#[test]
fn both_directions_survive_cuts_of_the_network() {
    const SIZE: usize = 24 << 20;
    if !have("ssh") {
        return;
    }
    let place = Place::new();
    let mut server = place.server();
    let network = Network::before(&server);
    server.url.clone_from(&network.url);
    session(&place, &server, None);
    config(&place, &network.url);
    let mut ssh = client(&place, "ssh");
    // Rekeying has to survive it as well.
    ssh.args(["-o", "RekeyLimit=4M", "s.flare", "cat"]);
    let mut ssh = ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("runs");
    let mut bytes = vec![0; SIZE];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    let sent = bytes.clone();
    let mut input = ssh.stdin.take().expect("a pipe");
    let writing: JoinHandle<()> = std::thread::spawn(move || input.write_all(&sent).expect("written"));
    let mut output = ssh.stdout.take().expect("a pipe");
    let mut back = Vec::with_capacity(SIZE);
    let mut piece = vec![0; 64 << 10];
    let mut cuts = 0;
    while let Ok(read @ 1..) = output.read(&mut piece) {
        back.extend_from_slice(&piece[..read]);
        // At moments that have nothing to do with messages.
        if back.len() > (cuts + 1) * (3 << 20) + 12_345 * cuts && cuts < 6 {
            cuts += 1;
            network.cut();
        }
    }
    writing.join().expect("written");
    ends_well(&mut ssh);
    assert_eq!(cuts, 6);
    assert!(network.carried.load(Ordering::Relaxed) > 2 * SIZE, "it went through the network");
    assert_eq!(back.len(), bytes.len());
    assert!(back == bytes, "exactly the same bytes");
}

#[test]
fn a_connection_ends_with_the_machine_and_wakes_nothing() {
    if !have("ssh") {
        return;
    }
    let place = Place::new();
    let server = place.server();
    session(&place, &server, None);
    config(&place, &server.url);
    for verb in ["stop", "restart"] {
        place.flare(["session", "start", "s"]).ok();
        // Without a program: one of those ends by itself before the machine does.
        let port = free_port();
        let mut ssh = client(&place, "ssh");
        let ssh = ssh.args(["-N", "-L", &format!("{port}:127.0.0.1:9"), "s.flare"]).stderr(Stdio::piped());
        let mut ssh = ssh.spawn().expect("runs");
        eventually("a connection", || TcpStream::connect(format!("127.0.0.1:{port}")).is_ok());
        place.flare(["session", verb, "s"]).ok();
        let status = wait(&mut ssh).unwrap_or_else(|| panic!("{verb}: it ends within {PATIENCE:?}"));
        assert!(!status.success(), "{verb}");
        let mut said = String::new();
        ssh.stderr.take().expect("a pipe").read_to_string(&mut said).expect("text");
        assert!(said.contains("stopped or restarted") || said.contains("does not keep"), "{verb}: {said}");
    }
    place.flare(["session", "stop", "s"]).ok();
    assert_eq!(place.flare(["session", "show", "s", "--json"]).ok().json()["state"], "sleeping");
}

#[test]
fn a_server_that_is_just_starting_is_waited_for() {
    if !have("ssh") {
        return;
    }
    let place = Place::new();
    let port = free_port();
    let words = ["--port", port.as_str()];
    let server = place.server_with(&words);
    session(&place, &server, None);
    config(&place, &server.url);
    server.signal(Signal::KILL);
    assert_eq!(server.ended(), None);
    let mut ssh = client(&place, "ssh");
    let ssh = ssh.args(["s.flare", "echo here"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut ssh = ssh.spawn().expect("runs");
    // It says that it waits; only then there is something to reach.
    let mut said = BufReader::new(ssh.stderr.take().expect("a pipe")).lines();
    let first = said.next().expect("a line").expect("read");
    assert!(first.contains("trying again"), "{first}");
    let _server = place.server_with(&words);
    let mut out = String::new();
    ssh.stdout.take().expect("a pipe").read_to_string(&mut out).expect("text");
    assert_eq!(out, "here\n");
    ends_well(&mut ssh);
}

/// As with sshd: what runs at the terminal of a client that goes away is hung up, at once and not after a grace.
#[test]
fn a_client_that_is_killed_hangs_up() {
    if !have("ssh") {
        return;
    }
    let place = Place::new();
    let server = place.server();
    session(&place, &server, None);
    config(&place, &server.url);
    for signal in [Signal::KILL, Signal::HUP] {
        let mut ssh = client(&place, "ssh");
        let ssh = ssh.args(["-tt", "s.flare", "echo pid:$$; exec sleep 3600"]);
        let ssh = ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        let mut ssh = ssh.spawn().expect("runs");
        let mut lines = BufReader::new(ssh.stdout.take().expect("a pipe")).lines();
        let line = lines.next().expect("a line").expect("read");
        let pid = line.trim().strip_prefix("pid:").expect("a pid").to_owned();
        let group = rustix::process::Pid::from_child(&ssh);
        if signal == Signal::KILL {
            // The client alone: its proxy sees its pipe close.
            rustix::process::kill_process(group, signal).expect("sent");
        } else {
            // As a closing terminal window does: the proxy, too, and it says goodbye.
            rustix::process::kill_process_group(group, signal).expect("sent");
        }
        wait(&mut ssh).expect("ends");
        let until = Instant::now() + Duration::from_secs(60);
        while run(client(&place, "ssh").args(["s.flare", &format!("kill -0 {pid}")])).code == 0 {
            assert!(Instant::now() < until, "{signal:?}: it goes on");
        }
    }
}
