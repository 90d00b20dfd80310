//! The traffic of editors that live in the session: a shell that is fed a script and starts a server, many streams to it
//! at once, uploads, long-lived commands, and coming back after the connection is gone.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use crate::flare::{Place, Server, have, run, session, wait};
use crate::ssh_forward::Forwarder;
use crate::ssh_resume::{client, config, eventually, free_port};

fn ready() -> Option<(Place, Server)> {
    if !have("ssh") || !have("sftp") {
        return None;
    }
    let place = Place::new();
    let server = place.server();
    session(&place, &server, None);
    config(&place, &server.url);
    Some((place, server))
}

/// A shell without a terminal that is typed into by a program.
struct Shell {
    ssh: Child,
    input: ChildStdin,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Shell {
    fn start(place: &Place, words: &[&str]) -> Self {
        let mut ssh = client(place, "ssh");
        let ssh = ssh.args(["-T"]).args(words).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut ssh = ssh.spawn().expect("runs");
        let input = ssh.stdin.take().expect("a pipe");
        let lines = BufReader::new(ssh.stdout.take().expect("a pipe")).lines();
        Self { ssh, input, lines }
    }

    fn type_in(&mut self, text: &str) {
        self.input.write_all(text.as_bytes()).expect("typed");
        self.input.flush().expect("sent");
    }

    fn line(&mut self) -> String {
        self.lines.next().expect("a line").expect("read")
    }

    fn close(mut self) -> Option<i32> {
        drop(self.input);
        wait(&mut self.ssh).expect("ends").code()
    }
}

/// Installs a server below the home folder and starts it in a session of its own, as editors do: it outlives the
/// connection, and who comes next finds it by its file.
const INSTALL: &str = r#"
set -e
uname -sm
mkdir -p ~/.editor-server/bin && cd ~/.editor-server
cat > bin/server <<'SCRIPT'
#!/usr/bin/perl
use IO::Socket::INET;
my $l = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => 0, Listen => 256) or die;
open(my $f, ">", "$ENV{HOME}/.editor-server/port.new"); print $f $l->sockport, "\n"; close $f;
rename "$ENV{HOME}/.editor-server/port.new", "$ENV{HOME}/.editor-server/port";
$SIG{CHLD} = "IGNORE";
while (my $c = $l->accept) {
    next if fork;
    close $l;
    while (sysread($c, my $x, 65536)) { my $at = 0; while ($at < length $x) { my $n = syswrite($c, $x, length($x) - $at, $at) or exit; $at += $n } }
    exit;
}
SCRIPT
chmod +x bin/server
if ! { [ -f pid ] && kill -0 "$(cat pid)" 2>/dev/null; }; then
    rm -f port
    setsid nohup bin/server >log 2>&1 </dev/null & echo $! >pid
    while [ ! -f port ]; do sleep 0.05; done
    echo started
else
    echo found
fi
echo "port:$(cat port)"
"#;

/// Connects through a SOCKS proxy to the session's loopback, sends noise and reads it back.
fn stream(socks: &str, port: u16, seed: u8) -> bool {
    let mut stream = TcpStream::connect(format!("127.0.0.1:{socks}")).expect("connected");
    stream.write_all(&[5, 1, 0]).expect("written");
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).expect("read");
    let ask = [&[5, 1, 0, 1, 127, 0, 0, 1][..], &port.to_be_bytes()].concat();
    stream.write_all(&ask).expect("written");
    let mut answer = [0; 10];
    stream.read_exact(&mut answer).expect("read");
    assert_eq!(answer[1], 0, "reached");
    let mut noise = vec![0; 300_000];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut noise);
    let (mut writer, sent) = (stream.try_clone().expect("a clone"), noise.clone());
    let writing = std::thread::spawn(move || writer.write_all(&sent).expect("written"));
    let mut back = vec![0; noise.len()];
    stream.read_exact(&mut back).expect("read");
    writing.join().expect("written");
    back == noise
}

#[test]
fn a_server_is_installed_through_a_shell_and_spoken_to_in_many_streams() {
    let Some((place, _server)) = ready() else { return };
    for expected in ["started", "found"] {
        let socks = free_port();
        let mut shell = Shell::start(&place, &["-D", &socks, "s.flare", "bash"]);
        shell.type_in(INSTALL);
        assert!(shell.line().starts_with("Linux "));
        assert_eq!(shell.line(), expected, "a server that runs is found again");
        let line = shell.line();
        let port: u16 = line.strip_prefix("port:").and_then(|port| port.parse().ok()).expect("a port");
        let streams: Vec<_> = (0..40)
            .map(|seed| {
                let socks = socks.clone();
                std::thread::spawn(move || stream(&socks, port, seed))
            })
            .collect();
        // The shell goes on meanwhile.
        for number in 0..20 {
            shell.type_in(&format!("echo still-{number}\n"));
            assert_eq!(shell.line(), format!("still-{number}"));
        }
        assert!(streams.into_iter().all(|stream| stream.join().expect("streamed")));
        assert_eq!(shell.close(), Some(0), "the server holds no pipe of the shell's");
    }
}

#[test]
fn a_big_archive_is_uploaded_unpacked_and_served_on_a_socket() {
    let Some((place, _server)) = ready() else { return };
    assert_eq!(
        run(client(&place, "ssh").args(["s.flare", "uname -s && getconf LONG_BIT"])).ok().out,
        "Linux\n64\n"
    );
    let mut noise = vec![0; 24 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    fs::create_dir(place.path("work/ide")).expect("made");
    fs::write(place.path("work/ide/product"), &noise).expect("written");
    run(place.command("tar").args(["-cf", "ide.tar", "ide"])).ok();
    fs::write(
        place.path("work/batch"),
        "-mkdir .cache\nput -p ide.tar .cache/ide.tar\nchmod 600 .cache/ide.tar\n",
    )
    .expect("written");
    run(client(&place, "sftp").args(["-q", "-b", "batch", "s.flare"])).ok();
    let unpacked = run(client(&place, "ssh")
        .args(["s.flare", "tar -C .cache -xf .cache/ide.tar && sha256sum < .cache/ide/product"]));
    let here =
        run(place.command("sha256sum").stdin(fs::File::open(place.path("work/ide/product")).expect("open")))
            .ok()
            .out;
    assert_eq!(unpacked.ok().out, here);
    // A long-lived command serves on a unix socket, which is forwarded to a port here.
    let mut backend = Shell::start(
        &place,
        &[
            "s.flare",
            "exec perl -MIO::Socket::UNIX -e '$|=1; my $l = IO::Socket::UNIX->new(Local => \"/tmp/ide.sock\", Listen => 8); print \"ready\\n\"; while (my $c = $l->accept) { my $x = <$c>; print $c \"got $x\"; close $c; print \"served\\n\" }'",
        ],
    );
    assert_eq!(backend.line(), "ready");
    let near = free_port();
    let _forwarder = Forwarder::start(&place, &["-L", &format!("{near}:/tmp/ide.sock")]);
    eventually("a listener", || TcpStream::connect(format!("127.0.0.1:{near}")).is_ok());
    let mut stream = TcpStream::connect(format!("127.0.0.1:{near}")).expect("connected");
    stream.write_all(b"hello\n").expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("read");
    assert_eq!(answer, "got hello\n");
    assert_eq!(backend.line(), "served");
    let _ = (backend.ssh.kill(), backend.ssh.wait());
}
