//! What the new machine's first process does before it becomes the agent, as data: made by the server, where
//! memory may be allocated and mistakes reported, and carried out by [`super::child`], which may do neither.

use std::ffi::CString;
use std::fmt;
use std::os::fd::{OwnedFd, RawFd};

use super::kernel::attr;

/// Where something that is bound into the machine comes from.
#[derive(Debug)]
pub(super) enum Source {
    /// A path of the host that the machine's own user can reach.
    Path(CString),
    /// A copy of a mount that the server made, because only the server can reach the path.
    Mount(OwnedFd),
}

/// One thing to do below the new root; paths are relative to it.
#[derive(Debug)]
pub(super) enum Step {
    /// Makes a folder.
    Folder { path: CString, mode: libc::mode_t },
    /// Makes a file.
    File { path: CString, content: Vec<u8> },
    /// Makes a symbolic link.
    Link { path: CString, target: CString },
    /// Mounts a new file system.
    Mount { kind: CString, path: CString, flags: libc::c_ulong, options: CString },
    /// Attaches what was taken from the host: an index into [`Plan::sources`].
    Attach { source: usize, path: CString },
    /// Adds attributes to the mount at a path.
    Restrict { path: CString, attributes: u64 },
    /// Binds a part of the new root over another, with attributes. Paths that the kernel does not have are passed over.
    Cover { from: CString, path: CString, attributes: u64 },
    /// Takes a mount away.
    Detach { path: CString },
    /// Removes an empty folder.
    Remove { path: CString },
}

/// Something of the host that is bound into the machine.
#[derive(Debug)]
pub(super) struct Taken {
    /// Where it is.
    pub source: Source,
    /// Attributes it gets.
    pub attributes: u64,
}

/// Everything below the new root.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// What is taken from the host.
    pub sources: Vec<Taken>,
    /// What is done, in order.
    pub steps: Vec<Step>,
}

/// A resource limit.
#[derive(Debug, Clone, Copy)]
pub(super) struct ResourceLimit {
    /// `RLIMIT_…`.
    pub resource: u32,
    /// Soft limit.
    pub soft: u64,
    /// Hard limit; the server's own one where that is lower.
    pub hard: u64,
}

/// A text as C likes it. A NUL ends it: no path or option of ours holds one, and those of users are checked before.
pub(super) fn c(text: impl AsRef<[u8]>) -> CString {
    let bytes: Vec<u8> = text.as_ref().iter().copied().take_while(|byte| *byte != 0).collect();
    CString::new(bytes).unwrap_or_default()
}

impl Plan {
    /// Makes a folder.
    pub(super) fn folder(&mut self, path: &str, mode: libc::mode_t) {
        self.steps.push(Step::Folder { path: c(path), mode });
    }

    /// Makes a file that everybody may read.
    pub(super) fn file(&mut self, path: &str, content: impl Into<Vec<u8>>) {
        self.steps.push(Step::File { path: c(path), content: content.into() });
    }

    /// Makes a symbolic link.
    pub(super) fn link(&mut self, path: &str, target: &str) {
        self.steps.push(Step::Link { path: c(path), target: c(target) });
    }

    /// Makes a folder and mounts a new file system on it.
    pub(super) fn mount(&mut self, kind: &str, path: &str, flags: libc::c_ulong, options: &str) {
        self.folder(path, 0o755);
        self.steps.push(Step::Mount { kind: c(kind), path: c(path), flags, options: c(options) });
    }

    /// Takes something from the host and attaches it to a path that exists by then.
    pub(super) fn bind(&mut self, source: Source, path: &str, attributes: u64) {
        self.steps.push(Step::Attach { source: self.sources.len(), path: c(path) });
        self.sources.push(Taken { source, attributes });
    }

    /// Binds a folder of the host read-only.
    pub(super) fn bind_folder(&mut self, source: Source, path: &str) {
        self.folder(path, 0o755);
        self.bind(source, path, attr::RDONLY | attr::NOSUID | attr::NODEV);
    }

    /// Binds a file of the host read-only.
    pub(super) fn bind_file(&mut self, source: Source, path: &str, attributes: u64) {
        self.file(path, Vec::new());
        self.bind(source, path, attributes);
    }
}

/// The stages of the child, to say where it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Stage {
    Groups = 1,
    Identity,
    Namespaces,
    Mapping,
    Sources,
    NewRoot,
    Steps,
    Pivot,
    Network,
    Limits,
    Descriptors,
    Privileges,
    Filter,
    Exec,
}

impl Stage {
    const ALL: [Self; 14] = [
        Self::Groups,
        Self::Identity,
        Self::Namespaces,
        Self::Mapping,
        Self::Sources,
        Self::NewRoot,
        Self::Steps,
        Self::Pivot,
        Self::Network,
        Self::Limits,
        Self::Descriptors,
        Self::Privileges,
        Self::Filter,
        Self::Exec,
    ];

    /// The stage of a number that the child left behind.
    pub(super) fn of(number: usize) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| *stage as usize == number)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Groups => "entering the machine's control groups",
            Self::Identity => "taking the machine's host user",
            Self::Namespaces => "making namespaces",
            Self::Mapping => "mapping the user",
            Self::Sources => "taking folders of the host",
            Self::NewRoot => "mounting the new root",
            Self::Steps => "filling the new root",
            Self::Pivot => "entering the new root",
            Self::Network => "naming the host and bringing up loopback",
            Self::Limits => "setting limits",
            Self::Descriptors => "placing descriptors",
            Self::Privileges => "giving up privileges",
            Self::Filter => "installing the system call filter",
            Self::Exec => "starting the agent",
        })
    }
}

/// The descriptors that the child needs besides the plan's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Descriptors {
    /// The agent's program.
    pub exe: RawFd,
    /// Read end of the boot pipe.
    pub boot: RawFd,
    /// The listening socket.
    pub socket: RawFd,
    /// `/dev/null`.
    pub null: RawFd,
    /// Where standard output and error go.
    pub log: RawFd,
}
