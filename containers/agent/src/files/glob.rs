//! Patterns of names: `*`, `?`, `[a-z]`, `[!a-z]`, and `\` before what is meant literally. Bytes, not characters.

/// Whether a pattern matches a whole name. Its time is at most their lengths' product, whatever the pattern.
pub(super) fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    // The last star, and the name's rest that it left: where to go on when what follows does not fit.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            star = Some((p, n));
            continue;
        }
        if let Some(length) = name.get(n).and_then(|byte| one(pattern.get(p..).unwrap_or_default(), *byte)) {
            p += length;
            n += 1;
            continue;
        }
        let Some((behind, left)) = star else { return false };
        p = behind;
        n = left + 1;
        star = Some((behind, n));
    }
    pattern.get(p..).unwrap_or_default().iter().all(|byte| *byte == b'*')
}

/// How long the pattern's first item is, if it fits the byte.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match *pattern.first()? {
        b'?' => Some(1),
        b'\\' => {
            let literal = pattern.get(1).copied().unwrap_or(b'\\');
            (literal == byte).then_some(pattern.len().min(2))
        }
        b'[' => match class(pattern, byte) {
            Some((fits, length)) => fits.then_some(length),
            // Without its end it is a bracket like any other byte.
            None => (byte == b'[').then_some(1),
        },
        literal => (literal == byte).then_some(1),
    }
}

/// Whether a byte is in the class at the pattern's beginning, and how long that is.
fn class(pattern: &[u8], byte: u8) -> Option<(bool, usize)> {
    let mut at = 1;
    let negated = matches!(pattern.get(1), Some(b'!' | b'^'));
    at += usize::from(negated);
    let first = at;
    let mut inside = false;
    loop {
        let low = *pattern.get(at)?;
        if low == b']' && at > first {
            return Some((inside != negated, at + 1));
        }
        match (pattern.get(at + 1), pattern.get(at + 2)) {
            (Some(b'-'), Some(high)) if *high != b']' => {
                inside |= (low..=*high).contains(&byte);
                at += 3;
            }
            _ => {
                inside |= low == byte;
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_a_shell() {
        for (pattern, name, expected) in [
            ("*.rs", "main.rs", true),
            ("*.rs", "main.rc", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b-", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[]]", "]", true),
            ("[a-]", "-", true),
            ("[", "[", true),
            ("[ab", "[ab", true),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("\\", "\\", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
        assert!(matches(b"?\xff*", b"a\xffb"));
        // A pattern made to be slow is not.
        assert!(!matches("*a".repeat(60).as_bytes(), "a".repeat(250).replace("aa", "ab").as_bytes()));
    }
}
