//! Members of the archive: written so that names, link targets and times come back byte by byte.
//!
//! Written by hand where the tar crate would tidy a path up. Long names and targets use GNU's `L` and `K` headers,
//! which hold any byte (a pax record could not hold a newline for every reader), times a pax `mtime`.

use std::io::{self, Write};

use burstflare_ports::wire::tree::Kind;
use tar::{EntryType, Header};

const BLOCK: usize = 512;
/// What fits into a header's name and link fields.
const SHORT: usize = 100;

/// One member, without its content.
pub(crate) struct Member<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) mtime_ns: i64,
    pub(crate) size: u64,
    pub(crate) link: Option<&'a [u8]>,
}

impl Member<'_> {
    /// Writes the headers. `size` bytes of content and [`padding`] have to follow.
    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let time = format!("mtime={}\n", decimal(self.mtime_ns));
        write_extension(out, EntryType::XHeader, b"pax", &pax_record(&time))?;
        let link = self.link.unwrap_or_default();
        if link.len() > SHORT {
            write_extension(out, EntryType::GNULongLink, b"././@LongLink", &with_nul(link))?;
        }
        if self.name.len() > SHORT {
            write_extension(out, EntryType::GNULongName, b"././@LongLink", &with_nul(self.name))?;
        }
        let kind = match self.kind {
            Kind::Folder => EntryType::Directory,
            Kind::File => EntryType::Regular,
            Kind::Link => EntryType::Symlink,
            Kind::Pipe => EntryType::Fifo,
        };
        let mut header = header(kind, self.name, self.size);
        header.set_mode(self.mode);
        header.set_mtime(u64::try_from(self.mtime_ns.div_euclid(1_000_000_000)).unwrap_or(0));
        if self.kind == Kind::Link {
            header.set_link_name_literal(link.get(..SHORT).unwrap_or(link))?;
        }
        header.set_cksum();
        out.write_all(header.as_bytes())
    }
}

/// Fills the last block of so many bytes of content.
pub(crate) fn padding(size: u64, out: &mut impl Write) -> io::Result<()> {
    let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
    if over == 0 { Ok(()) } else { out.write_all(&[0; BLOCK][over..]) }
}

/// The two empty blocks that end an archive.
pub(crate) fn end(out: &mut impl Write) -> io::Result<()> {
    out.write_all(&[0; 2 * BLOCK])
}

fn header(kind: EntryType, name: &[u8], size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    // The user's, inside.
    header.set_uid(1000);
    header.set_gid(1000);
    let short = name.get(..SHORT).unwrap_or(name);
    if let Some(field) = header.as_old_mut().name.get_mut(..short.len()) {
        field.copy_from_slice(short);
    }
    header
}

fn write_extension(out: &mut impl Write, kind: EntryType, name: &[u8], content: &[u8]) -> io::Result<()> {
    let mut header = header(kind, name, content.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_cksum();
    out.write_all(header.as_bytes())?;
    out.write_all(content)?;
    padding(content.len() as u64, out)
}

fn with_nul(bytes: &[u8]) -> Vec<u8> {
    [bytes, b"\0"].concat()
}

/// `LENGTH KEY=VALUE\n`, the length counting itself.
fn pax_record(record: &str) -> Vec<u8> {
    let bare = record.len() + 1;
    let mut length = bare + 1;
    while bare + length.to_string().len() != length {
        length += 1;
    }
    format!("{length} {record}").into_bytes()
}

/// Nanoseconds as pax writes times: seconds with nine decimals.
fn decimal(nanos: i64) -> String {
    let (sign, nanos) = (if nanos < 0 { "-" } else { "" }, nanos.unsigned_abs());
    format!("{sign}{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000)
}

/// Back from [`decimal`]; also takes fewer decimals, as other writers make them.
pub(crate) fn parse_decimal(text: &str) -> Option<i64> {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 9 || !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    let nanos: i64 = format!("{fraction:0<9}").parse().ok()?;
    let magnitude = seconds.parse::<i64>().ok()?.checked_mul(1_000_000_000)?.checked_add(nanos)?;
    Some(if negative { -magnitude } else { magnitude })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_back() {
        for nanos in [0, 1, -1, 1_700_000_000_123_456_789, -1_500_000_000, i64::MAX, i64::MIN + 1] {
            assert_eq!(parse_decimal(&decimal(nanos)), Some(nanos));
        }
        assert_eq!(parse_decimal("12.5"), Some(12_500_000_000));
        assert_eq!(parse_decimal("12"), Some(12_000_000_000));
        for text in ["", "x", "1.2.3", "1.0000000001", "--1", "99999999999999"] {
            assert_eq!(parse_decimal(text), None, "{text}");
        }
    }

    #[test]
    fn pax_records_count_themselves() {
        assert_eq!(pax_record("a=1\n"), b"6 a=1\n");
        assert_eq!(pax_record("abc=12345\n"), b"13 abc=12345\n");
    }
}
