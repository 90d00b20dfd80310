//! What trials run inside machines: small attempts whose outcome is printed as one line, `errno N` where the kernel
//! refused.

use std::ffi::CString;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

pub(crate) fn run(words: &[String]) -> ExitCode {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match attempt(&words) {
        Ok(text) => println!("{text}"),
        Err(error) => match error.raw_os_error() {
            Some(errno) => println!("errno {errno}"),
            None => println!("error {error}"),
        },
    }
    ExitCode::SUCCESS
}

fn attempt(words: &[&str]) -> io::Result<String> {
    match words {
        ["open-write", path] => fs::OpenOptions::new().write(true).open(path).map(|_| "opened".to_owned()),
        ["open-read", path] => fs::File::open(path).map(|_| "opened".to_owned()),
        ["read", path] => fs::read(path).map(|bytes| format!("read {}", bytes.len())),
        ["create", path] => fs::File::create_new(path).map(|_| "created".to_owned()),
        ["connect", address] => {
            let address = address.parse().map_err(io::Error::other)?;
            TcpStream::connect_timeout(&address, Duration::from_secs(3)).map(|_| "connected".to_owned())
        }
        ["serve-once", address, text] => {
            let (mut stream, _) = TcpListener::bind(address)?.accept()?;
            stream.write_all(text.as_bytes())?;
            Ok("served".to_owned())
        }
        ["fetch", address] => {
            let mut text = String::new();
            TcpStream::connect(address)?.read_to_string(&mut text)?;
            Ok(text)
        }
        ["proxy", method, target] => proxy(method, target),
        ["hostile-tree", folder] => hostile_tree(folder).map(|()| "made".to_owned()),
        ["memory", mebibytes] => memory(mebibytes.parse().unwrap_or(0)),
        ["fork-bomb"] => fork_bomb(),
        ["trace-child"] => trace_child(),
        ["memory-of", pid] => memory_of(pid.parse().unwrap_or(0)),
        ["attach", pid] => attach(pid.parse().unwrap_or(0)),
        ["abstract-listen", name] => abstract_socket(name, true),
        ["abstract-connect", name] => abstract_socket(name, false),
        ["call", name] => call(name),
        ["foreign-call", name] => foreign_call(name),
        _ => Err(io::Error::other(format!("no probe {words:?}"))),
    }
}

fn done(result: libc::c_long) -> io::Result<String> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok("done".to_owned()) }
}

/// Asks the egress proxy; answers the first line and the body.
fn proxy(method: &str, target: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect("127.0.0.1:3128")?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let host = target.trim_start_matches("http://").split('/').next().unwrap_or_default();
    write!(stream, "{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte)? == 1 {
        head.push(byte[0]);
    }
    let line = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
    if method == "CONNECT" && line.contains(" 200") {
        write!(stream, "GET / HTTP/1.1\r\nHost: inner\r\nConnection: close\r\n\r\n")?;
    }
    let mut rest = String::new();
    stream.read_to_string(&mut rest)?;
    Ok(format!("{line}|{}", rest.lines().last().unwrap_or_default()))
}

/// Deep beyond any path, closed to its owner, and of many kinds.
fn hostile_tree(folder: &str) -> io::Result<()> {
    std::env::set_current_dir(folder)?;
    for _ in 0..2000 {
        fs::create_dir("deep")?;
        std::env::set_current_dir("deep")?;
    }
    fs::write("bottom", "x")?;
    std::env::set_current_dir(folder)?;
    for mode in [0o000, 0o111, 0o444, 0o555, 0o222] {
        use std::os::unix::fs::PermissionsExt as _;
        let path = format!("mode{mode:o}");
        fs::create_dir_all(format!("{path}/inner"))?;
        fs::write(format!("{path}/inner/file"), "x")?;
        fs::set_permissions(format!("{path}/inner"), fs::Permissions::from_mode(mode))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }
    let pipe = CString::new("pipe").map_err(io::Error::other)?;
    // SAFETY: a C string.
    done(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }.into())?;
    std::os::unix::net::UnixListener::bind("socket")?;
    Ok(())
}

fn memory(mebibytes: usize) -> io::Result<String> {
    let mut kept = Vec::new();
    for _ in 0..mebibytes {
        let mut block: Vec<u8> = Vec::new();
        block.try_reserve_exact(1 << 20).map_err(io::Error::other)?;
        block.resize(1 << 20, 1);
        kept.push(std::hint::black_box(block));
    }
    Ok(format!("kept {}", kept.len()))
}

/// Forks until the kernel refuses, and ends them all.
fn fork_bomb() -> io::Result<String> {
    let mut children = Vec::new();
    let refused = loop {
        // SAFETY: the child only waits to be killed.
        match unsafe { libc::fork() } {
            0 => loop {
                // SAFETY: waits for a signal.
                unsafe { libc::pause() };
            },
            -1 => break io::Error::last_os_error(),
            child => children.push(child),
        }
        if children.len() > 5000 {
            break io::Error::other("never");
        }
    };
    for child in &children {
        // SAFETY: our own unreaped children.
        unsafe { libc::kill(*child, libc::SIGKILL) };
    }
    Ok(format!("{} {}", children.len(), refused.raw_os_error().unwrap_or(0)))
}

fn trace_child() -> io::Result<String> {
    // SAFETY: the child only waits; the parent uses plain calls on it.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            loop {
                libc::pause();
            }
        }
        let null = std::ptr::null_mut::<libc::c_void>();
        let outcome = done(libc::ptrace(libc::PTRACE_ATTACH, child, null, null));
        libc::kill(child, libc::SIGKILL);
        outcome
    }
}

fn memory_of(pid: i32) -> io::Result<String> {
    let mut byte = 0_u8;
    let local = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let remote = libc::iovec { iov_base: 0x40_0000 as *mut libc::c_void, iov_len: 1 };
    // SAFETY: one byte is read into a local.
    let read = unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
    match io::Error::last_os_error() {
        // Allowed to look, though nothing is there.
        error if error.raw_os_error() == Some(libc::EFAULT) => Ok("read".to_owned()),
        error if read < 0 => Err(error),
        _ => Ok("read".to_owned()),
    }
}

fn attach(pid: i32) -> io::Result<String> {
    let null = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: a plain call.
    done(unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, null, null) })
}

fn abstract_socket(name: &str, listen: bool) -> io::Result<String> {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
    let address = SocketAddr::from_abstract_name(name)?;
    if listen {
        let listener = UnixListener::bind_addr(&address)?;
        println!("listening");
        listener.accept()?;
        return Ok("accepted".to_owned());
    }
    UnixStream::connect_addr(&address).map(|_| "connected".to_owned())
}

/// System calls by the names of the filter's list.
fn call(name: &str) -> io::Result<String> {
    let zero = 0 as libc::c_long;
    let plain = |number: libc::c_long| {
        // SAFETY: with zeros for arguments none of these does anything, were it allowed.
        done(unsafe { libc::syscall(number, zero, zero, zero, zero, zero, zero) })
    };
    let clone = |flags: libc::c_int| {
        // SAFETY: a fork with flags; the child ends at once.
        let child = unsafe { libc::syscall(libc::SYS_clone, flags | libc::SIGCHLD, zero, zero, zero, zero) };
        if child == 0 {
            // SAFETY: ends the child.
            unsafe { libc::_exit(0) }
        }
        done(child)
    };
    let socket = |family: libc::c_int, kind: libc::c_int, protocol: libc::c_int| {
        // SAFETY: a plain call.
        done(unsafe { libc::socket(family, kind, protocol) }.into())
    };
    let terminal = |request: libc::Ioctl| {
        let (mut manager, mut user) = (0, 0);
        let none = std::ptr::null_mut();
        // SAFETY: opens a terminal into locals, and asks for something with a local byte.
        unsafe {
            done(libc::openpty(&raw mut manager, &raw mut user, none, none.cast(), none.cast()).into())?;
            let mut bytes = [b'x'; 64];
            done(libc::ioctl(user, request, bytes.as_mut_ptr()).into())
        }
    };
    match name {
        "mount" => plain(libc::SYS_mount),
        "umount2" => plain(libc::SYS_umount2),
        "pivot_root" => plain(libc::SYS_pivot_root),
        "open_tree" => plain(libc::SYS_open_tree),
        "move_mount" => plain(libc::SYS_move_mount),
        "fsopen" => plain(libc::SYS_fsopen),
        "fsconfig" => plain(libc::SYS_fsconfig),
        "fsmount" => plain(libc::SYS_fsmount),
        "fspick" => plain(libc::SYS_fspick),
        "mount_setattr" => plain(libc::SYS_mount_setattr),
        "open_tree_attr" => plain(467),
        "setns" => plain(libc::SYS_setns),
        "keyctl" => plain(libc::SYS_keyctl),
        "add_key" => plain(libc::SYS_add_key),
        "request_key" => plain(libc::SYS_request_key),
        "bpf" => plain(libc::SYS_bpf),
        "perf_event_open" => plain(libc::SYS_perf_event_open),
        "userfaultfd" => plain(libc::SYS_userfaultfd),
        "io_uring_setup" => plain(libc::SYS_io_uring_setup),
        "io_uring_enter" => plain(libc::SYS_io_uring_enter),
        "io_uring_register" => plain(libc::SYS_io_uring_register),
        "kexec_load" => plain(libc::SYS_kexec_load),
        "kexec_file_load" => plain(libc::SYS_kexec_file_load),
        "init_module" => plain(libc::SYS_init_module),
        "finit_module" => plain(libc::SYS_finit_module),
        "delete_module" => plain(libc::SYS_delete_module),
        "clock_settime" => plain(libc::SYS_clock_settime),
        "settimeofday" => plain(libc::SYS_settimeofday),
        "clock_adjtime" => plain(libc::SYS_clock_adjtime),
        "adjtimex" => plain(libc::SYS_adjtimex),
        "open_by_handle_at" => plain(libc::SYS_open_by_handle_at),
        "clone3" => plain(libc::SYS_clone3),
        "clone" => clone(0),
        "clone-user" => clone(libc::CLONE_NEWUSER),
        "clone-mount" => clone(libc::CLONE_NEWNS),
        "clone-net" => clone(libc::CLONE_NEWNET),
        // SAFETY: plain calls.
        "unshare-user" => done(unsafe { libc::unshare(libc::CLONE_NEWUSER) }.into()),
        // SAFETY: plain calls.
        "unshare-time" => done(unsafe { libc::unshare(0x80) }.into()),
        // SAFETY: plain calls.
        "unshare-files" => done(unsafe { libc::unshare(libc::CLONE_FILES) }.into()),
        "unix" => socket(libc::AF_UNIX, libc::SOCK_STREAM, 0),
        "inet" => socket(libc::AF_INET, libc::SOCK_STREAM, 0),
        "inet6" => socket(libc::AF_INET6, libc::SOCK_DGRAM, 0),
        "netlink-route" => socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE),
        "netlink-audit" => socket(libc::AF_NETLINK, libc::SOCK_RAW, 9),
        "vsock" => socket(40, libc::SOCK_STREAM, 0),
        "packet" => socket(libc::AF_PACKET, libc::SOCK_RAW, 0),
        "alg" => socket(libc::AF_ALG, libc::SOCK_SEQPACKET, 0),
        "bluetooth" => socket(libc::AF_BLUETOOTH, libc::SOCK_RAW, 0),
        "tiocsti" => terminal(libc::TIOCSTI as libc::Ioctl),
        "tioclinux" => terminal(libc::TIOCLINUX as libc::Ioctl),
        "tiocgwinsz" => terminal(libc::TIOCGWINSZ),
        _ => Err(io::Error::other("no such call")),
    }
}

/// Calls of another architecture, in a child: answers the signal that ended it.
#[cfg(target_arch = "x86_64")]
fn foreign_call(name: &str) -> io::Result<String> {
    // SAFETY: the child makes one call without arguments and ends.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            match name {
                // getpid of x32
                "x32" => {
                    libc::syscall(0x4000_0000 + libc::SYS_getpid);
                }
                // getpid of i386
                _ => {
                    std::arch::asm!("int 0x80", inlateout("rax") 20_i64 => _, out("r8") _, out("r9") _, out("r10") _, out("r11") _);
                }
            }
            libc::_exit(0);
        }
        let mut status = 0;
        done(libc::waitpid(child, &raw mut status, 0).into())?;
        Ok(if libc::WIFSIGNALED(status) {
            format!("signal {}", libc::WTERMSIG(status))
        } else {
            "ended".to_owned()
        })
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn foreign_call(_: &str) -> io::Result<String> {
    Ok("signal 31".to_owned())
}
