//! The server's own proxy, as its environment names it: machines reach the world through it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use burstflare_adapters_local::sandbox::UpstreamProxy;
use burstflare_ports::secret::Secret;

use crate::exit::Failure;

/// Reads `HTTPS_PROXY`, `HTTP_PROXY` or `ALL_PROXY` and `NO_PROXY`, each in either case.
///
/// # Errors
/// `Usage` when the proxy is not one that is spoken to in plain HTTP.
pub fn upstream(variable: impl Fn(&str) -> Option<String>) -> Result<Option<UpstreamProxy>, Failure> {
    let read = |name: &str| {
        let lower = variable(&name.to_ascii_lowercase());
        lower.or_else(|| variable(name)).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    };
    let Some(text) = ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"].into_iter().find_map(read) else {
        return Ok(None);
    };
    let refuse = || {
        Failure::usage("the proxy of the environment is not http://HOST:PORT")
            .hint("Set HTTPS_PROXY to a proxy that is spoken to in plain HTTP, or unset it.")
    };
    let rest = match text.split_once("://") {
        Some(("http", rest)) => rest,
        Some(_) => return Err(refuse()),
        None => text.as_str(),
    };
    let rest = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (user, host) = match rest.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, rest),
    };
    let address = if host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
        host.to_owned()
    } else if host.is_empty() {
        return Err(refuse());
    } else {
        format!("{host}:80")
    };
    let authorization = user.map(|user| Secret::new(format!("Basic {}", STANDARD.encode(decode(user)))));
    let bypass = read("NO_PROXY").unwrap_or_default();
    let bypass =
        bypass.split(',').map(str::trim).filter(|rule| !rule.is_empty()).map(str::to_owned).collect();
    Ok(Some(UpstreamProxy { address, authorization, bypass }))
}

/// Percent-decodes the user part of a URL.
fn decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let hex = text.get(at + 1..at + 3).filter(|_| *byte == b'%');
        match hex.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(decoded) => {
                plain.push(decoded);
                at += 3;
            }
            None => {
                plain.push(*byte);
                at += 1;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(pairs: &'static [(&'static str, &'static str)]) -> Result<Option<UpstreamProxy>, Failure> {
        upstream(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn the_environment_names_the_proxy() {
        let found = from(&[("https_proxy", "http://a%40b:c@proxy:3128/"), ("NO_PROXY", "x.example, .y")]);
        let proxy = found.expect("readable").expect("one");
        assert_eq!(proxy.address, "proxy:3128");
        assert_eq!(proxy.authorization.expect("given").expose(), "Basic YUBiOmM=");
        assert_eq!(proxy.bypass, ["x.example", ".y"]);
        assert!(from(&[]).expect("nothing").is_none());
        assert!(from(&[("HTTPS_PROXY", "socks5://a:1")]).is_err());
    }
}
