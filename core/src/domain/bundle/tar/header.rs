use super::super::error::TarError;

/// Bytes of a header and the unit of content.
pub(super) const BLOCK: usize = 512;

/// What a header block says; extension headers are not applied yet.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) path: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) mode: u32,
    pub(super) size: u64,
    /// The type flag.
    pub(super) kind: u8,
}

impl Header {
    /// Reads a block; `None` for one of zeros.
    pub(super) fn parse(block: &[u8; BLOCK]) -> Result<Option<Self>, TarError> {
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        // The sum is over the block with spaces in place of the sum itself. Some ancient tars summed signed bytes;
        // their archives are refused.
        let stored = number(&block[148..156]).ok_or(TarError::Checksum)?;
        let own: u64 = block[148..156].iter().copied().map(u64::from).sum();
        let sum = block.iter().copied().map(u64::from).sum::<u64>() - own + 8 * u64::from(b' ');
        if stored != sum {
            return Err(TarError::Checksum);
        }
        let size = number(&block[124..136]).ok_or(TarError::Number("size"))?;
        let mode = number(&block[100..108])
            .and_then(|mode| u32::try_from(mode).ok())
            // Type bits of stat are written by some; nothing above them exists.
            .filter(|mode| *mode <= 0o177_777)
            .ok_or(TarError::Number("mode"))?;
        let name = text(&block[..100]);
        // GNU keeps times where POSIX has the prefix, and v7 has neither.
        let prefix = if &block[257..263] == b"ustar\0" { text(&block[345..500]) } else { b"" };
        let mut path = prefix.to_vec();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        Ok(Some(Self {
            path,
            link: text(&block[157..257]).to_vec(),
            mode: mode & 0o7777,
            size,
            kind: block[156],
        }))
    }
}

/// Up to the first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or(field)
}

/// A field that is never negative: octal digits between spaces and NULs, or GNU's base 256.
fn number(field: &[u8]) -> Option<u64> {
    let (&first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        // The sign is the bit after the marker.
        if first & 0x40 != 0 {
            return None;
        }
        let begin = u64::from(first & 0x3f);
        return rest
            .iter()
            .try_fold(begin, |number, byte| number.checked_mul(256)?.checked_add(u64::from(*byte)));
    }
    let digits = field.trim_ascii_start();
    let end = digits.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(digits.len());
    let (digits, rest) = digits.split_at(end);
    if digits.is_empty() || rest.iter().any(|byte| *byte != 0 && *byte != b' ') {
        return None;
    }
    digits.iter().try_fold(0u64, |number, digit| {
        let digit = u64::from(digit - b'0');
        if digit > 7 { None } else { number.checked_mul(8)?.checked_add(digit) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (field, value) in [
            (&b"0000644\0"[..], 0o644),
            (b"   644 \0", 0o644),
            (b"00000644", 0o644),
            (b"0\0\0\0\0\0\0\0", 0),
            (b"77777777777\0", (8 << 30) - 1),
            (b"777777777777", (64 << 30) - 1),
            (b"\x80\0\0\0\0\0\0\0\0\0\x01\0", 256),
            (b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", u64::MAX),
        ] {
            assert_eq!(number(field), Some(value), "{field:?}");
        }
        for field in [
            &b"\0\0\0\0\0\0\0\0"[..],
            b"        ",
            b"0000648\0",
            b"-000644\0",
            b"644\0garb",
            b"6 4     ",
            // Base 256, negative and beyond 64 bits.
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x80\0\0\x01\0\0\0\0\0\0\0\0",
            b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            b"777777777777777777777777",
        ] {
            assert_eq!(number(field), None, "{field:?}");
        }
    }
}
