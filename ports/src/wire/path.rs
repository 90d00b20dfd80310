//! Text form of paths, which are bytes: UTF-8 stays readable, everything else is percent-encoded.
//!
//! Bytes that are not UTF-8, control characters and `%` become `%XX` (upper-case digits). The form is canonical:
//! every path has exactly one, so equal text means equal bytes and a digest over it is one over the bytes.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The text form of a path or link target.
#[must_use]
pub fn encode(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        for letter in chunk.valid().chars() {
            if letter == '%' || letter.is_control() {
                percent(&mut text, letter.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                text.push(letter);
            }
        }
        percent(&mut text, chunk.invalid());
    }
    text
}

/// The text form, borrowed where it is the path itself.
#[must_use]
pub fn encoded(path: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(path) {
        Ok(text) if path.iter().all(|byte| matches!(byte, 0x20..=0x7e) && *byte != b'%') => {
            Cow::Borrowed(text)
        }
        _ => Cow::Owned(encode(path)),
    }
}

fn percent(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "%{byte:02X}");
    }
}

/// The bytes behind a text form; `None` where it is malformed or not the canonical one.
#[must_use]
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes().iter();
    while let Some(&byte) = rest.next() {
        if byte == b'%' {
            let high = char::from(*rest.next()?).to_digit(16)?;
            let low = char::from(*rest.next()?).to_digit(16)?;
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    (encode(&bytes) == text).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_byte_has_one_text_form() {
        let cases: [(&[u8], &str); 6] = [
            (b"src/main.rs", "src/main.rs"),
            ("gr\u{fc}n \u{1f980}".as_bytes(), "gr\u{fc}n \u{1f980}"),
            (b"100%", "100%25"),
            (b"a\nb\x7f", "a%0Ab%7F"),
            (b"\xff\xc3", "%FF%C3"),
            ("\u{85}".as_bytes(), "%C2%85"),
        ];
        for (bytes, text) in cases {
            assert_eq!(encode(bytes), text);
            assert_eq!(encoded(bytes), text);
            assert_eq!(decode(text).as_deref(), Some(bytes));
        }
    }

    #[test]
    fn all_pairs_of_bytes_come_back() {
        for first in 0..=255u8 {
            for second in 0..=255u8 {
                let bytes = [first, second, b'x'];
                assert_eq!(decode(&encode(&bytes)).as_deref(), Some(&bytes[..]));
            }
        }
    }

    #[test]
    fn other_forms_are_refused() {
        for text in ["%", "%4", "%4g", "%41", "%c3%bc", "%C3%BC", "a\n", "%2f"] {
            assert_eq!(decode(text), None, "{text:?}");
        }
    }
}
