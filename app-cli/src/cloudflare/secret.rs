//! The Worker's secrets: given to Cloudflare by the API, never to a file or a command line, and never read back: Cloudflare
//! tells their names alone.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use burstflare_adapters_cloudflare::deployment::Call;
use burstflare_ports::secret::Secret;
use serde_json::json;

use super::Api;
use super::api::{Written, refused};
use super::keys::check_private;
use crate::exit::Failure;

/// Seals what is secret at rest: 32 bytes in base64.
pub const MASTER_KEY: &str = "FLARE_MASTER_KEY";
/// The secret half of Turnstile's keys.
pub const TURNSTILE_SECRET: &str = "FLARE_TURNSTILE_SECRET";

fn path<'a>(account: &'a str, worker: &'a str) -> [&'a str; 6] {
    ["accounts", account, "workers", "scripts", worker, "secrets"]
}

/// The names of the Worker's secrets; none where there is no Worker.
///
/// # Errors
/// When they cannot be read.
pub async fn secrets(api: &Api, account: &str, worker: &str) -> Result<BTreeSet<String>, Failure> {
    let answer = match api.ask(&Call::get(&path(account, worker))).await? {
        Ok(answer) => answer,
        Err(refusal) if refusal.is_absent() => return Ok(BTreeSet::new()),
        Err(refusal) => return Err(refused("reading the names of the Worker's secrets", &refusal)),
    };
    let list = answer.result.as_array().map(Vec::as_slice).unwrap_or_default();
    Ok(list.iter().filter_map(|secret| secret["name"].as_str().map(str::to_owned)).collect())
}

/// Gives the Worker a secret that it has not; after a lost answer it looks before it tries again.
///
/// # Errors
/// When Cloudflare refuses, or does not recover.
pub async fn put_secret(
    api: &Api,
    account: &str,
    worker: &str,
    name: &str,
    value: &Secret<String>,
) -> Result<(), Failure> {
    let document = json!({ "name": name, "text": value.expose(), "type": "secret_text" });
    let call = Call::put(&path(account, worker), &document);
    let mut tried = 1;
    loop {
        match api.write(&call, tried).await? {
            Written::Done(_) => return Ok(()),
            Written::Refused(refusal) => {
                return Err(refused(&format!("setting the secret {name}"), &refusal));
            }
            Written::Unknown => {
                if secrets(api, account, worker).await?.contains(name) {
                    return Ok(());
                }
                tried += 1;
            }
        }
    }
}

/// The master key of a file (32 bytes, or those in base64), or a new one where none is named.
///
/// # Errors
/// When the file can be read by others, or holds no key.
pub fn master_key(file: Option<&Path>) -> Result<Secret<String>, Failure> {
    let key: [u8; 32] = match file {
        Some(path) => read_key(path)?,
        None => {
            let mut key = [0; 32];
            getrandom::fill(&mut key).map_err(|error| Failure::local("cannot make a key", error))?;
            key
        }
    };
    Ok(Secret::new(STANDARD.encode(key)))
}

fn read_key(path: &Path) -> Result<[u8; 32], Failure> {
    let failed =
        |error: std::io::Error| Failure::local(format_args!("cannot read {}", path.display()), error);
    let file = File::open(path).map_err(failed)?;
    check_private(&file, path)?;
    let mut bytes = Vec::new();
    file.take(1024).read_to_end(&mut bytes).map_err(failed)?;
    let plain = <[u8; 32]>::try_from(bytes.as_slice()).ok();
    let coded = || STANDARD.decode(bytes.trim_ascii()).ok()?.try_into().ok();
    plain.or_else(coded).ok_or_else(|| {
        Failure::usage(format!("{} holds no master key: 32 bytes, or those in base64", path.display()))
            .hint("Make one: (umask 077; head -c 32 /dev/urandom | base64 > master.key)")
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_of_ones_own_is_private_and_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let write = |bytes: &[u8], mode: u32| {
            std::fs::write(&path, bytes).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            master_key(Some(&path))
        };
        let coded = STANDARD.encode([7; 32]);
        assert!(write(&[7; 32], 0o600).unwrap() == Secret::new(coded.clone()));
        assert!(write(format!("{coded}\n").as_bytes(), 0o600).unwrap() == Secret::new(coded.clone()));
        assert!(write(&[7; 31], 0o600).is_err());
        assert!(write(&[7; 32], 0o640).unwrap_err().hint.unwrap().contains("chmod 600"));
        assert!(master_key(None).unwrap() != master_key(None).unwrap());
    }
}
