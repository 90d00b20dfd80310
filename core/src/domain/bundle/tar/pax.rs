use super::super::error::TarError;

/// What counts of an extended header (POSIX.1-2017, "pax Header Block").
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    /// The member is one of GNU's or star's sparse files.
    pub(super) sparse: bool,
}

impl Pax {
    /// Reads records of the form `LENGTH KEY=VALUE\n`, where the length counts itself. Times, owners and what vendors
    /// add are skipped; a key that comes twice is refused because readers disagree which one counts.
    pub(super) fn parse(mut records: &[u8]) -> Result<Self, TarError> {
        let mut pax = Self::default();
        while !records.is_empty() {
            let (record, rest) = split_record(records).ok_or(TarError::Extension)?;
            records = rest;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or(TarError::Extension)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            match key {
                b"path" => set(&mut pax.path, name(value)?, "the path")?,
                b"linkpath" => set(&mut pax.link, name(value)?, "the link's target")?,
                b"size" => set(&mut pax.size, decimal(value).ok_or(TarError::Number("size"))?, "the size")?,
                b"" => return Err(TarError::Extension),
                _ if key.starts_with(b"GNU.sparse.") || key.starts_with(b"SCHILY.realsize") => {
                    pax.sparse = true;
                }
                _ => {}
            }
        }
        Ok(pax)
    }

    /// Whether it may stand before all members: `git archive` writes its commit so, and nothing else is wanted.
    pub(super) fn check_global(&self) -> Result<(), TarError> {
        let sets = [
            ("path", self.path.is_some()),
            ("linkpath", self.link.is_some()),
            ("size", self.size.is_some()),
            ("GNU.sparse", self.sparse),
        ];
        match sets.into_iter().find(|(_, is_set)| *is_set) {
            Some((key, _)) => Err(TarError::Global(key)),
            None => Ok(()),
        }
    }
}

/// The first record without its length and newline, and what follows it.
fn split_record(records: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = records.iter().position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(records.get(..space)?)?).ok()?;
    let record = records.get(space + 1..length)?.strip_suffix(b"\n")?;
    Some((record, records.get(length..)?))
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// An empty value would take the name away again; nobody needs that.
fn name(value: &[u8]) -> Result<Vec<u8>, TarError> {
    if value.is_empty() || value.contains(&0) { Err(TarError::Extension) } else { Ok(value.to_vec()) }
}

fn set<T>(slot: &mut Option<T>, value: T, what: &'static str) -> Result<(), TarError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(TarError::Ambiguous(what)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records() {
        // Values may hold equals signs and newlines: only the length counts.
        let records =
            b"12 path=a/b\n14 linkpath=c\n10 size=7\n13 mtime=1.5\n11 x=a=b\nc\n22 SCHILY.xattr.a=\n\n\n\n";
        let pax = Pax::parse(records).expect("fine");
        let whole =
            Pax { path: Some(b"a/b".to_vec()), link: Some(b"c".to_vec()), size: Some(7), sparse: false };
        assert_eq!(pax, whole);
    }

    #[test]
    fn malformed_records() {
        for bad in [
            &b"path=a\n"[..],
            b"9 path=a",
            b"8 path=a\n",
            b"11 path=a\n",
            b"0 path=a\n",
            b"1 \n",
            b"-9 path=a\n",
            b"99999999999999999999999 path=a\n",
            b"8 path=\n",
            b"11 path=a\0\n",
            b"8 patha\n",
            b"5 =a\n",
            b"11 size=-1\n",
            b"8 size=\n",
            b"29 size=18446744073709551616\n",
        ] {
            assert!(Pax::parse(bad).is_err(), "{:?}", String::from_utf8_lossy(bad));
        }
        assert_eq!(Pax::parse(b"10 path=a\n10 path=a\n"), Err(TarError::Ambiguous("the path")));
        assert_eq!(Pax::parse(b"9 path=a\n9 path=b\n"), Err(TarError::Ambiguous("the path")));
        assert_eq!(Pax::parse(b"9 size=1\n9 size=1\n"), Err(TarError::Ambiguous("the size")));
    }
}
