//! Secrets at rest: XChaCha20-Poly1305, bound to the place where the sealed text is kept, so that it is of no use in
//! another row. Keys of machines are sealed under a key derived from the deployment's master key for one workspace; the
//! values that people keep under a data key of the workspace ([`DataKey`]), which in turn is sealed that way. So a new
//! master key needs the data keys sealed anew, and no value.
//!
//! A sealer knows earlier master keys, too: it opens what they have sealed and seals with the present one.

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
    earlier: Vec<Secret<[u8; 32]>>,
}

/// Seals and opens the values of one workspace.
pub struct DataKey(Secret<[u8; 32]>);

const VERSION: &str = "v1.";
const CONTEXT: &str = "burstflare 2026-11 seal v1 workspace key";
const NAME_CONTEXT: &str = "burstflare 2026-11 seal v1 name of a master key";

impl Sealer {
    /// With this master key.
    #[must_use]
    pub const fn new(master: Secret<[u8; 32]>) -> Self {
        Self { master, earlier: Vec::new() }
    }

    /// That opens what these master keys have sealed, too.
    #[must_use]
    pub fn after(self, earlier: Vec<Secret<[u8; 32]>>) -> Self {
        Self { earlier, ..self }
    }

    /// Names the master key without telling anything about it.
    #[must_use]
    pub fn master_name(&self) -> String {
        let mut hasher = blake3::Hasher::new_derive_key(NAME_CONTEXT);
        hasher.update(self.master.expose());
        hasher.finalize().to_hex().chars().take(16).collect()
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
        seal(&cipher(&self.master, workspace), place, plain, nonce)
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
        let masters = std::iter::once(&self.master).chain(&self.earlier);
        let opened = masters.map(|master| open(&cipher(master, workspace), place, sealed));
        opened.into_iter().find(Result::is_ok).unwrap_or(Err(CannotOpen))
    }
}

impl DataKey {
    /// Of 32 bytes.
    ///
    /// # Errors
    /// When there are more or less.
    pub fn new(bytes: &[u8]) -> Result<Self, CannotOpen> {
        bytes.try_into().map(|key| Self(Secret::new(key))).map_err(|_| CannotOpen)
    }

    /// As [`Sealer::seal`].
    ///
    /// # Errors
    /// As there.
    pub fn seal(&self, place: &str, plain: &[u8], nonce: [u8; 24]) -> Result<String, CannotOpen> {
        seal(&self.cipher(), place, plain, nonce)
    }

    /// As [`Sealer::open`].
    ///
    /// # Errors
    /// As there.
    pub fn open(&self, place: &str, sealed: &str) -> Result<Secret<Vec<u8>>, CannotOpen> {
        open(&self.cipher(), place, sealed)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&Key::from(*self.0.expose()))
    }
}

fn cipher(master: &Secret<[u8; 32]>, workspace: Id<Workspace>) -> XChaCha20Poly1305 {
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    hasher.update(master.expose()).update(&workspace.bits().to_be_bytes());
    XChaCha20Poly1305::new(&Key::from(*hasher.finalize().as_bytes()))
}

fn seal(
    cipher: &XChaCha20Poly1305,
    place: &str,
    plain: &[u8],
    nonce: [u8; 24],
) -> Result<String, CannotOpen> {
    let payload = Payload { msg: plain, aad: place.as_bytes() };
    let sealed = cipher.encrypt(&XNonce::from(nonce), payload).map_err(|_| CannotOpen)?;
    let mut bytes = nonce.to_vec();
    bytes.extend_from_slice(&sealed);
    Ok(format!("{VERSION}{}", STANDARD_NO_PAD.encode(bytes)))
}

fn open(cipher: &XChaCha20Poly1305, place: &str, sealed: &str) -> Result<Secret<Vec<u8>>, CannotOpen> {
    let text = sealed.strip_prefix(VERSION).ok_or(CannotOpen)?;
    let bytes = STANDARD_NO_PAD.decode(text).map_err(|_| CannotOpen)?;
    let (nonce, body) = bytes.split_first_chunk::<24>().ok_or(CannotOpen)?;
    let payload = Payload { msg: body, aad: place.as_bytes() };
    cipher.decrypt(&XNonce::from(*nonce), payload).map(Secret::new).map_err(|_| CannotOpen)
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

    #[test]
    fn a_new_master_key_opens_what_the_one_before_sealed() {
        let here = Id::new(Timestamp::from_millis(1), [1; 10]);
        let old = Sealer::new(Secret::new([1; 32]));
        let new = Sealer::new(Secret::new([2; 32])).after(vec![Secret::new([9; 32]), Secret::new([1; 32])]);
        let sealed = old.seal(here, "a", b"secret", [3; 24]).expect("seals");
        assert_eq!(new.open(here, "a", &sealed).expect("opens").expose(), b"secret");
        let sealed = new.seal(here, "a", b"secret", [3; 24]).expect("seals");
        assert!(old.open(here, "a", &sealed).is_err());
        assert!(Sealer::new(Secret::new([2; 32])).open(here, "a", &sealed).is_ok(), "the old one may go");
        assert_ne!(old.master_name(), new.master_name());
    }

    #[test]
    fn a_data_key_opens_in_its_own_place_only() {
        let key = DataKey::new(&[1; 32]).expect("a key");
        let sealed = key.seal("sec_1/2", b"value", [3; 24]).expect("seals");
        assert_eq!(key.open("sec_1/2", &sealed).expect("opens").expose(), b"value");
        assert!(key.open("sec_1/1", &sealed).is_err());
        assert!(DataKey::new(&[2; 32]).expect("a key").open("sec_1/2", &sealed).is_err());
        assert!(DataKey::new(&[1; 31]).is_err());
    }
}
