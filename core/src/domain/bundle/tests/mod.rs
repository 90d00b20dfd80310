//! Bundles made by the usual packers, and ones made by hand to do harm.

mod damaged;
mod hostile_pack;
mod hostile_tar;
mod manifest;
mod wellformed;

use std::io::Write as _;

use super::*;

/// A header block by hand, for what packers refuse to write.
#[derive(Clone, Copy)]
struct Block([u8; 512]);

impl Block {
    fn new(name: &str, kind: u8, size: u64) -> Self {
        let mut block = Self([0; 512]);
        block.put(0, name.as_bytes());
        block.put(100, b"0000644\0");
        block.put(108, b"0000000\0");
        block.put(116, b"0000000\0");
        block.put(124, format!("{size:011o}\0").as_bytes());
        block.put(136, b"00000000000\0");
        block.0[156] = kind;
        block.put(257, b"ustar\x0000");
        block.sealed()
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn with(mut self, at: usize, bytes: &[u8]) -> Self {
        self.put(at, bytes);
        self.sealed()
    }

    fn link(self, target: &str) -> Self {
        self.with(157, target.as_bytes())
    }

    /// With the right checksum.
    fn sealed(mut self) -> Self {
        self.put(148, b"        ");
        let sum: u32 = self.0.iter().copied().map(u32::from).sum();
        self.put(148, format!("{sum:06o}\0 ").as_bytes());
        self
    }
}

/// A tar by hand.
#[derive(Clone, Default)]
struct Tar(Vec<u8>);

impl Tar {
    /// With a manifest as the first member.
    fn new() -> Self {
        Self::default().file("flare.toml", b"base = 'default'\n")
    }

    fn block(mut self, block: Block) -> Self {
        self.0.extend_from_slice(&block.0);
        self
    }

    fn content(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        let length = self.0.len().next_multiple_of(512);
        self.0.resize(length, 0);
        self
    }

    fn member(self, name: &str, kind: u8, bytes: &[u8]) -> Self {
        self.block(Block::new(name, kind, bytes.len() as u64)).content(bytes)
    }

    fn file(self, name: &str, bytes: &[u8]) -> Self {
        self.member(name, b'0', bytes)
    }

    fn folder(self, name: &str) -> Self {
        self.member(name, b'5', b"")
    }

    fn link(self, name: &str, target: &str) -> Self {
        self.block(Block::new(name, b'2', 0).link(target))
    }

    fn pax(self, records: &[(&str, &str)]) -> Self {
        let text: String = records.iter().map(|(key, value)| pax_record(key, value)).collect();
        self.member("PaxHeaders/x", b'x', text.as_bytes())
    }

    /// The blocks of zeros.
    fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

fn pax_record(key: &str, value: &str) -> String {
    let body = key.len() + value.len() + 3;
    let mut length = body + 1;
    while body + length.to_string().len() != length {
        length += 1;
    }
    format!("{length} {key}={value}\n")
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

fn zst(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ::zstd::Encoder::new(Vec::new(), 3).expect("level");
    encoder.include_checksum(true).expect("flag");
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

/// In pieces that end at `cuts`.
fn inspect_in(limits: BundleLimits, packed: &[u8], cuts: &[usize]) -> Result<Inspected, BundleError> {
    let mut inspector = Inspector::new(limits);
    let mut begin = 0;
    for cut in cuts.iter().copied().chain([packed.len()]) {
        let end = cut.clamp(begin, packed.len());
        inspector.push(&packed[begin..end])?;
        begin = end;
    }
    inspector.finish()
}

fn inspect(packed: &[u8]) -> Result<Inspected, BundleError> {
    inspect_in(BundleLimits::default(), packed, &[])
}

/// The verdict on a tar, which has to be the same in both compressions and in pieces of one byte.
#[track_caller]
fn verdict(tar: &[u8]) -> Result<Inspected, BundleError> {
    let packed = [zst(tar), gz(tar)];
    let [first, second] = packed.each_ref().map(|packed| inspect(packed));
    let bytewise = inspect_in(BundleLimits::default(), &packed[0], &(0..packed[0].len()).collect::<Vec<_>>());
    assert_eq!(first, bytewise);
    assert_eq!(
        first.as_ref().map(|found| (&found.manifest, found.entries, found.expanded_bytes)),
        second.as_ref().map(|found| (&found.manifest, found.entries, found.expanded_bytes))
    );
    first
}

/// What is wrong with a tar.
#[track_caller]
fn tar_error(tar: &[u8]) -> TarError {
    match verdict(tar) {
        Err(BundleError::Tar { problem, .. }) => problem,
        other => panic!("{other:?}"),
    }
}
