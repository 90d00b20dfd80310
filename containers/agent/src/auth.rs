//! Who may call: the machine's key, for the machine's epoch.

use burstflare_ports::machine::Epoch;
use burstflare_ports::wire::EPOCH_HEADER;
use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::reply::Refused;

/// The key, kept as its digest: comparing digests takes the same time for every wrong key.
pub(crate) struct Key(blake3::Hash);

impl Key {
    /// The key from the boot message.
    pub(crate) fn new(key: &str) -> Self {
        Self(blake3::hash(key.as_bytes()))
    }

    /// Lets a call pass that carries the key and speaks for this epoch.
    pub(crate) fn admit(&self, headers: &HeaderMap, epoch: Epoch) -> Result<(), Refused> {
        let unauthorized = || Refused::unauthorized("The call does not carry this machine's key.");
        let given = headers.get(AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
        // `Hash` compares in constant time.
        if given.map(blake3::hash) != Some(self.0) {
            return Err(unauthorized());
        }
        let spoken = headers.get(EPOCH_HEADER).and_then(|value| value.to_str().ok()).unwrap_or_default();
        match spoken.parse::<Epoch>() {
            Ok(spoken) if spoken == epoch => Ok(()),
            Ok(spoken) => Err(Refused::stale(format!("This is epoch {epoch}, the call is for {spoken}."))),
            Err(_) => Err(Refused::invalid(format!("`{EPOCH_HEADER}` has to be a decimal number."))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(authorization: &str, epoch: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, authorization.parse().expect("header"));
        headers.insert(EPOCH_HEADER, epoch.parse().expect("header"));
        headers
    }

    #[test]
    fn only_the_key_and_the_epoch_pass() {
        let key = Key::new("sesame");
        let code = |headers| key.admit(&headers, 7).map_err(|refused| refused.code);
        assert_eq!(code(headers("Bearer sesame", "7")), Ok(()));
        assert_eq!(code(headers("Bearer sesam", "7")), Err("unauthorized"));
        assert_eq!(code(headers("sesame", "7")), Err("unauthorized"));
        assert_eq!(code(HeaderMap::new()), Err("unauthorized"));
        assert_eq!(code(headers("Bearer sesame", "6")), Err("stale_epoch"));
        assert_eq!(code(headers("Bearer sesame", "8")), Err("stale_epoch"));
        assert_eq!(code(headers("Bearer sesame", "x")), Err("invalid"));
    }
}
