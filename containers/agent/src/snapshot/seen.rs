//! What of a file's state tells whether it is still the one that was read.

use rustix::fs::{FileType, Stat};

use crate::folder;

/// State of something in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) kind: FileType,
    /// Permission bits that are kept: no set-id bits.
    pub(super) mode: u32,
    pub(super) mtime_ns: i64,
    pub(super) ctime_ns: i64,
    pub(super) inode: u64,
    pub(super) device: u64,
    pub(super) size: u64,
    /// Bytes that the disk holds for it.
    pub(super) held: u64,
    /// Names.
    pub(super) names: u64,
}

impl From<&Stat> for Seen {
    // The fields' types differ between architectures.
    #[allow(
        clippy::allow_attributes,
        clippy::useless_conversion,
        clippy::unnecessary_fallible_conversions,
        reason = "the fields' types differ between architectures"
    )]
    fn from(stat: &Stat) -> Self {
        let nanos = i64::try_from(stat.st_ctime_nsec).unwrap_or(0);
        Self {
            kind: folder::kind(stat),
            mode: stat.st_mode & 0o1777,
            mtime_ns: folder::mtime_ns(stat),
            ctime_ns: stat.st_ctime.saturating_mul(1_000_000_000).saturating_add(nanos),
            inode: stat.st_ino,
            device: stat.st_dev,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            held: u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512),
            names: u64::from(stat.st_nlink),
        }
    }
}

impl Seen {
    /// Whether nobody wrote between the two looks.
    pub(super) fn is_untouched(&self, later: &Self) -> bool {
        self.inode == later.inode
            && self.device == later.device
            && self.size == later.size
            && self.mtime_ns == later.mtime_ns
            && self.ctime_ns == later.ctime_ns
    }
}

/// File systems tick in milliseconds (ten at most); a write within the tick of the one before leaves no trace.
const TICK: i64 = 50_000_000;
/// Where times have no fraction, the file system may know none.
const SECOND: i64 = 1_000_000_000;

/// The racy-timestamp rule: whether a file of this status change time, read by a scan that began then, shows every
/// later write by another time.
pub(super) fn is_settled(ctime_ns: i64, began_ns: i64) -> bool {
    let tick = if ctime_ns % SECOND == 0 { 2 * SECOND } else { TICK };
    ctime_ns.saturating_add(tick) < began_ns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_as_young_as_the_scan_is_not_settled() {
        let began = 1_700_000_000_500_000_000;
        assert!(is_settled(began - TICK - 1, began));
        assert!(!is_settled(began - TICK, began));
        assert!(!is_settled(began, began));
        assert!(!is_settled(began + 1, began), "a clock that went back");
        assert!(!is_settled(1_699_999_999_000_000_000, began), "times in whole seconds");
        assert!(is_settled(1_699_999_998_000_000_000, began));
        assert!(!is_settled(i64::MAX, i64::MAX));
    }
}
