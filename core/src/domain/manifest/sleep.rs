use std::fmt;
use std::str::FromStr;

use super::document::{Entry, Reader};
use super::{DEFAULT_SLEEP_S, ManifestLimits};

/// Idle time before a session goes to sleep: `90s`, `30m`, `2h`, `1d`, or `never`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SleepAfter {
    /// It stays awake.
    Never,
    /// After so many seconds.
    Seconds(u64),
}

/// Text that is no [`SleepAfter`]; the message says what would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "is not an idle time; write a whole number and s, m, h or d, such as \"30m\" or \"2h\", or \"never\""
)]
pub struct InvalidSleepAfter;

const UNITS: [(&str, u64); 4] = [("d", 24 * 3600), ("h", 3600), ("m", 60), ("s", 1)];

impl FromStr for SleepAfter {
    type Err = InvalidSleepAfter;

    fn from_str(text: &str) -> Result<Self, InvalidSleepAfter> {
        if text == "never" {
            return Ok(Self::Never);
        }
        let end = text.find(|c: char| !c.is_ascii_digit()).ok_or(InvalidSleepAfter)?;
        let (digits, unit) = text.split_at(end);
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or(InvalidSleepAfter)?;
        let number: u64 = digits.parse().map_err(|_| InvalidSleepAfter)?;
        number.checked_mul(*factor).map(Self::Seconds).ok_or(InvalidSleepAfter)
    }
}

impl fmt::Display for SleepAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Seconds(seconds) = *self else { return f.write_str("never") };
        let fits = |(_, factor): &&(&str, u64)| seconds >= *factor && seconds.is_multiple_of(*factor);
        match UNITS.iter().find(fits) {
            Some((unit, factor)) => write!(f, "{}{unit}", seconds / factor),
            None => write!(f, "{seconds}s"),
        }
    }
}

/// Seconds, or none for never.
pub(super) fn read(reader: &mut Reader<'_>, entry: &Entry<'_, '_>, limits: &ManifestLimits) -> Option<u64> {
    let text = reader.text_like(entry, "an idle time in quotes, such as \"30m\"")?;
    let (least, most) = limits.sleep_s;
    match text.parse() {
        Ok(SleepAfter::Never) => None,
        Ok(SleepAfter::Seconds(seconds)) if (least..=most).contains(&seconds) => Some(seconds),
        Ok(given) => {
            let (least, most) = (SleepAfter::Seconds(least), SleepAfter::Seconds(most));
            reader
                .problem(entry, format!("is {given}; it has to be between {least} and {most}, or \"never\""));
            Some(DEFAULT_SLEEP_S)
        }
        Err(error) => {
            reader.problem(entry, error.to_string());
            Some(DEFAULT_SLEEP_S)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn idle_times() {
        for (text, seconds) in [("90s", 90), ("30m", 1800), ("2h", 7200), ("7d", 604_800), ("0s", 0)] {
            assert_eq!(text.parse(), Ok(SleepAfter::Seconds(seconds)), "{text}");
        }
        assert_eq!("never".parse(), Ok(SleepAfter::Never));
        for bad in [
            "",
            "m",
            "30",
            "30M",
            "1h30m",
            "-1m",
            "1.5h",
            "30 m",
            "Never",
            "99999999999999999999d",
            "1\u{b5}s",
        ] {
            assert_eq!(bad.parse::<SleepAfter>(), Err(InvalidSleepAfter), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn shown_times_are_read_back(seconds: u64, shift in 0u32..64) {
            let time = SleepAfter::Seconds(seconds >> shift);
            prop_assert_eq!(time.to_string().parse(), Ok(time));
        }

        #[test]
        fn any_text_is_answered(text: String) {
            let _ = text.parse::<SleepAfter>();
        }
    }
}
