//! Secrets at rest: XChaCha20-Poly1305 under a key derived from the deployment's master key for one workspace, bound
//! to the place where the sealed text is kept, so that it is of no use in another row.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use burstflare_ports::id::Id;
use burstflare_ports::record::Workspace;
use burstflare_ports::secret::Secret;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};

/// The sealed text is not one of ours, or not from this place, or was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a sealed value cannot be opened: another master key, or changed bytes")]
pub struct CannotOpen;

/// Seals and opens with the deployment's master key.
#[derive(Clone)]
pub struct Sealer {
    master: Secret<[u8; 32]>,
}

const VERSION: &str = "v1.";
const CONTEXT: &str = "burstflare 2026-11 seal v1 workspace key";

impl Sealer {
    /// With this master key.
    #[must_use]
    pub const fn new(master: Secret<[u8; 32]>) -> Self {
        Self { master }
    }

    /// Seals `plain` for `place` (a name such as `ses_…/agent`) with 24 fresh random bytes.
    ///
    /// # Errors
    /// Only when the plain text is larger than the cipher allows (256 GB).
    pub fn seal(
        &self,
        workspace: Id<Workspace>,
        place: &str,
        plain: &[u8],
        nonce: [u8; 24],
    ) -> Result<String, CannotOpen> {
        let payload = Payload { msg: plain, aad: place.as_bytes() };
        let sealed = self.cipher(workspace).encrypt(&XNonce::from(nonce), payload).map_err(|_| CannotOpen)?;
        let mut bytes = nonce.to_vec();
        bytes.extend_from_slice(&sealed);
        Ok(format!("{VERSION}{}", STANDARD_NO_PAD.encode(bytes)))
    }

    /// Opens what was sealed for the same workspace and place.
    ///
    /// # Errors
    /// When it was not.
    pub fn open(
        &self,
        workspace: Id<Workspace>,
        place: &str,
        sealed: &str,
    ) -> Result<Secret<Vec<u8>>, CannotOpen> {
        let text = sealed.strip_prefix(VERSION).ok_or(CannotOpen)?;
        let bytes = STANDARD_NO_PAD.decode(text).map_err(|_| CannotOpen)?;
        let (nonce, body) = bytes.split_first_chunk::<24>().ok_or(CannotOpen)?;
        let payload = Payload { msg: body, aad: place.as_bytes() };
        let plain = self.cipher(workspace).decrypt(&XNonce::from(*nonce), payload).map_err(|_| CannotOpen)?;
        Ok(Secret::new(plain))
    }

    fn cipher(&self, workspace: Id<Workspace>) -> XChaCha20Poly1305 {
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
        hasher.update(self.master.expose()).update(&workspace.bits().to_be_bytes());
        XChaCha20Poly1305::new(&Key::from(*hasher.finalize().as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burstflare_ports::time::Timestamp;

    #[test]
    fn opens_in_its_own_place_only() {
        let sealer = Sealer::new(Secret::new([1; 32]));
        let here = Id::new(Timestamp::from_millis(1), [1; 10]);
        let there = Id::new(Timestamp::from_millis(1), [2; 10]);
        let sealed = sealer.seal(here, "a", b"secret", [3; 24]).expect("seals");
        assert_eq!(sealer.open(here, "a", &sealed).expect("opens").expose(), b"secret");
        assert!(sealer.open(there, "a", &sealed).is_err());
        assert!(sealer.open(here, "b", &sealed).is_err());
        assert!(Sealer::new(Secret::new([2; 32])).open(here, "a", &sealed).is_err());
        let flipped = sealed.replace(&sealed[10..11], if &sealed[10..11] == "A" { "B" } else { "A" });
        assert!(sealer.open(here, "a", &flipped).is_err());
        assert!(sealer.open(here, "a", "v1.").is_err());
    }
}
