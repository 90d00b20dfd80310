//! SSH public keys in OpenSSH's one-line format (RFC 4253 section 6.6, RFC 8709 for ed25519).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::SigningKey;

/// The longest accepted line: an RSA key of 16,384 bits fits.
const LIMIT: usize = 4096;
const TYPES: [&str; 6] = [
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "ssh-rsa",
];

/// Why a line is no usable public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an SSH public key: expected one line such as `ssh-ed25519 AAAA…`")]
pub struct InvalidKey;

/// The public half of an ed25519 seed.
#[must_use]
pub fn host_key(seed: &[u8; 32]) -> String {
    let public = SigningKey::from_bytes(seed).verifying_key().to_bytes();
    let mut blob = Vec::with_capacity(51);
    for field in [b"ssh-ed25519".as_slice(), &public] {
        blob.extend_from_slice(&u32::try_from(field.len()).unwrap_or(0).to_be_bytes());
        blob.extend_from_slice(field);
    }
    format!("ssh-ed25519 {}", STANDARD.encode(blob))
}

/// Checks a client's public key and drops its comment.
///
/// # Errors
/// When it is not one line of a known type whose data says the same type.
pub fn parse(line: &str) -> Result<String, InvalidKey> {
    if line.len() > LIMIT || line.contains(['\n', '\r', '\0']) {
        return Err(InvalidKey);
    }
    let mut words = line.split_ascii_whitespace();
    let (kind, data) = (words.next().ok_or(InvalidKey)?, words.next().ok_or(InvalidKey)?);
    let blob = STANDARD.decode(data).map_err(|_| InvalidKey)?;
    let named = blob.get(4..4 + kind.len()).ok_or(InvalidKey)?;
    let length = u32::try_from(kind.len()).map_err(|_| InvalidKey)?.to_be_bytes();
    if !TYPES.contains(&kind) || blob[..4] != length || named != kind.as_bytes() {
        return Err(InvalidKey);
    }
    Ok(format!("{kind} {data}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_key_is_a_public_key() {
        // RFC 8032 section 7.1, test 1.
        let seed = [
            0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4,
            0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
        ];
        let line = host_key(&seed);
        assert_eq!(parse(&format!("{line} comment here")), Ok(line.clone()));
        let public = "AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea";
        assert_eq!(line, format!("ssh-ed25519 {public}"));
    }

    #[test]
    fn other_texts_are_refused() {
        for bad in ["", "ssh-ed25519", "ssh-ed25519 AAAA", "ssh-dss AAAAB3NzaC1kc3M=", "a\nb", "ssh-rsa !!"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
