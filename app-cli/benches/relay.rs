//! sshd behind as many processes as a session's SSH server is, and nothing else in them: what the way itself costs.
//! OpenSSH's pipes, a relay, loopback TCP, a relay, a unix socket, `sshd -i`.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

/// Names the port to the relay that OpenSSH starts.
pub(crate) const PORT: &str = "BENCH_RELAY_PORT";
const BUFFER: usize = 128 << 10;

pub(crate) fn is_asked_for() -> bool {
    std::env::var_os(PORT).is_some()
}

/// OpenSSH's end.
pub(crate) fn run() {
    let port: u16 = std::env::var(PORT).unwrap().parse().unwrap();
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_nodelay(true).unwrap();
    let input = stream.try_clone().unwrap();
    thread::spawn(move || carry(io::stdin(), input));
    carry(stream, io::stdout());
}

/// The other end, in threads of this process; answers its port.
pub(crate) fn serve(sshd: &'static str, config: &Path) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let config = config.to_owned();
    thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            near.set_nodelay(true).unwrap();
            let (far, theirs) = UnixStream::pair().unwrap();
            let theirs = OwnedFd::from(theirs);
            let mut command = Command::new(sshd);
            command.args(["-i", "-q", "-f"]).arg(&config).stderr(Stdio::null());
            command.stdin(theirs.try_clone().unwrap()).stdout(theirs);
            let mut child = command.spawn().unwrap();
            drop(command);
            let (near_in, far_in) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            thread::spawn(move || {
                carry(&near_in, &far_in);
                let _ = far_in.shutdown(Shutdown::Both);
            });
            thread::spawn(move || {
                carry(&far, &near);
                let _ = near.shutdown(Shutdown::Both);
                let _ = child.wait();
            });
        }
    });
    port
}

fn carry(mut from: impl Read, mut to: impl Write) {
    let mut buffer = vec![0; BUFFER];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..read]).and_then(|()| to.flush()).is_err() {
            return;
        }
    }
}
