//! The floor of a session: the same namespaces, an overlay and a shell, and nothing else. Needs root.

use std::ffi::CString;
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// From the fork to the first byte of the shell's output.
pub(crate) fn run() -> Duration {
    let folder = tempfile::tempdir().unwrap();
    for name in ["lower", "upper", "work", "merged"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
    }
    let path = |name: &str| folder.path().join(name).display().to_string();
    let options = format!("lowerdir={},upperdir={},workdir={}", path("lower"), path("upper"), path("work"));
    let options = CString::new(options).unwrap();
    let merged = CString::new(path("merged")).unwrap();
    let begun = Instant::now();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "echo ok"]).stdin(Stdio::null()).stdout(Stdio::piped());
    // SAFETY: only system calls on memory that was made before the fork.
    unsafe {
        command.pre_exec(move || {
            let spaces = libc::CLONE_NEWNS
                | libc::CLONE_NEWPID
                | libc::CLONE_NEWIPC
                | libc::CLONE_NEWUTS
                | libc::CLONE_NEWNET;
            if libc::unshare(spaces) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            let none = std::ptr::null();
            libc::mount(none, c"/".as_ptr(), none, libc::MS_REC | libc::MS_PRIVATE, none.cast());
            let overlay = c"overlay".as_ptr();
            if libc::mount(overlay, merged.as_ptr(), overlay, 0, options.as_ptr().cast()) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
    let mut child = command.spawn().expect("the baseline needs root");
    let mut first = [0];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let elapsed = begun.elapsed();
    child.wait().unwrap();
    elapsed
}
