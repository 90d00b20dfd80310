//! Hearing `listen(2)`: a system call filter that asks us first (seccomp_unotify(2)), and a thread that always says yes.
//!
//! So a port is seen as it opens, and a machine in which nothing happens is never looked at. Every process started from
//! here on is heard, ourselves included. A process that wants such a filter with a listener of its own gets EBUSY.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use libc::{c_long, c_ulong, sock_filter, sock_fprog};

// From linux/seccomp.h; the libc crate has no requests of the listener.
const NOTIF_RECV: c_ulong = 0xC050_2100;
const NOTIF_SEND: c_ulong = 0xC018_2101;
/// Room for what the kernel says of a call, also of later kernels.
const NOTICE: usize = 512;
const ANSWER: usize = 256;
/// Offset of the number of the call in `struct seccomp_data`.
const NUMBER: u32 = 0;
const STACK: usize = 64 << 10;

/// Calls `heard` shortly before any process listens. To be called before another thread exists; `heard` must not block.
///
/// # Errors
/// Where the kernel or a filter above refuses; nothing is heard then, and nothing is changed.
pub(crate) fn hear(heard: impl Fn() + Send + 'static) -> io::Result<()> {
    let sizes = sizes()?;
    rustix::thread::set_no_new_privs(true)?;
    let listener = install()?;
    let thread = std::thread::Builder::new().name("listen".into()).stack_size(STACK);
    // Without the thread every listen would wait for ever; the descriptor's end turns them into errors at least.
    thread.spawn(move || attend(&listener, sizes, &heard)).map(drop)
}

/// The kernel's sizes of a notice and an answer.
fn sizes() -> io::Result<libc::seccomp_notif_sizes> {
    let mut sizes = libc::seccomp_notif_sizes { seccomp_notif: 0, seccomp_notif_resp: 0, seccomp_data: 0 };
    // SAFETY: the kernel writes the three numbers into what is given.
    let done = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_NOTIF_SIZES, 0, &raw mut sizes) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    if usize::from(sizes.seccomp_notif) > NOTICE || usize::from(sizes.seccomp_notif_resp) > ANSWER {
        return Err(io::ErrorKind::Unsupported.into());
    }
    Ok(sizes)
}

fn install() -> io::Result<OwnedFd> {
    let statement =
        |code: u32, k: u32| sock_filter { code: u16::try_from(code).unwrap_or_default(), jt: 0, jf: 0, k };
    let listen = u32::try_from(libc::SYS_listen).map_err(io::Error::other)?;
    let mut filter = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, NUMBER),
        sock_filter { jf: 1, ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, listen) },
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_USER_NOTIF),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    let program = sock_fprog { len: 4, filter: filter.as_mut_ptr() };
    // Killable waiting keeps signals (of a garbage collector, say) from repeating the question; kernels before 5.19 lack it.
    let flags = [
        libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
        libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
    ];
    for flags in flags {
        // SAFETY: the program and its statements outlive the call.
        let fd: c_long = unsafe {
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
        };
        if let Ok(fd) = i32::try_from(fd)
            && fd >= 0
        {
            // SAFETY: the kernel made it for us just now, to be closed on exec.
            return Ok(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }
    Err(io::Error::last_os_error())
}

fn attend(listener: &OwnedFd, sizes: libc::seccomp_notif_sizes, heard: &impl Fn()) {
    // Numbers of eight bytes, so that the kernel's structures lie as they have to.
    let mut notice = [0_u64; NOTICE / 8];
    let mut answer = [0_u64; ANSWER / 8];
    let length = usize::from(sizes.seccomp_notif).div_ceil(8);
    loop {
        // The kernel insists on a cleared buffer.
        notice.iter_mut().take(length).for_each(|word| *word = 0);
        // SAFETY: the buffer is as large as the kernel said, and ours.
        if unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_RECV, notice.as_mut_ptr()) } < 0 {
            match io::Error::last_os_error().raw_os_error() {
                // A signal, or the asker is gone already.
                Some(libc::EINTR | libc::ENOENT | libc::EAGAIN) => continue,
                _ => return,
            }
        }
        // `struct seccomp_notif_resp`: id, value, then error and flags in one word, little endian as both our machines are.
        let [id, ..] = notice;
        answer[0] = id;
        answer[2] = u64::from(u32::try_from(libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE).unwrap_or(1)) << 32;
        // SAFETY: as above. Whoever is gone meanwhile needs no answer.
        unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_SEND, answer.as_mut_ptr()) };
        heard();
    }
}
