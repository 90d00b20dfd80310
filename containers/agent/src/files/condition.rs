//! Conditions and ranges of requests (RFC 9110, sections 13 and 14).

use http::HeaderMap;
use http::header::{HeaderName, IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE};

use super::refuse;
use crate::reply::Refused;

/// `If-Match` or `If-None-Match`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Tags {
    Any,
    List(Vec<String>),
}

impl Tags {
    fn read(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Self>, Refused> {
        let mut list = Vec::new();
        for value in headers.get_all(name) {
            let malformed = || Refused::invalid(format!("`{name}` is no list of entity tags."));
            let text = value.to_str().map_err(|_| malformed())?.trim();
            if text == "*" {
                return Ok(Some(Self::Any));
            }
            for tag in text.split(',').map(str::trim) {
                let opaque = tag.strip_prefix("W/").unwrap_or(tag);
                if opaque.len() < 2 || !opaque.starts_with('"') || !opaque.ends_with('"') {
                    return Err(malformed());
                }
                list.push(tag.to_owned());
            }
        }
        Ok((!list.is_empty()).then_some(Self::List(list)))
    }

    /// Strong comparison: a weak tag is nobody's.
    fn matches(&self, current: Option<&str>) -> bool {
        match (self, current) {
            (_, None) => false,
            (Self::Any, Some(_)) => true,
            (Self::List(list), Some(current)) => list.iter().any(|tag| tag == current),
        }
    }
}

/// What has to hold before something is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Condition {
    matching: Option<Tags>,
    none_matching: Option<Tags>,
}

impl Condition {
    /// From a request.
    pub(super) fn read(headers: &HeaderMap) -> Result<Self, Refused> {
        Ok(Self {
            matching: Tags::read(headers, &IF_MATCH)?,
            none_matching: Tags::read(headers, &IF_NONE_MATCH)?,
        })
    }

    /// Whether nothing may be there.
    pub(super) fn wants_nothing(&self) -> bool {
        self.none_matching == Some(Tags::Any)
    }

    /// Holds it against what is there: the tag of a file, or a name for anything else.
    pub(super) fn check(&self, current: Option<&str>) -> Result<(), Refused> {
        let holds = self.matching.as_ref().is_none_or(|tags| tags.matches(current))
            && self.none_matching.as_ref().is_none_or(|tags| !tags.matches(current));
        if holds { Ok(()) } else { Err(refuse::changed()) }
    }

    /// Whether a reader has exactly this already. A weak tag of ours is as good here.
    pub(super) fn is_known(&self, current: &str) -> bool {
        match &self.none_matching {
            None => false,
            Some(Tags::Any) => true,
            Some(Tags::List(list)) => list.iter().any(|tag| tag.strip_prefix("W/").unwrap_or(tag) == current),
        }
    }

    /// Whether a reader's `If-Match` forbids the answer.
    pub(super) fn forbids_reading(&self, current: &str) -> bool {
        self.matching.as_ref().is_some_and(|tags| !tags.matches(Some(current)))
    }
}

/// The part of a file that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it; also where the range is of another unit, more than one, malformed, or of another version.
    Whole,
    /// From the first to the last byte, both included.
    Bytes(u64, u64),
    /// Nothing of the file lies there.
    Nothing,
}

/// Reads `Range` and `If-Range` for a file of this size and tag.
pub(super) fn part(headers: &HeaderMap, size: u64, etag: &str) -> Part {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let Some(range) = text(RANGE).and_then(|range| range.strip_prefix("bytes=")) else { return Part::Whole };
    if text(IF_RANGE).is_some_and(|tag| tag != etag)
        || headers.contains_key(IF_RANGE) && text(IF_RANGE).is_none()
    {
        return Part::Whole;
    }
    let Some((first, last)) = range.split_once('-') else { return Part::Whole };
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u64>().unwrap_or(u64::MAX))
    };
    match (first.trim(), last.trim()) {
        ("", last) => match number(last) {
            None => Part::Whole,
            Some(0) => Part::Nothing,
            Some(_) if size == 0 => Part::Nothing,
            Some(length) => Part::Bytes(size.saturating_sub(length), size - 1),
        },
        (first, last) => {
            let Some(first) = number(first) else { return Part::Whole };
            let last = match last {
                "" => u64::MAX,
                last => match number(last) {
                    Some(last) if last >= first => last,
                    _ => return Part::Whole,
                },
            };
            if first >= size { Part::Nothing } else { Part::Bytes(first, last.min(size - 1)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().expect("a value"))).collect()
    }

    #[test]
    fn ranges_are_those_of_the_rfc() {
        let of = |range: &str, size| part(&headers(&[(RANGE, range)]), size, "\"a\"");
        assert_eq!(of("bytes=0-0", 10), Part::Bytes(0, 0));
        assert_eq!(of("bytes=2-", 10), Part::Bytes(2, 9));
        assert_eq!(of("bytes=-3", 10), Part::Bytes(7, 9));
        assert_eq!(of("bytes=-30", 10), Part::Bytes(0, 9));
        assert_eq!(of("bytes=5-99999999999999999999999", 10), Part::Bytes(5, 9));
        for nothing in ["bytes=10-", "bytes=99999999999999999999999-", "bytes=-0"] {
            assert_eq!(of(nothing, 10), Part::Nothing, "{nothing}");
        }
        assert_eq!(of("bytes=-1", 0), Part::Nothing);
        for whole in
            ["bytes=5-2", "bytes=a-b", "bytes=-", "lines=1-2", "bytes=1-2,4-5", "bytes=+1-2", "bytes"]
        {
            assert_eq!(of(whole, 10), Part::Whole, "{whole}");
        }
        let both = |tag| part(&headers(&[(RANGE, "bytes=0-1"), (IF_RANGE, tag)]), 10, "\"a\"");
        assert_eq!(
            (both("\"a\""), both("\"b\""), both("W/\"a\"")),
            (Part::Bytes(0, 1), Part::Whole, Part::Whole)
        );
    }

    #[test]
    fn conditions_hold_or_not() {
        let check = |pairs: &[(HeaderName, &str)], current| {
            Condition::read(&headers(pairs)).expect("well formed").check(current).is_ok()
        };
        assert!(check(&[], None) && check(&[], Some("\"a\"")));
        assert!(check(&[(IF_MATCH, "\"b\", \"a\"")], Some("\"a\"")));
        assert!(!check(&[(IF_MATCH, "\"b\"")], Some("\"a\"")));
        assert!(!check(&[(IF_MATCH, "W/\"a\"")], Some("\"a\"")));
        assert!(!check(&[(IF_MATCH, "*")], None) && check(&[(IF_MATCH, "*")], Some("\"a\"")));
        assert!(check(&[(IF_NONE_MATCH, "*")], None) && !check(&[(IF_NONE_MATCH, "*")], Some("\"a\"")));
        assert!(!check(&[(IF_NONE_MATCH, "\"a\"")], Some("\"a\"")));
        for bad in ["a", "\"", "\"a", ""] {
            assert!(Condition::read(&headers(&[(IF_MATCH, bad)])).is_err(), "{bad}");
        }
    }
}
