//! Variable-length numbers: LEB128 in the shortest form, signed ones zigzag.

/// Longest form of a `u64`.
pub(super) const LONGEST: usize = 10;

/// Appends a number.
pub(super) fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

/// Appends a signed number.
pub(super) fn put_signed(out: &mut Vec<u8>, number: i64) {
    put(out, ((number << 1) ^ (number >> 63)).cast_unsigned());
}

/// Why no number was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoNumber {
    /// The bytes end before it does.
    Short,
    /// Not the shortest form, or over 64 bits.
    Malformed,
}

/// Takes a number off the front.
pub(super) fn take(bytes: &mut &[u8]) -> Result<u64, NoNumber> {
    let mut number = 0u64;
    for (at, &byte) in bytes.iter().enumerate().take(LONGEST) {
        let bits = u64::from(byte & 0x7f);
        if at == LONGEST - 1 && byte > 1 {
            return Err(NoNumber::Malformed);
        }
        number |= bits << (7 * at);
        if byte & 0x80 == 0 {
            if byte == 0 && at > 0 {
                return Err(NoNumber::Malformed);
            }
            *bytes = bytes.get(at + 1..).unwrap_or_default();
            return Ok(number);
        }
    }
    if bytes.len() < LONGEST { Err(NoNumber::Short) } else { Err(NoNumber::Malformed) }
}

/// Takes a signed number off the front.
pub(super) fn take_signed(bytes: &mut &[u8]) -> Result<i64, NoNumber> {
    let folded = take(bytes)?;
    Ok((folded >> 1).cast_signed() ^ -(folded & 1).cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_come_back(number: u64, signed: i64, shift in 0..64u32) {
            for number in [number, number >> shift] {
                let mut out = Vec::new();
                put(&mut out, number);
                put_signed(&mut out, signed >> shift);
                let mut rest = &out[..];
                prop_assert_eq!(take(&mut rest), Ok(number));
                prop_assert_eq!(take_signed(&mut rest), Ok(signed >> shift));
                prop_assert!(rest.is_empty());
            }
        }
    }

    #[test]
    fn other_forms_are_refused() {
        for bytes in [&[0x80, 0][..], &[0xff; 10], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]]
        {
            assert_eq!(take(&mut &bytes[..]), Err(NoNumber::Malformed), "{bytes:?}");
        }
        for bytes in [&[][..], &[0x80], &[0xff; 9]] {
            assert_eq!(take(&mut &bytes[..]), Err(NoNumber::Short), "{bytes:?}");
        }
        assert_eq!(take(&mut &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1][..]), Ok(u64::MAX));
    }
}
