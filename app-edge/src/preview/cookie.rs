//! The preview's own cookie, and keeping it apart from the application's.

use axum::http::HeaderValue;
use axum::http::header::COOKIE;
use axum::http::{HeaderMap, HeaderName};
use burstflare_core::service::COOKIE_LIFE;
use burstflare_ports::secret::Secret;

/// Where the browser keeps the prefix's promise: host-only, for the whole host, over TLS alone.
const PREFIXED: &str = "__Host-flare-preview";
/// Where a browser refuses Secure on plain http.
const PLAIN: &str = "flare-preview";
/// All cookies of ours begin so, behind a prefix or not.
const OURS: &str = "flare-";
/// Values that are looked at: siblings can add false ones, and choose paths that browsers send before the true one's. A
/// browser keeps at most 180 cookies of a site.
const VALUES: usize = 200;

/// The header that makes a browser come in again with this value.
pub(super) fn set(value: &Secret<String>, https: bool) -> Option<HeaderValue> {
    let (name, secure) = if https { (PREFIXED, "; Secure") } else { (PLAIN, "") };
    let text = format!(
        "{name}={}; Path=/{secure}; HttpOnly; SameSite=Lax; Max-Age={}",
        value.expose(),
        COOKIE_LIFE.as_secs()
    );
    let mut header = HeaderValue::from_str(&text).ok()?;
    header.set_sensitive(true);
    Some(header)
}

/// The values that may be ours. Over TLS the name without prefix is not: anybody's sibling can set it.
pub(super) fn values(headers: &HeaderMap, https: bool) -> Vec<Secret<String>> {
    let name = if https { PREFIXED } else { PLAIN };
    pairs(headers)
        .filter_map(|pair| pair.split_once('='))
        .filter(|(key, _)| key.trim() == name)
        .map(|(_, value)| Secret::new(value.trim().to_owned()))
        .take(VALUES)
        .collect()
}

/// Takes our cookies off a request; the application's go on as they are.
pub(super) fn strip(headers: &mut HeaderMap) {
    let any = pairs(headers).any(is_ours);
    if !any && headers.get_all(COOKIE).iter().all(|value| value.to_str().is_ok()) {
        return;
    }
    let kept: Vec<String> = pairs(headers).filter(|pair| !is_ours(pair)).map(str::to_owned).collect();
    headers.remove(COOKIE);
    if !kept.is_empty()
        && let Ok(value) = HeaderValue::from_str(&kept.join("; "))
    {
        headers.insert(COOKIE, value);
    }
}

fn pairs(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(';')).map(str::trim).filter(|pair| !pair.is_empty())
}

/// Whether a pair has a name of ours, also as a browser writes out a cookie without a name.
fn is_ours(pair: &str) -> bool {
    let pair = pair.trim_start_matches(['=', ' ', '\t']);
    let name = pair.split('=').next().unwrap_or_default().trim().to_ascii_lowercase();
    let bare = name.strip_prefix("__host-").or_else(|| name.strip_prefix("__secure-")).unwrap_or(&name);
    bare.starts_with(OURS)
}

/// What of an application's `Set-Cookie` may go to the browser: nothing with a name of ours, and no `Domain`, which
/// could only reach this preview's siblings: the cookie stays the host's own.
pub(super) fn admit(value: &HeaderValue) -> Option<HeaderValue> {
    // Parsed as bytes: values of applications need not be ASCII.
    let bytes = value.as_bytes();
    let mut parts = bytes.split(|byte| *byte == b';');
    let pair = parts.next().unwrap_or_default();
    if is_ours(&String::from_utf8_lossy(pair)) {
        return None;
    }
    let mut kept = pair.to_vec();
    let mut changed = false;
    for part in parts {
        let name = part.split(|byte| *byte == b'=').next().unwrap_or_default();
        if name.trim_ascii().eq_ignore_ascii_case(b"domain") {
            changed = true;
            continue;
        }
        kept.push(b';');
        kept.extend_from_slice(part);
    }
    if changed { HeaderValue::from_bytes(&kept).ok() } else { Some(value.clone()) }
}

/// What of `Clear-Site-Data` stays: cookies are cleared for all siblings at once.
pub(super) fn clear_site_data(value: &str) -> Option<String> {
    let mut kept = Vec::new();
    for word in value.split(',').map(str::trim) {
        match word {
            "\"cookies\"" => {}
            "\"*\"" => kept.extend(["\"cache\"", "\"storage\""]),
            other => kept.push(other),
        }
    }
    (!kept.is_empty()).then(|| kept.join(", "))
}

/// See [`clear_site_data`].
pub(super) const CLEAR_SITE_DATA: HeaderName = HeaderName::from_static("clear-site-data");

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(cookies: &[&str]) -> HeaderMap {
        cookies.iter().map(|text| (COOKIE, text.parse().expect("a value"))).collect()
    }

    #[test]
    fn our_cookies_stay_and_the_applications_go_on() {
        let mut both =
            headers(&["a=1; flare-preview=x;b=2", "__Host-flare-preview=y", "c=\"flare-preview=z\""]);
        assert_eq!(values(&both, false).len(), 1);
        assert_eq!(values(&both, true)[0].expose(), "y");
        strip(&mut both);
        assert_eq!(both[COOKIE], "a=1; b=2; c=\"flare-preview=z\"");
        let mut foreign = headers(&["a=1; b = 2"]);
        strip(&mut foreign);
        assert_eq!(foreign[COOKIE], "a=1; b = 2", "untouched");
        let mut ours =
            headers(&["FLARE-preview=1; =flare-preview=2; __Secure-flare-x=3;; __host-Flare-preview=4"]);
        strip(&mut ours);
        assert!(!ours.contains_key(COOKIE), "{ours:?}");
    }

    #[test]
    fn an_application_sets_cookies_for_itself_alone() {
        let admitted = |text: &str| {
            admit(&HeaderValue::from_str(text).expect("a value"))
                .map(|value| value.to_str().expect("text").to_owned())
        };
        assert_eq!(admitted("a=1; Path=/; HttpOnly").as_deref(), Some("a=1; Path=/; HttpOnly"));
        assert_eq!(admitted("a=1; Domain=preview.localhost; Path=/x").as_deref(), Some("a=1; Path=/x"));
        assert_eq!(admitted("a=1;DOMAIN =.localhost; domain=x").as_deref(), Some("a=1"));
        for ours in [
            "flare-preview=evil",
            " Flare-Preview =evil; Path=/",
            "__Host-flare-preview=evil; Secure; Path=/",
            "__host-FLARE-preview=evil",
            "=flare-preview=evil",
            "= flare-preview=evil",
            "flare-preview",
        ] {
            assert_eq!(admitted(ours), None, "{ours}");
        }
    }

    #[test]
    fn siblings_cookies_are_not_cleared() {
        assert_eq!(clear_site_data("\"cache\", \"cookies\"").as_deref(), Some("\"cache\""));
        assert_eq!(clear_site_data("\"*\"").as_deref(), Some("\"cache\", \"storage\""));
        assert_eq!(clear_site_data("\"cookies\""), None);
    }
}
