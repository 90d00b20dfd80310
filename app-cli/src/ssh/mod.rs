//! What OpenSSH is told: our key, our file of host keys, and us as its way to the session.

mod ends;
mod key;
mod known_hosts;
mod line;
mod pipes;
mod proxy;

use std::path::{Path, PathBuf};

pub use ends::{Ends, Omens};
pub use key::Key;
pub use known_hosts::KnownHosts;
pub use line::{Way, carry};
pub use proxy::pump;

use crate::client::Origin;
use crate::exit::Failure;
use crate::text::shell_word;

/// What host names of sessions end with.
pub const SUFFIX: &str = ".flare";

/// The session in a host name: `NAME.flare`, a name or an id. Nothing else may become part of a path.
///
/// # Errors
/// When it is none.
pub fn session_of(host: &str) -> Result<String, Failure> {
    let name = host.strip_suffix(SUFFIX).unwrap_or(host);
    let plain = !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if plain {
        Ok(name.to_owned())
    } else {
        Err(Failure::usage(format!("`{}` names no session", crate::output::clean(host)))
            .hint("Sessions are called NAME.flare here; see `flare session list`."))
    }
}

/// How this program is called by OpenSSH.
#[derive(Debug)]
pub struct Program {
    exe: String,
    config_dir: String,
    origin: Origin,
}

impl Program {
    /// This very program, for this server and this folder of credentials.
    ///
    /// # Errors
    /// When a path cannot stand in OpenSSH's configuration.
    pub fn new(origin: Origin, config_dir: &Path) -> Result<Self, Failure> {
        let exe =
            std::env::current_exe().map_err(|error| Failure::local("cannot find this program", error))?;
        Ok(Self { exe: writable(&exe)?, config_dir: writable(config_dir)?, origin })
    }

    /// The options for a host, in OpenSSH's words. `host` and `known_hosts` may hold OpenSSH's tokens.
    ///
    /// # Errors
    /// When a path cannot stand in OpenSSH's configuration.
    pub fn options(
        &self,
        host: &str,
        key: &Path,
        known_hosts: &str,
    ) -> Result<Vec<(&'static str, String)>, Failure> {
        let proxy = format!(
            "{} ssh-proxy --url {} --config-dir {} {host}",
            tokens(&shell_word(&self.exe)),
            tokens(&shell_word(&self.origin.to_string())),
            tokens(&shell_word(&self.config_dir)),
        );
        Ok(vec![
            ("ProxyCommand", proxy),
            ("ProxyUseFdpass", "no".to_owned()),
            ("User", "flare".to_owned()),
            ("IdentityFile", quoted(&tokens(&writable(key)?))),
            ("IdentitiesOnly", "yes".to_owned()),
            // Whatever an agent holds is not ours, and asking it may wait for a finger on a button.
            ("IdentityAgent", "none".to_owned()),
            ("PreferredAuthentications", "publickey".to_owned()),
            // The file is written by the proxy, out of the server's own answer, before a byte of the session
            // passes: what OpenSSH then compares is pinned.
            ("UserKnownHostsFile", quoted(known_hosts)),
            ("GlobalKnownHostsFile", quoted("/dev/null")),
            ("StrictHostKeyChecking", "yes".to_owned()),
            ("VerifyHostKeyDNS", "no".to_owned()),
            ("UpdateHostKeys", "no".to_owned()),
            ("CheckHostIP", "no".to_owned()),
            ("CanonicalizeHostname", "no".to_owned()),
            ("Ciphers", ciphers().to_owned()),
            // The proxy notices a line that died and resumes it; this is for a session that hangs, and has to be more
            // patient than the proxy.
            ("ServerAliveInterval", "60".to_owned()),
            ("ServerAliveCountMax", "6".to_owned()),
            // Sessions run what others wrote: nothing of this machine is offered to them.
            ("ForwardAgent", "no".to_owned()),
            ("ForwardX11", "no".to_owned()),
        ])
    }
}

/// What the agent's SSH server and every OpenSSH speak, the one first that this processor is fastest at: OpenSSH's
/// own choice does not look at that.
fn ciphers() -> &'static str {
    if has_aes() {
        "aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,aes256-ctr"
    } else {
        "chacha20-poly1305@openssh.com,aes256-gcm@openssh.com,aes256-ctr"
    }
}

#[cfg(target_arch = "x86_64")]
fn has_aes() -> bool {
    std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq")
}

#[cfg(target_arch = "aarch64")]
fn has_aes() -> bool {
    std::arch::is_aarch64_feature_detected!("aes")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn has_aes() -> bool {
    false
}

/// A path as text that OpenSSH's configuration can hold.
///
/// # Errors
/// When it cannot.
pub fn writable(path: &Path) -> Result<String, Failure> {
    let refuse = |why: &str| {
        Failure::usage(format!("OpenSSH cannot be told the path {}: {why}", path.display()))
            .hint("Move it to a simpler path, for example with FLARE_CONFIG_DIR.")
    };
    let text = path.to_str().ok_or_else(|| refuse("it is not UTF-8"))?;
    if text.contains(['\n', '\r', '\0']) || text.contains("${") {
        return Err(refuse("it holds a line break or `${`"));
    }
    Ok(text.to_owned())
}

/// OpenSSH expands `%` in most values.
#[must_use]
pub fn tokens(text: &str) -> String {
    text.replace('%', "%%")
}

/// A value of OpenSSH's configuration in double quotes.
#[must_use]
pub fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A path as a value that OpenSSH expands: text with its `%` doubled. [`Program::options`] quotes it.
///
/// # Errors
/// As [`writable`].
pub fn quotable(path: &Path) -> Result<String, Failure> {
    Ok(tokens(&writable(path)?))
}

/// Where the key and the host keys lie.
#[must_use]
pub fn dir(config_dir: &Path) -> PathBuf {
    config_dir.join("ssh")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_cannot_become_paths() {
        assert_eq!(session_of("alpha.flare").as_deref(), Ok("alpha"));
        assert_eq!(session_of("ses_01JD").as_deref(), Ok("ses_01JD"));
        for bad in ["", ".flare", "../x", "a/b", "a b", "a'b.flare", "a.b.flare", "$(x)"] {
            assert!(session_of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_are_quoted_for_openssh_and_its_shell() {
        assert_eq!(quoted("/a b/\"c\""), "\"/a b/\\\"c\\\"\"");
        assert_eq!(tokens(&shell_word("/it's 100%")), r"'/it'\''s 100%%'");
        assert!(writable(Path::new("/a\nb")).is_err());
        assert!(writable(Path::new("/a/${HOME}")).is_err());
    }
}
