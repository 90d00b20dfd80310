//! The few system calls that libc has no safe or complete face for. Nothing here allocates, so that all of it may
//! be used between `clone` and `execveat`.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// `open_tree`: give a private copy of the mount instead of a handle to it.
const OPEN_TREE_CLONE: u32 = 1;
const MOVE_MOUNT_F_EMPTY_PATH: u32 = 4;

/// Attributes of mounts, from `linux/mount.h`.
pub(super) mod attr {
    /// No writing.
    pub(in crate::sandbox) const RDONLY: u64 = 1;
    /// No set-id programs.
    pub(in crate::sandbox) const NOSUID: u64 = 2;
    /// No device nodes.
    pub(in crate::sandbox) const NODEV: u64 = 4;
    /// No programs.
    pub(in crate::sandbox) const NOEXEC: u64 = 8;
    /// Owners are seen through a user namespace.
    pub(in crate::sandbox) const IDMAP: u64 = 0x0010_0000;
}

#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// What a system call left behind, without allocating.
pub(super) fn last_errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

fn check(result: libc::c_long) -> Result<libc::c_long, i32> {
    if result < 0 { Err(last_errno()) } else { Ok(result) }
}

/// A detached copy of the mount at a path (with an empty path: at `dir`), with what is mounted below it.
pub(super) fn clone_mount(dir: RawFd, path: &CStr) -> Result<RawFd, i32> {
    let flags = OPEN_TREE_CLONE
        | libc::O_CLOEXEC.cast_unsigned()
        | libc::AT_RECURSIVE.cast_unsigned()
        | if path.is_empty() { libc::AT_EMPTY_PATH.cast_unsigned() } else { 0 };
    // SAFETY: the path is a C string that outlives the call; the kernel writes no memory of ours.
    let fd = check(unsafe { libc::syscall(libc::SYS_open_tree, dir, path.as_ptr(), flags) })?;
    RawFd::try_from(fd).map_err(|_| libc::EBADF)
}

/// Adds attributes to the mount at a path (with an empty path: of `dir`) and makes it private.
pub(super) fn restrict(dir: RawFd, path: &CStr, set: u64, recursive: bool) -> Result<(), i32> {
    set_attributes(
        dir,
        path,
        &MountAttr { set, clear: 0, propagation: libc::MS_PRIVATE, userns_fd: 0 },
        recursive,
    )
}

/// Shows the owners of a detached mount through a user namespace's mapping.
pub(super) fn map_owners(mount: &OwnedFd, userns: &OwnedFd) -> io::Result<()> {
    let userns_fd = u64::from(userns.as_raw_fd().cast_unsigned());
    let attributes = MountAttr { set: attr::IDMAP, clear: 0, propagation: libc::MS_PRIVATE, userns_fd };
    set_attributes(mount.as_raw_fd(), c"", &attributes, false).map_err(io::Error::from_raw_os_error)
}

fn set_attributes(dir: RawFd, path: &CStr, attributes: &MountAttr, recursive: bool) -> Result<(), i32> {
    let flags = if recursive { libc::AT_RECURSIVE } else { 0 }
        | if path.is_empty() { libc::AT_EMPTY_PATH } else { 0 };
    let attributes: *const MountAttr = attributes;
    // SAFETY: path and attributes outlive the call, and the size given is the structure's.
    check(unsafe {
        libc::syscall(libc::SYS_mount_setattr, dir, path.as_ptr(), flags, attributes, size_of::<MountAttr>())
    })?;
    Ok(())
}

/// Attaches a detached mount at a path below the working folder.
pub(super) fn attach_mount(mount: RawFd, target: &CStr) -> Result<(), i32> {
    // SAFETY: both paths are C strings that outlive the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount,
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    })?;
    Ok(())
}

/// A detached copy of the mount of an open folder, restricted; for callers that may allocate.
pub(super) fn detached(dir: RawFd, set: u64) -> io::Result<OwnedFd> {
    let raw = clone_mount(dir, c"").map_err(io::Error::from_raw_os_error)?;
    // SAFETY: the kernel just made this descriptor for us.
    let mount = unsafe { OwnedFd::from_raw_fd(raw) };
    restrict(mount.as_raw_fd(), c"", set, true).map_err(io::Error::from_raw_os_error)?;
    Ok(mount)
}

/// `mount(2)`.
pub(super) fn mount(
    source: &CStr,
    target: &CStr,
    kind: &CStr,
    flags: libc::c_ulong,
    options: &CStr,
) -> Result<(), i32> {
    // SAFETY: all arguments are C strings that outlive the call.
    let result = unsafe {
        libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, options.as_ptr().cast())
    };
    check(result.into()).map(drop)
}
