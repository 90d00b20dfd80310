//! Where a container engine starts us: the first process of any image, with no descriptors handed over. We listen on
//! TCP or on a unix socket ourselves, the boot message comes by an environment variable or on standard input, and where we are root the
//! folders are made ready before we become the session's user.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io::{self, Read};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use burstflare_ports::wire::{AGENT_PORT, BOOT_LIMIT, BOOT_VARIABLE, Boot};

use crate::boot;

/// The session's user and group, whether the image knows them or not.
const USER: u32 = 1000;
/// The engine says these, and they are not the user's.
const OURS: [&str; 9] = ["HOME", "USER", "LOGNAME", "SHELL", "HOSTNAME", "TERM", "PWD", "OLDPWD", "_"];
/// More than the kernel knows of.
const CAPABILITIES: libc::c_ulong = 64;

/// Listens, reads the boot message and becomes the user. Must run before any thread exists.
pub(crate) fn take(socket: Option<&Path>) -> io::Result<(Boot, OwnedFd)> {
    // First: who asks too early waits in the socket's queue instead of being refused.
    let listener = match socket {
        Some(path) => listen_at(path)?,
        None => listen()?.into(),
    };
    let mut message = match from_environment()? {
        Some(message) => message,
        None => from_input()?,
    };
    let boot = boot::parse(&message);
    message.fill(0);
    let mut boot = boot?;
    keep_environment(&mut boot.env);
    if rustix::process::geteuid().is_root() {
        prepare(&boot)?;
        become_user()?;
        // Changing users made us readable again.
        boot::undumpable();
    }
    Ok((boot, listener))
}

fn listen() -> io::Result<TcpListener> {
    // Both families at once, where there are both.
    TcpListener::bind((Ipv6Addr::UNSPECIFIED, AGENT_PORT))
        .or_else(|_| TcpListener::bind((Ipv4Addr::UNSPECIFIED, AGENT_PORT)))
}

/// On a socket in a folder of the host's, which our starter alone has. The folder above it hides that from the user's
/// processes: they could put a socket of their own into its place.
fn listen_at(path: &Path) -> io::Result<OwnedFd> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    // The starter may be any user of the host. Who calls needs the key.
    std::fs::set_permissions(path, Permissions::from_mode(0o666))?;
    if let Some(hiding) = path.parent().and_then(Path::parent).filter(|above| above.parent().is_some()) {
        std::fs::set_permissions(hiding, Permissions::from_mode(0o700))?;
    }
    Ok(listener.into())
}

/// Takes the message out of the environment: afterwards it stands nowhere, not even in `/proc/1/environ`.
fn from_environment() -> io::Result<Option<Vec<u8>>> {
    let name = std::ffi::CString::new(BOOT_VARIABLE).map_err(io::Error::other)?;
    // SAFETY: no other thread runs yet, so nobody changes the environment meanwhile.
    let place = unsafe { libc::getenv(name.as_ptr()) };
    if place.is_null() {
        return Ok(None);
    }
    // SAFETY: getenv answers a string that ends with NUL; it lives in memory that is ours to write to.
    let mut text = unsafe {
        let length = libc::strlen(place);
        let text = std::slice::from_raw_parts(place.cast::<u8>(), length).to_vec();
        for at in 0..length {
            place.add(at).write_volatile(0);
        }
        text
    };
    // SAFETY: as above.
    unsafe { std::env::remove_var(BOOT_VARIABLE) };
    let message = STANDARD.decode(&text);
    text.fill(0);
    message.map(Some).map_err(|_| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{BOOT_VARIABLE} is not base64 of a boot message"))
    })
}

fn from_input() -> io::Result<Vec<u8>> {
    let mut message = Vec::new();
    io::stdin().lock().take(BOOT_LIMIT as u64 + 1).read_to_end(&mut message)?;
    Ok(message)
}

/// What the image sets for its programs, where the template does not say otherwise.
fn keep_environment(env: &mut BTreeMap<String, String>) {
    for (name, value) in std::env::vars_os() {
        if let (Ok(name), Ok(value)) = (name.into_string(), value.into_string())
            && !OURS.contains(&name.as_str())
            && !name.starts_with("FLARE_")
        {
            env.entry(name).or_insert(value);
        }
    }
}

/// Makes what the user needs and an image may lack.
fn prepare(boot: &Boot) -> io::Result<()> {
    let run = Path::new(&boot.run);
    let private = run.parent().unwrap_or(run);
    for folder in boot.roots.iter().map(Path::new).chain([private]) {
        std::fs::create_dir_all(folder)?;
        if folder.metadata()?.uid() != USER {
            chown(folder, Some(USER), Some(USER))?;
        }
    }
    std::fs::set_permissions(private, Permissions::from_mode(0o700))?;
    let shared = Path::new("/tmp");
    if !shared.is_dir() {
        std::fs::create_dir(shared)?;
        std::fs::set_permissions(shared, Permissions::from_mode(0o1777))?;
    }
    // Most engines have set it, and do not let us.
    let _ = rustix::system::sethostname(boot.hostname.as_bytes());
    Ok(())
}

/// Gives everything away that root has, for us and for all who descend from us.
fn become_user() -> io::Result<()> {
    for capability in 0..CAPABILITIES {
        // SAFETY: takes a number; one that the kernel does not know is refused.
        unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
    }
    let done = |answer: libc::c_int| if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    // SAFETY: calls that take numbers and, once, an empty list; no other thread runs that they would have to reach.
    unsafe {
        done(libc::setgroups(0, std::ptr::null()))?;
        done(libc::setresgid(USER, USER, USER))?;
        done(libc::setresuid(USER, USER, USER))?;
        done(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
    }
    Ok(())
}
