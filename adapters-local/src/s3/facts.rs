//! What an object says of itself.
//!
//! An object that is put in one call has its BLAKE3 in its metadata. One that is put in parts cannot: its metadata is fixed
//! before its bytes are known. It ends in the same trailer of 40 bytes as a file of the folder (BLAKE3 of the bytes before it,
//! and a mark), and its metadata say so. Either way bytes and digest appear together.

use std::collections::HashMap;

use burstflare_ports::blob::BlobInfo;
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use bytes::Bytes;

/// Metadata: BLAKE3 of the whole object.
pub(super) const DIGEST: &str = "flare-blake3";
/// Metadata: the object ends in a trailer; the value tells one upload from another.
pub(super) const UPLOAD: &str = "flare-upload";
/// Bytes of the trailer.
pub(super) const TRAILER: u64 = 40;

const MARK: &[u8; 8] = b"flareb1\n";

/// An object, as the answer's head describes it.
#[derive(Debug)]
pub(super) struct Facts {
    /// Bytes of the blob, without a trailer.
    pub(super) size: u64,
    /// Hexadecimal; not known yet where a trailer has it.
    pub(super) digest: Option<String>,
    /// Tells this object from a later one of the same key.
    pub(super) tag: Option<String>,
}

impl Facts {
    /// From the metadata and the size of the whole object.
    pub(super) fn of(
        operation: &'static str,
        what: &str,
        metadata: Option<&HashMap<String, String>>,
        length: Option<u64>,
        tag: Option<&str>,
    ) -> PortResult<Self> {
        let foreign = || {
            PortError::new(
                ErrorKind::Corrupt,
                operation,
                format!("{what}: an object that was not put there as a blob"),
            )
        };
        let (metadata, length) = (metadata.ok_or_else(foreign)?, length.ok_or_else(foreign)?);
        let tag = tag.map(str::to_owned);
        if metadata.contains_key(UPLOAD) {
            let size = length.checked_sub(TRAILER).ok_or_else(foreign)?;
            return Ok(Self { size, digest: None, tag });
        }
        let digest = metadata.get(DIGEST).filter(|text| is_digest(text)).ok_or_else(foreign)?;
        Ok(Self { size: length, digest: Some(digest.clone()), tag })
    }

    /// What callers are told, with the digest that was read meanwhile.
    pub(super) fn info(&self, digest: String) -> BlobInfo {
        BlobInfo { size: self.size, blake3: digest }
    }
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// What stands behind the bytes of an object that is put in parts.
pub(super) fn trailer(digest: &blake3::Hash) -> Bytes {
    let mut trailer = digest.as_bytes().to_vec();
    trailer.extend_from_slice(MARK);
    trailer.into()
}

/// The digest in a trailer.
pub(super) fn digest_in(operation: &'static str, what: &str, trailer: &[u8]) -> PortResult<String> {
    trailer
        .strip_suffix(MARK)
        .and_then(|digest| <[u8; 32]>::try_from(digest).ok())
        .map(|digest| blake3::Hash::from_bytes(digest).to_hex().to_string())
        .ok_or_else(|| {
            PortError::new(ErrorKind::Corrupt, operation, format!("{what}: the end is not what was stored"))
        })
}
