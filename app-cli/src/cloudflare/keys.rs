//! Who acts at Cloudflare: the environment, or the file `.env` beside it, which nobody else may read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use burstflare_ports::secret::Secret;

use crate::exit::Failure;
use crate::text::shell_word;

/// The largest file of keys.
const LARGEST: u64 = 64 << 10;

/// What `.env` and the environment hold; the environment wins.
#[derive(Debug, Clone)]
pub struct Keys {
    /// `CLOUDFLARE_ACCOUNT_ID`: 32 hexadecimal digits.
    pub account: String,
    /// `CLOUDFLARE_API_TOKEN`.
    pub token: Secret<String>,
    /// `TURNSTILE_SITE_KEY` and `TURNSTILE_SECRET_KEY`: both or none.
    pub turnstile: Option<(String, Secret<String>)>,
}

impl Keys {
    /// Reads the file, where there is one, and the environment.
    ///
    /// # Errors
    /// When others may read the file, it cannot be read, or a key is missing or cannot be right. No value is shown.
    pub fn read(file: &Path) -> Result<Self, Failure> {
        let from_file = read_file(file)?;
        let find = |name: &str| {
            let given = std::env::var(name).ok().or_else(|| from_file.get(name).cloned());
            given.map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
        };
        let need = |name: &str| {
            find(name).ok_or_else(|| {
                Failure::usage(format!("{name} is not set")).hint(format!(
                    "Put `{name}=…` into {} (mode 0600), or into the environment.",
                    file.display()
                ))
            })
        };
        let account = need("CLOUDFLARE_ACCOUNT_ID")?;
        if account.len() != 32 || !account.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Failure::usage(
                "CLOUDFLARE_ACCOUNT_ID is no account id: it has 32 hexadecimal digits",
            )
            .hint("The dashboard shows it on the account's overview, and in its address."));
        }
        let token = need("CLOUDFLARE_API_TOKEN")?;
        if token.len() > 512 || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Failure::usage("CLOUDFLARE_API_TOKEN holds characters that no token has")
                .hint("Copy it again: one line, no spaces."));
        }
        let turnstile = match (find("TURNSTILE_SITE_KEY"), find("TURNSTILE_SECRET_KEY")) {
            (Some(site), Some(secret)) => Some((site, Secret::new(secret))),
            (None, None) => None,
            _ => {
                return Err(Failure::usage("of TURNSTILE_SITE_KEY and TURNSTILE_SECRET_KEY only one is set")
                    .hint("Set both, or none."));
            }
        };
        Ok(Self { account: account.to_ascii_lowercase(), token: Secret::new(token), turnstile })
    }
}

/// Refuses a file that others than its owner may read or write.
///
/// # Errors
/// When they may, or it is no plain file.
pub(super) fn check_private(file: &File, path: &Path) -> Result<(), Failure> {
    let about = file.metadata().map_err(|error| Failure::local(path.display(), error))?;
    if !about.is_file() {
        return Err(Failure::usage(format!("{} is no file", path.display())));
    }
    if about.permissions().mode() & 0o077 != 0 {
        let word = shell_word(&path.display().to_string());
        return Err(Failure::usage(format!("{} can be read by others", path.display())).hint(format!(
            "Run `chmod 600 {word}`, and replace the keys in it if anybody else was on this machine."
        )));
    }
    Ok(())
}

fn read_file(path: &Path) -> Result<BTreeMap<String, String>, Failure> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(Failure::local(format_args!("cannot read {}", path.display()), error)),
    };
    check_private(&file, path)?;
    let mut text = String::new();
    file.take(LARGEST + 1)
        .read_to_string(&mut text)
        .map_err(|error| Failure::local(format_args!("cannot read {}", path.display()), error))?;
    if text.len() as u64 > LARGEST {
        return Err(Failure::usage(format!("{} is too large for a file of keys", path.display())));
    }
    parse(&text).map_err(|line| {
        Failure::usage(format!("line {line} of {} is none of `NAME=value`", path.display()))
            .hint("Comments begin with #; values may stand in single or double quotes.")
    })
}

/// `NAME=value` lines as shells and other tools read them; the number of the first line that is none.
fn parse(text: &str) -> Result<BTreeMap<String, String>, usize> {
    let mut found = BTreeMap::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) = line.split_once('=').ok_or(at + 1)?;
        let name = name.trim();
        let valid = !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !valid {
            return Err(at + 1);
        }
        found.insert(name.to_owned(), unquote(value.trim()).ok_or(at + 1)?);
    }
    Ok(found)
}

/// A value without its quotes; what stands unquoted ends where a comment begins.
fn unquote(value: &str) -> Option<String> {
    for quote in ['\'', '"'] {
        if let Some(inner) = value.strip_prefix(quote) {
            let (inner, rest) = inner.split_once(quote)?;
            let rest = rest.trim();
            return (rest.is_empty() || rest.starts_with('#')).then(|| inner.to_owned());
        }
    }
    Some(value.split(" #").next().unwrap_or_default().trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_elsewhere() {
        let text = "# keys\nA=1\nexport B = 'x y' # why\n\nC=\"p#q\"\nD=a b # c\nE=\n";
        let found = parse(text).unwrap();
        let expected = [("A", "1"), ("B", "x y"), ("C", "p#q"), ("D", "a b"), ("E", "")];
        assert_eq!(found.len(), expected.len());
        for (name, value) in expected {
            assert_eq!(found[name], value, "{name}");
        }
        for (bad, line) in [("A=1\noops", 2), ("1A=x", 1), ("A='x", 1), ("A='x' y", 1), ("=x", 1)] {
            assert_eq!(parse(bad), Err(line), "{bad}");
        }
    }
}
