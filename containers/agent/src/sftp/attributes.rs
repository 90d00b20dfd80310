//! Attributes of files: on the wire, from the system, and as a line of `ls -l`.

use std::fmt::Write as _;

use bytes::{BufMut, BytesMut};
use rustix::fs::{FileType, Stat};

use super::wire::Reader;

const SIZE: u32 = 1;
const OWNER: u32 = 2;
const MODE: u32 = 4;
const TIMES: u32 = 8;
const EXTENDED: u32 = 0x8000_0000;

/// What is known, or to be set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) size: Option<u64>,
    pub(super) owner: Option<(u32, u32)>,
    pub(super) mode: Option<u32>,
    /// Of access and modification, in seconds.
    pub(super) times: Option<(u32, u32)>,
}

impl Attributes {
    /// From a request; `None` where it is too short.
    pub(super) fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let flags = reader.number()?;
        let mut all = Self::default();
        if flags & SIZE != 0 {
            all.size = Some(reader.long()?);
        }
        if flags & OWNER != 0 {
            all.owner = Some((reader.number()?, reader.number()?));
        }
        if flags & MODE != 0 {
            all.mode = Some(reader.number()?);
        }
        if flags & TIMES != 0 {
            all.times = Some((reader.number()?, reader.number()?));
        }
        if flags & EXTENDED != 0 {
            for _ in 0..reader.number()? {
                reader.bytes()?;
                reader.bytes()?;
            }
        }
        Some(all)
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        let flag = |known: bool, flag| if known { flag } else { 0 };
        out.put_u32(
            flag(self.size.is_some(), SIZE)
                | flag(self.owner.is_some(), OWNER)
                | flag(self.mode.is_some(), MODE)
                | flag(self.times.is_some(), TIMES),
        );
        if let Some(size) = self.size {
            out.put_u64(size);
        }
        if let Some((user, group)) = self.owner {
            out.put_u32(user);
            out.put_u32(group);
        }
        if let Some(mode) = self.mode {
            out.put_u32(mode);
        }
        if let Some((accessed, modified)) = self.times {
            out.put_u32(accessed);
            out.put_u32(modified);
        }
    }
}

impl From<&Stat> for Attributes {
    fn from(stat: &Stat) -> Self {
        let seconds = |time: i64| u32::try_from(time.max(0)).unwrap_or(u32::MAX);
        Self {
            size: Some(u64::try_from(stat.st_size).unwrap_or(0)),
            owner: Some((stat.st_uid, stat.st_gid)),
            mode: Some(stat.st_mode),
            times: Some((seconds(stat.st_atime), seconds(stat.st_mtime))),
        }
    }
}

/// Half a year: older files show their year, younger ones their time.
const RECENT: i64 = 183 * 86_400;

/// A line as `ls -l` has it, in UTC.
pub(super) fn line(name: &[u8], stat: &Stat, now: i64) -> Vec<u8> {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => 'd',
        FileType::Symlink => 'l',
        FileType::Fifo => 'p',
        FileType::Socket => 's',
        FileType::CharacterDevice => 'c',
        FileType::BlockDevice => 'b',
        _ => '-',
    };
    let mut line = String::from(kind);
    for shift in [6, 3, 0] {
        for (bit, letter) in [(4, 'r'), (2, 'w'), (1, 'x')] {
            line.push(if stat.st_mode >> shift & bit == 0 { '-' } else { letter });
        }
    }
    let (year, month, day) = civil(stat.st_mtime.div_euclid(86_400));
    let minute = stat.st_mtime.rem_euclid(86_400) / 60;
    // Writing to a String cannot fail.
    let _ = write!(
        line,
        " {:>4} {:<8} {:<8} {:>8} {month} {day:>2} ",
        stat.st_nlink, stat.st_uid, stat.st_gid, stat.st_size,
    );
    let _ = if (now - RECENT..=now + 60).contains(&stat.st_mtime) {
        write!(line, "{:02}:{:02} ", minute / 60, minute % 60)
    } else {
        write!(line, "{year:>5} ")
    };
    [line.as_bytes(), name].concat()
}

/// The date of a day since 1970, in the Gregorian calendar.
fn civil(days: i64) -> (i64, &'static str, i64) {
    const MONTHS: [&str; 12] =
        ["Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec", "Jan", "Feb"];
    // Years begin in March here, so that the leap day is the last one.
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let name = usize::try_from(month).ok().and_then(|month| MONTHS.get(month)).copied().unwrap_or("???");
    (year + era * 400 + i64::from(month >= 10), name, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right() {
        assert_eq!(civil(0), (1970, "Jan", 1));
        assert_eq!(civil(-1), (1969, "Dec", 31));
        assert_eq!(civil(11_016), (2000, "Feb", 29));
        assert_eq!(civil(20_780), (2026, "Nov", 23));
    }

    use proptest::prelude::*;

    proptest! {
        #[test]
        fn attributes_come_back_and_cut_ones_are_refused(
            size in any::<Option<u64>>(),
            owner in any::<Option<(u32, u32)>>(),
            mode in any::<Option<u32>>(),
            times in any::<Option<(u32, u32)>>(),
            cut in 1..8usize,
        ) {
            let all = Attributes { size, owner, mode, times };
            let mut packet = BytesMut::new();
            all.encode(&mut packet);
            prop_assert_eq!(Attributes::decode(&mut Reader::new(&packet)), Some(all));
            let short = packet.len().saturating_sub(cut);
            prop_assert_eq!(Attributes::decode(&mut Reader::new(&packet[..short])), None);
        }

        #[test]
        fn any_bytes_are_read_without_panic(packet in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut reader = Reader::new(&packet);
            while reader.bytes().is_some() && reader.long().is_some() {}
            let _ = Attributes::decode(&mut Reader::new(&packet));
        }
    }
}
