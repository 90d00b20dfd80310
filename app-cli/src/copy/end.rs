//! The two ends of a copy, as they are written.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// One end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// `-`: standard input or output.
    Standard,
    /// A path of this machine.
    Local(PathBuf),
    /// `SESSION:path`.
    Remote {
        /// Id or name.
        session: String,
        /// Absolute, or from /workspace on.
        path: Vec<u8>,
    },
}

impl End {
    /// Reads an end. Like scp: what has a colon before the first slash is a session's, and `./a:b` is not.
    #[must_use]
    pub fn parse(text: &OsStr) -> Self {
        let bytes = text.as_bytes();
        if bytes == b"-" {
            return Self::Standard;
        }
        let colon = bytes.iter().position(|byte| *byte == b':');
        let session = colon.and_then(|at| std::str::from_utf8(bytes.get(..at)?).ok());
        match (session, colon) {
            (Some(session), Some(at)) if is_session(session) => Self::Remote {
                session: session.to_owned(),
                path: home(bytes.get(at + 1..).unwrap_or_default()),
            },
            _ => Self::Local(OsString::from_vec(bytes.to_vec()).into()),
        }
    }
}

fn is_session(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !text.is_empty() && text.bytes().all(plain)
}

/// `~` is the session's home, nothing at all is where its commands begin.
fn home(path: &[u8]) -> Vec<u8> {
    match path {
        b"" => b".".to_vec(),
        b"~" => b"/home/flare".to_vec(),
        path => match path.strip_prefix(b"~/") {
            Some(rest) => [b"/home/flare/", rest].concat(),
            None => path.to_vec(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_apart() {
        let remote = |session: &str, path: &str| End::Remote { session: session.into(), path: path.into() };
        for (text, end) in [
            ("-", End::Standard),
            ("a", End::Local("a".into())),
            ("./a:b", End::Local("./a:b".into())),
            ("dir/a:b", End::Local("dir/a:b".into())),
            ("s:", remote("s", ".")),
            ("s:a:b", remote("s", "a:b")),
            ("ses_01JD:/x/", remote("ses_01JD", "/x/")),
            ("s:~", remote("s", "/home/flare")),
            ("s:~/x", remote("s", "/home/flare/x")),
            ("a b:x", End::Local("a b:x".into())),
            (":x", End::Local(":x".into())),
        ] {
            assert_eq!(End::parse(OsStr::new(text)), end, "{text}");
        }
    }
}
