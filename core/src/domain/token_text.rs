//! The text of secrets that people and programs carry: a prefix that says the type, 256 random bits, a checksum.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use burstflare_ports::record::SecretHash;
use burstflare_ports::secret::Secret;

/// The type of a secret text; one type is never accepted for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Type {
    /// Access token.
    Access,
    /// Refresh token.
    Refresh,
    /// Personal token.
    Personal,
    /// Recovery code.
    Recovery,
    /// Invite code.
    Invite,
    /// First operator's code.
    Bootstrap,
    /// Runtime ticket.
    Ticket,
}

impl Type {
    const ALL: [Self; 7] = [
        Self::Access,
        Self::Refresh,
        Self::Personal,
        Self::Recovery,
        Self::Invite,
        Self::Bootstrap,
        Self::Ticket,
    ];

    /// What the text begins with; secret scanners can look for it.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Access => "flare_at_",
            Self::Refresh => "flare_rt_",
            Self::Personal => "flare_pt_",
            Self::Recovery => "flare_rc_",
            Self::Invite => "flare_iv_",
            Self::Bootstrap => "flare_bs_",
            Self::Ticket => "flare_tk_",
        }
    }
}

/// Makes the text from 32 random bytes.
#[must_use]
pub fn compose(kind: Type, random: &[u8; 32]) -> Secret<String> {
    let mut bytes = [0; 36];
    bytes[..32].copy_from_slice(random);
    bytes[32..].copy_from_slice(&checksum(kind, random));
    Secret::new(format!("{}{}", kind.prefix(), URL_SAFE_NO_PAD.encode(bytes)))
}

/// Reads the type of a text whose checksum is right. It proves nothing but the absence of typing errors, and
/// spares the store a look-up for garbage.
#[must_use]
pub fn recognise(text: &str) -> Option<Type> {
    let kind = Type::ALL.into_iter().find(|kind| text.starts_with(kind.prefix()))?;
    let bytes = URL_SAFE_NO_PAD.decode(text.get(kind.prefix().len()..)?).ok()?;
    let bytes: [u8; 36] = bytes.try_into().ok()?;
    let random = bytes.first_chunk::<32>()?;
    (bytes[32..] == checksum(kind, random)).then_some(kind)
}

/// Whether a text begins as ours do, whatever follows.
#[must_use]
pub fn has_prefix(text: &str) -> bool {
    Type::ALL.into_iter().any(|kind| text.starts_with(kind.prefix()))
}

/// What is stored of a text.
#[must_use]
pub fn hash(text: &Secret<String>) -> SecretHash {
    SecretHash::of(text.expose())
}

fn checksum(kind: Type, random: &[u8; 32]) -> [u8; 4] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(kind.prefix().as_bytes()).update(random);
    let mut sum = [0; 4];
    sum.copy_from_slice(&hasher.finalize().as_bytes()[..4]);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_recognised_and_a_typing_error_is_not() {
        for kind in Type::ALL {
            let text = compose(kind, &[9; 32]).into_inner();
            assert_eq!(recognise(&text), Some(kind));
            for index in 0..text.len() {
                let mut broken = text.clone().into_bytes();
                broken[index] = if broken[index] == b'x' { b'y' } else { b'x' };
                let broken = String::from_utf8(broken).expect("ascii");
                assert_ne!(recognise(&broken), Some(kind), "{broken}");
            }
        }
        assert_eq!(recognise(""), None);
        assert_eq!(recognise("flare_at_"), None);
    }
}
