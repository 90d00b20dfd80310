use std::fmt;
use std::str::FromStr;

use super::document::{Entry, Reader};

/// A number of bytes with its unit: `1GiB`, `512MiB`, `4GB`. `KiB` to `TiB` are powers of 1024, `KB` to `TB` powers
/// of 1000, `B` is one byte. Whole numbers only, without spaces; letters of the unit as written here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

/// Text that is no [`ByteSize`]; the message says what would be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidByteSize {
    /// Not a number and a unit.
    #[error("is not a size; write a whole number and a unit, such as \"1GiB\" or \"512MiB\"")]
    Form,
    /// A unit that is not known, with what was probably meant.
    #[error("has the unit `{0}`, which is not known; write \"{1}\"")]
    Unit(String, String),
    /// Beyond 64 bits.
    #[error("is too large a size")]
    Range,
}

/// Binary units first: a size is shown in the largest one that divides it.
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

impl FromStr for ByteSize {
    type Err = InvalidByteSize;

    fn from_str(text: &str) -> Result<Self, InvalidByteSize> {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(end);
        if digits.is_empty() || digits.len() > 20 {
            return Err(InvalidByteSize::Form);
        }
        let Some((_, factor)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(unknown_unit(digits, unit));
        };
        let number: u64 = digits.parse().map_err(|_| InvalidByteSize::Range)?;
        number.checked_mul(*factor).map(Self).ok_or(InvalidByteSize::Range)
    }
}

fn unknown_unit(digits: &str, unit: &str) -> InvalidByteSize {
    let plain = unit.trim().to_ascii_uppercase();
    let meant = UNITS.iter().map(|(name, _)| *name).find(|name| {
        let name = name.to_ascii_uppercase();
        // `M` and `Mi` are other tools' ways to write it, `m` and `mib` slips.
        name == plain
            || (!plain.is_empty() && name.trim_end_matches('B') == plain)
            || name.replace("IB", "") == plain
    });
    match meant {
        Some(meant) => InvalidByteSize::Unit(unit.trim().to_owned(), format!("{digits}{meant}")),
        None => InvalidByteSize::Form,
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, factor): &&(&str, u64)| self.0 >= *factor && self.0.is_multiple_of(*factor);
        match UNITS.iter().find(fits) {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}B", self.0),
        }
    }
}

/// A size within bounds.
pub(super) fn read(reader: &mut Reader<'_>, entry: &Entry<'_, '_>, (least, most): (u64, u64)) -> Option<u64> {
    let text = reader.text_like(entry, "a size in quotes, such as \"1GiB\"")?;
    match text.parse::<ByteSize>() {
        Ok(ByteSize(size)) if (least..=most).contains(&size) => Some(size),
        Ok(size) => {
            let (least, most) = (ByteSize(least), ByteSize(most));
            reader.problem(entry, format!("is {size}; it has to be between {least} and {most}"));
            None
        }
        Err(error) => {
            reader.problem(entry, error.to_string());
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("1GiB", 1 << 30),
            ("512MiB", 512 << 20),
            ("4GB", 4_000_000_000),
            ("0B", 0),
            ("123B", 123),
            ("007KiB", 7 << 10),
            ("18446744073709551615B", u64::MAX),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for bad in ["", "GiB", "1.5GiB", "-1GiB", "1 G B", "1GiBB", "1PiB", "+1B", "1_0B", "\u{661}GiB", "12"]
        {
            assert_eq!(bad.parse::<ByteSize>(), Err(InvalidByteSize::Form), "{bad}");
        }
        for (slip, meant) in
            [("1G", "1GiB"), ("1gib", "1GiB"), ("1 GiB", "1GiB"), ("2Mi", "2MiB"), ("3mb", "3MB")]
        {
            assert!(
                matches!(slip.parse::<ByteSize>(), Err(InvalidByteSize::Unit(_, text)) if text == meant),
                "{slip}"
            );
        }
        for huge in ["18446744073709551616B", "16777216TiB", "99999999999999999999TiB"] {
            assert_eq!(huge.parse::<ByteSize>(), Err(InvalidByteSize::Range), "{huge}");
        }
    }

    proptest! {
        #[test]
        fn shown_sizes_are_read_back(bytes: u64, shift in 0u32..64) {
            let size = ByteSize(bytes >> shift << (shift / 2));
            prop_assert_eq!(size.to_string().parse(), Ok(size));
        }

        #[test]
        fn any_text_is_answered(text: String) {
            if let Ok(size) = text.parse::<ByteSize>() {
                prop_assert!(text.starts_with(|c: char| c.is_ascii_digit()));
                prop_assert_eq!(size.to_string().parse(), Ok(size));
            }
        }

        #[test]
        fn number_times_unit(number in 0u64..1 << 20, unit in 0usize..9) {
            let (name, factor) = UNITS[unit];
            prop_assert_eq!(format!("{number}{name}").parse(), Ok(ByteSize(number * factor)));
        }
    }
}
