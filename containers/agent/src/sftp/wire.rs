//! Packets of SFTP version 3.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};

use super::attributes::Attributes;

/// Types of packets.
pub(super) mod kind {
    pub(crate) const INIT: u8 = 1;
    pub(crate) const VERSION: u8 = 2;
    pub(crate) const OPEN: u8 = 3;
    pub(crate) const CLOSE: u8 = 4;
    pub(crate) const READ: u8 = 5;
    pub(crate) const WRITE: u8 = 6;
    pub(crate) const LSTAT: u8 = 7;
    pub(crate) const FSTAT: u8 = 8;
    pub(crate) const SETSTAT: u8 = 9;
    pub(crate) const FSETSTAT: u8 = 10;
    pub(crate) const OPENDIR: u8 = 11;
    pub(crate) const READDIR: u8 = 12;
    pub(crate) const REMOVE: u8 = 13;
    pub(crate) const MKDIR: u8 = 14;
    pub(crate) const RMDIR: u8 = 15;
    pub(crate) const REALPATH: u8 = 16;
    pub(crate) const STAT: u8 = 17;
    pub(crate) const RENAME: u8 = 18;
    pub(crate) const READLINK: u8 = 19;
    pub(crate) const SYMLINK: u8 = 20;
    pub(crate) const STATUS: u8 = 101;
    pub(crate) const HANDLE: u8 = 102;
    pub(crate) const DATA: u8 = 103;
    pub(crate) const NAME: u8 = 104;
    pub(crate) const ATTRS: u8 = 105;
    pub(crate) const EXTENDED: u8 = 200;
    pub(crate) const EXTENDED_REPLY: u8 = 201;
}

const OK: u32 = 0;
const EOF: u32 = 1;
const NO_SUCH_FILE: u32 = 2;
const PERMISSION_DENIED: u32 = 3;
const FAILURE: u32 = 4;
const BAD_MESSAGE: u32 = 5;
const UNSUPPORTED: u32 = 8;

/// Names and versions of the extensions, as OpenSSH defines them.
const EXTENSIONS: [(&str, &str); 8] = [
    ("posix-rename@openssh.com", "1"),
    ("statvfs@openssh.com", "2"),
    ("fstatvfs@openssh.com", "2"),
    ("hardlink@openssh.com", "1"),
    ("fsync@openssh.com", "1"),
    ("lsetstat@openssh.com", "1"),
    ("limits@openssh.com", "1"),
    ("expand-path@openssh.com", "1"),
];

/// Takes a request apart; `None` where it is too short.
pub(super) struct Reader<'p>(&'p [u8]);

impl<'p> Reader<'p> {
    pub(super) const fn new(packet: &'p [u8]) -> Self {
        Self(packet)
    }

    fn take(&mut self, length: usize) -> Option<&'p [u8]> {
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    pub(super) fn number(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_be_bytes)
    }

    pub(super) fn long(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_be_bytes)
    }

    /// A length and that many bytes.
    pub(super) fn bytes(&mut self) -> Option<&'p [u8]> {
        let length = self.number()?;
        self.take(usize::try_from(length).ok()?)
    }
}

/// One name of a folder.
pub(super) struct Name {
    pub(super) name: Vec<u8>,
    pub(super) long: Vec<u8>,
    pub(super) attributes: Attributes,
}

/// What is answered to a request.
pub(super) enum Reply {
    Status(u32, String),
    Handle(u32),
    Data(BytesMut),
    Names(Vec<Name>),
    Attributes(Attributes),
    Numbers(Vec<u64>),
}

impl Reply {
    /// It is done.
    pub(super) fn done() -> Self {
        Self::Status(OK, "Success".into())
    }

    /// The file or folder has no more.
    pub(super) fn end() -> Self {
        Self::Status(EOF, "End of file".into())
    }

    /// No such request.
    pub(super) fn unsupported() -> Self {
        Self::Status(UNSUPPORTED, "Not supported".into())
    }

    /// The request makes no sense.
    pub(super) fn malformed() -> Self {
        Self::Status(BAD_MESSAGE, "Malformed request".into())
    }

    /// The system refused.
    pub(super) fn failure(error: &io::Error) -> Self {
        let code = match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP | libc::EBADF) => NO_SUCH_FILE,
            Some(libc::EACCES | libc::EPERM | libc::EFAULT | libc::EROFS) => PERMISSION_DENIED,
            Some(libc::EOPNOTSUPP) => UNSUPPORTED,
            Some(libc::EINVAL | libc::ENAMETOOLONG) => BAD_MESSAGE,
            _ => FAILURE,
        };
        Self::Status(code, error.to_string())
    }

    /// The packet, with its length.
    pub(super) fn encode(self, id: u32) -> Bytes {
        let capacity = if let Self::Data(data) = &self { data.len() + 32 } else { 256 };
        let mut out = packet(capacity);
        match self {
            Self::Status(code, message) => {
                head(&mut out, kind::STATUS, id);
                out.put_u32(code);
                put(&mut out, message.as_bytes());
                put(&mut out, b"en");
            }
            Self::Handle(handle) => {
                head(&mut out, kind::HANDLE, id);
                put(&mut out, &handle.to_be_bytes());
            }
            Self::Data(data) => {
                head(&mut out, kind::DATA, id);
                put(&mut out, &data);
            }
            Self::Names(names) => {
                head(&mut out, kind::NAME, id);
                out.put_u32(u32::try_from(names.len()).unwrap_or(u32::MAX));
                for name in names {
                    put(&mut out, &name.name);
                    put(&mut out, &name.long);
                    name.attributes.encode(&mut out);
                }
            }
            Self::Attributes(attributes) => {
                head(&mut out, kind::ATTRS, id);
                attributes.encode(&mut out);
            }
            Self::Numbers(numbers) => {
                head(&mut out, kind::EXTENDED_REPLY, id);
                for number in numbers {
                    out.put_u64(number);
                }
            }
        }
        finish(out)
    }
}

/// The answer to the first packet.
pub(super) fn version() -> Bytes {
    let mut out = packet(512);
    out.put_u8(kind::VERSION);
    out.put_u32(3);
    for (name, version) in EXTENSIONS {
        put(&mut out, name.as_bytes());
        put(&mut out, version.as_bytes());
    }
    finish(out)
}

fn packet(capacity: usize) -> BytesMut {
    let mut out = BytesMut::with_capacity(capacity);
    out.put_u32(0);
    out
}

fn head(out: &mut BytesMut, kind: u8, id: u32) {
    out.put_u8(kind);
    out.put_u32(id);
}

fn put(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    out.put_slice(bytes);
}

fn finish(mut out: BytesMut) -> Bytes {
    let length = u32::try_from(out.len().saturating_sub(4)).unwrap_or(u32::MAX);
    if let Some(head) = out.first_chunk_mut::<4>() {
        *head = length.to_be_bytes();
    }
    out.freeze()
}
