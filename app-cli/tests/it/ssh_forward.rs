//! Forwarding with the system's OpenSSH: `-L`, `-R`, `-D`, unix sockets, and what is refused.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};

use crate::flare::{EXE, Place, Server, have, run, session, wait};
use crate::ssh_resume::{client, config, eventually, free_port};

fn ready() -> Option<(Place, Server)> {
    if !have("ssh") || !have("curl") {
        return None;
    }
    let place = Place::new();
    let server = place.server();
    session(&place, &server, None);
    config(&place, &server.url);
    Some((place, server))
}

/// A client that only forwards; ends with the value.
pub(crate) struct Forwarder(Child);

impl Forwarder {
    pub(crate) fn start(place: &Place, words: &[&str]) -> Self {
        let mut ssh = client(place, "ssh");
        ssh.args(["-N", "-o", "ExitOnForwardFailure=yes"]).args(words).arg("s.flare");
        Self(ssh.spawn().expect("runs"))
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

/// A server in the session that answers every connection with what it was sent, doubled; in Perl, which every base has.
const DOUBLER: &str = r#"perl -MIO::Socket -e '
$| = 1;
my $l = $ARGV[0] =~ m{^/} ? do { require IO::Socket::UNIX; IO::Socket::UNIX->new(Local => $ARGV[0], Listen => 64) }
    : IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => $ARGV[0], ReuseAddr => 1, Listen => 64);
$l or die "listen: $!";
print "listening ", ($ARGV[0] =~ m{^/} ? $ARGV[0] : $l->sockport), "\n";
$SIG{CHLD} = "IGNORE";
while (my $c = $l->accept) { next if fork; local $/; my $x = <$c>; print $c $x, $x; close $c; exit }
' "#;

/// Runs the doubler; answers where it listens.
fn doubler(place: &Place, at: &str) -> (Child, String) {
    let mut ssh = client(place, "ssh");
    let ssh =
        ssh.args(["s.flare", &format!("exec {DOUBLER} {at}")]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut ssh = ssh.spawn().expect("runs");
    let mut line = String::new();
    BufReader::new(ssh.stdout.take().expect("a pipe")).read_line(&mut line).expect("read");
    let at = line.trim().strip_prefix("listening ").unwrap_or_else(|| panic!("{line}")).to_owned();
    (ssh, at)
}

fn double(mut stream: impl Read + Write, close: impl FnOnce()) -> String {
    stream.write_all(b"twice ").expect("written");
    close();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("read");
    answer
}

fn tcp(port: &str) -> String {
    let stream = TcpStream::connect(format!("127.0.0.1:{port}")).expect("connected");
    double(&stream, || stream.shutdown(std::net::Shutdown::Write).expect("half closed"))
}

fn listens(port: &str) {
    eventually("a listener", || TcpStream::connect(format!("127.0.0.1:{port}")).is_ok());
}

#[test]
fn local_ports_and_sockets_lead_into_the_session() {
    let Some((place, _server)) = ready() else { return };
    let (mut one, port) = doubler(&place, "0");
    let (mut other, socket) = doubler(&place, "/tmp/doubler.sock");
    let (near, far) = (free_port(), free_port());
    let here = place.path("here.sock");
    let to_port = format!("{near}:localhost:{port}");
    let to_socket = format!("{far}:{socket}");
    let from_socket = format!("{}:localhost:{port}", here.display());
    let _forwarder = Forwarder::start(&place, &["-L", &to_port, "-L", &to_socket, "-L", &from_socket]);
    listens(&near);
    listens(&far);
    assert_eq!(tcp(&near), "twice twice ", "an end in one direction leaves the other one open");
    assert_eq!(tcp(&far), "twice twice ", "to a unix socket");
    let stream = UnixStream::connect(&here).expect("connected");
    let answer = double(&stream, || stream.shutdown(std::net::Shutdown::Write).expect("half closed"));
    assert_eq!(answer, "twice twice ", "from a unix socket");
    for child in [&mut one, &mut other] {
        let _ = (child.kill(), child.wait());
    }
}

/// Answers each connection with what it was sent, doubled.
fn echo(mut stream: impl Read + Write) {
    let mut input = vec![0; 6];
    stream.read_exact(&mut input).expect("read");
    stream.write_all(&input.repeat(2)).expect("written");
}

/// A program in the session that sends six bytes and prints the answer.
const ASK: &str = r#"perl -MIO::Socket -e 'my $s = $ARGV[0] =~ m{^/} ? do { require IO::Socket::UNIX; IO::Socket::UNIX->new($ARGV[0]) } : IO::Socket::INET->new("127.0.0.1:$ARGV[0]") or die "connect: $!"; print $s "twice "; local $/; print <$s>' "#;

#[test]
fn remote_ports_and_sockets_lead_out_of_it() {
    let Some((place, _server)) = ready() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || listener.incoming().map_while(Result::ok).for_each(echo));
    let here = place.path("out.sock");
    let socket = UnixListener::bind(&here).expect("a socket");
    std::thread::spawn(move || socket.incoming().map_while(Result::ok).for_each(echo));

    // Port 0: the session's choice, which the client is told.
    let mut ssh = client(&place, "ssh");
    ssh.args(["-o", "ExitOnForwardFailure=yes", "-R", &format!("0:127.0.0.1:{port}")]);
    ssh.args([
        "-R",
        &format!("/tmp/in.sock:{}", here.display()),
        "-R",
        &format!("/tmp/mixed.sock:127.0.0.1:{port}"),
    ]);
    let ssh = ssh.args(["-tt", "s.flare", "stty -echo; echo up; read line; exit 3"]);
    let mut ssh =
        ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
    let mut said = BufReader::new(ssh.stderr.take().expect("a pipe")).lines();
    let told = said.next().expect("a line").expect("read");
    let chosen = told.split_ascii_whitespace().nth(2).unwrap_or_else(|| panic!("{told}")).to_owned();
    let mut lines = BufReader::new(ssh.stdout.take().expect("a pipe")).lines();
    assert_eq!(lines.next().expect("a line").expect("read").trim(), "up");
    let ask = |at: &str| run(client(&place, "ssh").args(["s.flare", &format!("{ASK} {at}")]));
    assert_eq!(ask(&chosen).ok().out, "twice twice ");
    assert_eq!(ask("/tmp/in.sock").ok().out, "twice twice ");
    assert_eq!(ask("/tmp/mixed.sock").ok().out, "twice twice ");
    let mode = run(client(&place, "ssh").args(["s.flare", "stat -c %a /tmp/in.sock"])).ok().out;
    assert_eq!(mode, "600\n");
    // Loopback alone, and ports that are taken, and places that are no user's, are refused.
    let mut taken = client(&place, "ssh");
    taken.args([
        "-N",
        "-o",
        "ExitOnForwardFailure=yes",
        "-R",
        &format!("{chosen}:127.0.0.1:{port}"),
        "s.flare",
    ]);
    run(&mut taken).fails(255, "remote port forwarding failed");
    let mut etc = client(&place, "ssh");
    etc.args([
        "-N",
        "-o",
        "ExitOnForwardFailure=yes",
        "-R",
        &format!("/usr/x.sock:127.0.0.1:{port}"),
        "s.flare",
    ]);
    run(&mut etc).fails(255, "forwarding failed");
    ssh.stdin.take().expect("a pipe").write_all(b"\n").expect("typed");
    assert_eq!(wait(&mut ssh).expect("ends").code(), Some(3));
    // With its connection a forward ends, and leaves nothing behind.
    eventually("the end of the forward", || {
        run(client(&place, "ssh")
            .args(["s.flare", &format!("{ASK} {chosen} || ls /tmp/in.sock /tmp/mixed.sock")]))
        .err
        .matches("No such file")
        .count()
            == 2
    });
}

/// An HTTP server that answers one fixed page.
fn page(text: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut head = [0; 4096];
            let _ = stream.read(&mut head);
            let length = text.len();
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{text}"
            );
        }
    });
    port
}

#[test]
fn a_socks_proxy_sees_the_session_and_what_the_session_may_see() {
    let Some((place, _server)) = ready() else { return };
    let secret = page("of the host");
    let (mut server, inside) = doubler(&place, "0");
    let socks = free_port();
    let _forwarder = Forwarder::start(&place, &["-D", &socks]);
    listens(&socks);
    let fetch = |url: &str| {
        let proxy = format!("socks5h://127.0.0.1:{socks}");
        // Whatever proxy the surroundings name is not the one that is tested.
        let mut curl = place.command("curl");
        curl.args(["-sS", "--max-time", "60", "--noproxy", "", "-x", &proxy]);
        curl.env_remove("HTTP_PROXY").env_remove("http_proxy");
        run(curl.args(["--http0.9", "-H", "connection: close", url]))
    };
    // The session's own loopback, not the client's.
    let telnet = |host: &str| {
        let mut stream = TcpStream::connect(format!("127.0.0.1:{socks}")).expect("connected");
        let port: u16 = inside.parse().expect("a port");
        stream.write_all(&[5, 1, 0]).expect("written");
        let mut answer = [0; 2];
        stream.read_exact(&mut answer).expect("read");
        let length = u8::try_from(host.len()).expect("short");
        let ask = [&[5, 1, 0, 3, length], host.as_bytes(), &port.to_be_bytes()].concat();
        stream.write_all(&ask).expect("written");
        let mut answer = [0; 10];
        stream.read_exact(&mut answer).expect("read");
        assert_eq!(answer[1], 0, "{host}: reached");
        double(&stream, || stream.shutdown(std::net::Shutdown::Write).expect("half closed"))
    };
    for host in ["localhost", "127.0.0.1", "app.localhost"] {
        assert_eq!(telnet(host), "twice twice ", "{host}");
    }
    // The host's loopback is not the session's, and neither are the host's and private addresses.
    for url in [
        format!("http://127.0.0.1:{secret}/"),
        "http://10.0.0.1/".to_owned(),
        "http://169.254.169.254/".into(),
    ] {
        let refused = fetch(&url);
        assert_ne!(refused.code, 0, "{url}: {refused:?}");
        assert!(!refused.out.contains("of the host"), "{url}: {refused:?}");
    }
    let _ = (server.kill(), server.wait());
}

#[test]
fn many_streams_at_once_and_words_of_flare_ssh() {
    let Some((place, _server)) = ready() else { return };
    let (mut server, inside) = doubler(&place, "0");
    let near = free_port();
    // `flare ssh` passes such words on.
    let mut forwarder = place.command(EXE);
    let forwarder = forwarder.args(["ssh", "s", "--", "-N", "-L", &format!("{near}:localhost:{inside}")]);
    let mut forwarder = forwarder.spawn().expect("runs");
    listens(&near);
    let asking: Vec<_> = (0..60)
        .map(|_| {
            let near = near.clone();
            std::thread::spawn(move || (0..3).all(|_| tcp(&near) == "twice twice "))
        })
        .collect();
    assert!(asking.into_iter().all(|asking| asking.join().expect("asked")));
    for child in [&mut server, &mut forwarder] {
        let _ = (child.kill(), child.wait());
    }
}

#[test]
fn agents_and_displays_stay_at_home() {
    let Some((place, _server)) = ready() else { return };
    // An agent that answers nothing; it has to be named, because the configuration names none.
    let agent = UnixListener::bind(place.path("agent.sock")).expect("a socket");
    std::thread::spawn(move || agent.incoming().map_while(Result::ok).for_each(drop));
    let mut ssh = client(&place, "ssh");
    ssh.arg("-o").arg(format!("IdentityAgent={}", place.path("agent.sock").display()));
    let said = run(ssh.args(["-A", "s.flare", "echo \"[$SSH_AUTH_SOCK]\""])).ok();
    assert_eq!(said.out, "[]\n");
    assert!(said.err.contains("do not forward SSH agents"), "{said:?}");
    let mut ssh = client(&place, "ssh");
    ssh.args(["-X", "s.flare", "echo \"[$DISPLAY]\""]).env("DISPLAY", ":99");
    assert_eq!(run(&mut ssh).ok().out, "[]\n");
    // And one master connection serves many.
    let control = place.path("control");
    let master = |words: &[&str]| {
        let mut ssh: Command = client(&place, "ssh");
        ssh.arg("-o").arg(format!("ControlPath={}", control.display())).args(words);
        run(&mut ssh)
    };
    master(&["-o", "ControlMaster=yes", "-o", "ControlPersist=60", "-f", "-N", "s.flare"]).ok();
    for code in [0, 5] {
        assert_eq!(master(&["s.flare", &format!("exit {code}")]).code, code);
    }
    fs::write(place.path("work/file"), "copied").expect("written");
    let mut scp = client(&place, "scp");
    scp.arg("-o").arg(format!("ControlPath={}", control.display())).args(["-q", "file", "s.flare:there"]);
    run(&mut scp).ok();
    assert_eq!(master(&["s.flare", "cat there"]).ok().out, "copied");
    master(&["-O", "exit", "s.flare"]).ok();
}
