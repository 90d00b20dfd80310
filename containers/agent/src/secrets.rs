//! `PUT /v1/secrets`: values for the processes that are started from now on, and a file of them for those that run.
//!
//! The values live in memory and in `secrets.env` in our folder of the user's runtime folder: a tmpfs, outside the
//! roots, so no snapshot holds them. A shell reads the file with `. /run/user/1000/flare/secrets.env`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burstflare_ports::secret::Secret;
use burstflare_ports::wire::{SECRETS_TOTAL, Secrets, is_reserved};
use hyper::body::Incoming;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};

use crate::agent::Agent;
use crate::body;
use crate::reply::{Refused, Reply, done};

/// A value's letters may each take six bytes of JSON.
const BODY_LIMIT: usize = 8 * SECRETS_TOTAL;
const FILE: &str = "secrets.env";
const NEW_FILE: &str = ".secrets.env.new";

/// What processes of the user get to know besides.
pub(crate) struct Given {
    folder: PathBuf,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    version: u64,
    values: BTreeMap<String, Secret<String>>,
}

impl Given {
    /// Nothing yet. The file will be in this folder.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, known: Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds them to what a process is born with.
    pub(crate) fn put_into(&self, command: &mut Command) {
        for (name, value) in &self.known().values {
            command.env(name, value.expose());
        }
    }

    /// Takes newer ones over; the file first, so that who sees a variable finds it there, too. Blocks.
    fn take(&self, told: Secrets) -> io::Result<()> {
        let mut known = self.known();
        if told.version < known.version {
            return Ok(());
        }
        write(&self.folder, &told.values)?;
        *known = Known { version: told.version, values: told.values };
        Ok(())
    }
}

/// Takes the workspace's secrets over. Those that are older than what is known change nothing.
pub(crate) async fn receive(agent: &Arc<Agent>, body: Incoming) -> Result<Reply, Refused> {
    let body = body::whole(body, BODY_LIMIT).await?;
    // Not the error's text: it may quote a value.
    let told: Secrets = serde_json::from_slice(&body)
        .map_err(|error| Refused::invalid(format!("malformed at column {}", error.column())))?;
    drop(body);
    check(&told)?;
    let agent = Arc::clone(agent);
    let taking = tokio::task::spawn_blocking(move || agent.surroundings.secrets.take(told));
    taking.await.map_err(|error| Refused::internal(error.to_string()))??;
    Ok(done())
}

fn check(told: &Secrets) -> Result<(), Refused> {
    let mut total = 0;
    for (name, value) in &told.values {
        let value = value.expose();
        let fine = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && !name.is_empty()
            && !name.starts_with(|first: char| first.is_ascii_digit());
        if !fine || is_reserved(name) {
            return Err(Refused::invalid("a secret has a name that none may have"));
        }
        if value.contains('\0') {
            return Err(Refused::invalid(format!("the value of `{name}` holds a NUL byte")));
        }
        total += name.len() + value.len();
    }
    if total > SECRETS_TOTAL {
        return Err(Refused::too_large(format!("All secrets together have {SECRETS_TOTAL} bytes at most.")));
    }
    Ok(())
}

/// Writes the file anew, at once as a whole; no values, no file. The folder is the user's to spoil: no link is followed,
/// in neither place.
fn write(folder: &Path, values: &BTreeMap<String, Secret<String>>) -> io::Result<()> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = match rustix::fs::openat(CWD, folder, flags, Mode::empty()) {
        Ok(folder) => folder,
        // Who removed it does without.
        Err(_) if values.is_empty() => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for old in if values.is_empty() { [NEW_FILE, FILE].as_slice() } else { &[NEW_FILE] } {
        match rustix::fs::unlinkat(&folder, *old, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if values.is_empty() {
        return Ok(());
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(&folder, NEW_FILE, flags, Mode::from_raw_mode(0o600))?);
    for (name, value) in values {
        file.write_all(line(name, value.expose()).as_bytes())?;
    }
    rustix::fs::renameat(&folder, NEW_FILE, &folder, FILE)?;
    Ok(())
}

/// An assignment as every POSIX shell reads it back byte by byte: within single quotes nothing means anything, and a
/// quote itself stands outside of them.
fn line(name: &str, value: &str) -> String {
    format!("export {name}='{}'\n", value.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(version: u64, values: &[(&str, &str)]) -> Secrets {
        let values = values
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Secret::new((*value).to_owned())))
            .collect();
        Secrets { version, values }
    }

    #[test]
    fn a_shell_reads_back_what_was_told() {
        let folder = tempfile::tempdir().expect("folder");
        let given = Given::new(folder.path().to_owned());
        let hostile = [
            ("A", "plain"),
            ("B", "it's 'quoted' \"twice\""),
            ("C", "a\nb\n\n"),
            ("D", "$(touch /tmp/no) `id` $HOME \\ \\n !! * ~ # ;&|<>"),
            ("E", "'\\''; exit 1; '"),
            ("F", "gr\u{fc}n \u{1f980} \u{7f}\u{1}\r\t"),
            ("G", ""),
            ("H", "-n"),
        ];
        given.take(told(3, &hostile)).expect("taken");
        for (name, value) in hostile {
            let script = format!(". '{}/{FILE}'; printf %s. \"${name}\"", folder.path().display());
            let output = Command::new("sh").arg("-c").arg(script).output().expect("sh");
            assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{value}."), "{name}");
            let mut command = Command::new("sh");
            given.put_into(&mut command);
            let output = command.arg("-c").arg(format!("printf %s. \"${name}\"")).output().expect("sh");
            assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{value}."), "{name}");
        }
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(folder.path().join(FILE)).expect("file").permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
    }

    #[test]
    fn older_ones_change_nothing_and_none_leaves_no_file() {
        let folder = tempfile::tempdir().expect("folder");
        let given = Given::new(folder.path().to_owned());
        let text = || std::fs::read_to_string(folder.path().join(FILE)).unwrap_or_default();
        given.take(told(2, &[("A", "new")])).expect("taken");
        given.take(told(1, &[("A", "old")])).expect("ignored");
        assert_eq!(text(), "export A='new'\n");
        given.take(told(3, &[])).expect("taken");
        assert_eq!(text(), "");
        assert!(!folder.path().join(FILE).exists());
    }

    #[test]
    fn no_link_is_followed() {
        let folder = tempfile::tempdir().expect("folder");
        let elsewhere = tempfile::NamedTempFile::new().expect("file");
        for name in [FILE, NEW_FILE] {
            std::os::unix::fs::symlink(elsewhere.path(), folder.path().join(name)).expect("link");
        }
        Given::new(folder.path().to_owned()).take(told(1, &[("A", "x")])).expect("taken");
        assert_eq!(std::fs::read(elsewhere.path()).expect("file"), b"");
        assert!(folder.path().join(FILE).symlink_metadata().expect("file").is_file());
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path(), &link).expect("link");
        assert!(Given::new(link).take(told(1, &[("A", "x")])).is_err());
    }

    #[test]
    fn names_and_values_are_checked() {
        assert!(check(&told(1, &[("TOKEN_2", "x\ny"), ("_a", "")])).is_ok());
        let long = "x".repeat(SECRETS_TOTAL);
        for bad in [
            ("", "x"),
            ("1A", "x"),
            ("A-B", "x"),
            ("PATH", "x"),
            ("LD_PRELOAD", "x"),
            ("A", "\0"),
            ("A", &long),
        ] {
            assert!(check(&told(1, &[bad])).is_err(), "{}", bad.0);
        }
    }
}
