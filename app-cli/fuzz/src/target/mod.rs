//! What is fuzzed. A target is given any bytes; it panics where a parser does, or breaks a promise of its own.

mod agent;
mod bundle;
mod edge;
mod egress;
mod files;
mod manifest;
mod resume;
mod snapshot;
mod text;
mod wire;

/// Bytes in, a panic where something is wrong.
pub struct Target {
    /// Names it, and its corpus.
    pub name: &'static str,
    /// Looks at one input.
    pub run: fn(&[u8]),
    /// Well-formed inputs, to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Words of its language.
    pub words: &'static [&'static [u8]],
    /// The longest input that is of use, in bytes.
    pub longest: usize,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    bundle::BUNDLE,
    bundle::TAR,
    manifest::MANIFEST,
    wire::FRAME,
    wire::MESSAGE,
    wire::PATH,
    text::TEXT,
    text::SSH_KEY,
    edge::REQUEST,
    edge::CURSOR,
    agent::SFTP,
    agent::TREE,
    snapshot::SNAPSHOT,
    resume::RESUME,
    egress::EGRESS,
    files::FILE_QUERY,
];

/// The target of this name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

fn texts(all: &[&str]) -> Vec<Vec<u8>> {
    all.iter().map(|text| text.as_bytes().to_vec()).collect()
}
