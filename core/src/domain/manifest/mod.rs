//! `flare.toml`: what a template's author may say, read strictly.
//!
//! [`parse`] knows every key. Unknown keys, wrong types and values out of bounds are [`Problem`]s with line and key,
//! all of them at once where the text is TOML at all. Keys that are accepted and have no effect yet are listed in
//! [`VersionSpec::not_supported_yet`]. Nothing here asks what a plan or a deployment allows: whether the base exists,
//! `never` may be said or the machine may be that large is decided with the plan at hand.
//!
//! ```
//! use burstflare_core::domain::manifest::{self, ManifestLimits};
//!
//! let spec = manifest::parse("setup = ['make deps']", &ManifestLimits::default())?;
//! assert_eq!((spec.base.as_str(), spec.limits.memory), ("default", 1 << 30));
//!
//! let error = manifest::parse("\nsetpu = []", &ManifestLimits::default()).expect_err("a typo");
//! assert_eq!(error.to_string(), "flare.toml line 2: `setpu` is not a key of flare.toml; did you mean `setup`?");
//! # Ok::<(), manifest::ManifestError>(())
//! ```

mod document;
mod env;
mod error;
mod near;
mod persist;
mod ports;
mod resources;
mod size;
mod sleep;
mod steps;
#[cfg(test)]
mod tests;

use burstflare_ports::machine::Limits;
use burstflare_ports::record::VersionSpec;
use burstflare_ports::text::Slug;
use toml::de::DeTable;

pub use error::{ManifestError, Problem};
pub use size::{ByteSize, InvalidByteSize};
pub use sleep::{InvalidSleepAfter, SleepAfter};

use document::{Reader, Table, syntax_problem};

/// The base where none is named; every deployment has it.
pub const DEFAULT_BASE: &str = "default";
/// Idle time before sleep where none is given: 30 minutes, in seconds.
pub const DEFAULT_SLEEP_S: u64 = 30 * 60;
/// The machine where no `[resources]` are given.
pub const DEFAULT_LIMITS: Limits = Limits { cpu_millis: 1000, memory: 1 << 30, disk: 4 << 30, pids: 512 };
/// Below which folders persist. The default of `persist`.
pub const ROOTS: [&str; 2] = ["/workspace", "/home/flare"];

/// Upper bounds of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestLimits {
    /// Bytes of the text.
    pub text: usize,
    /// Lines of `setup`.
    pub steps: usize,
    /// Bytes of one line of `setup`, and of `on_start`.
    pub step: usize,
    /// Variables in `[env]`.
    pub variables: usize,
    /// Bytes of one variable's value.
    pub value: usize,
    /// Entries of `[[ports]]`.
    pub ports: usize,
    /// Entries of `persist`.
    pub persist: usize,
    /// Bytes of memory, at least and at most.
    pub memory: (u64, u64),
    /// Bytes of disk, at least and at most.
    pub disk: (u64, u64),
    /// Thousandths of a core, at least and at most.
    pub cpu_millis: (u32, u32),
    /// Seconds of idle time, at least and at most.
    pub sleep_s: (u64, u64),
}

impl Default for ManifestLimits {
    fn default() -> Self {
        Self {
            text: 64 << 10,
            steps: 64,
            step: 4096,
            variables: 256,
            value: 16 << 10,
            ports: 32,
            persist: 32,
            memory: (64 << 20, 1 << 40),
            disk: (64 << 20, 16 << 40),
            cpu_millis: (100, 64_000),
            sleep_s: (10, 7 * 24 * 3600),
        }
    }
}

const KEYS: [&str; 8] = ["base", "setup", "on_start", "sleep_after", "persist", "env", "ports", "resources"];
/// What other tools call a template's source; people will try them here.
const LATER: [&str; 3] = ["dockerfile", "image", "devcontainer"];

/// Reads the text of a `flare.toml`. A byte order mark and CRLF line ends are accepted.
///
/// # Errors
/// Everything that is wrong with it, at most [`ManifestError::MOST`] problems, in the order of lines; where it is no
/// TOML, the problems of syntax only.
pub fn parse(text: &str, limits: &ManifestLimits) -> Result<VersionSpec, ManifestError> {
    if text.len() > limits.text {
        let sentence = format!("the file is larger than {} bytes", limits.text);
        return Err(ManifestError::one(Problem::of_file(sentence)));
    }
    // A line end inside a multi-line string would otherwise reach the shell as a carriage return.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
    let (root, errors) = DeTable::parse_recoverable(&text);
    if !errors.is_empty() {
        return Err(ManifestError::new(errors.iter().map(|error| syntax_problem(&text, error)).collect()));
    }
    let mut reader = Reader::new(&text);
    let spec = read(&mut reader, root.get_ref(), limits);
    reader.finish()?;
    Ok(spec)
}

/// Reads the bytes of a `flare.toml`, as [`parse`] does.
///
/// # Errors
/// As [`parse`], and bytes that are not UTF-8.
pub fn parse_bytes(bytes: &[u8], limits: &ManifestLimits) -> Result<VersionSpec, ManifestError> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(ManifestError::one(Problem::of_file("the file is UTF-16; save it as UTF-8".to_owned())));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => parse(text, limits),
        Err(error) => {
            let good = bytes.iter().take(error.valid_up_to());
            let line = good.filter(|byte| **byte == b'\n').count() + 1;
            Err(ManifestError::one(Problem::at_line(
                line,
                "this is not UTF-8; save the file as UTF-8".to_owned(),
            )))
        }
    }
}

fn read(reader: &mut Reader<'_>, root: &DeTable<'_>, limits: &ManifestLimits) -> VersionSpec {
    let table = Table::root(root);
    for key in LATER {
        if let Some(entry) = table.get(key) {
            reader.problem(
                &entry,
                "is not supported yet; templates build on a `base` with `setup` steps for now".to_owned(),
            );
        }
    }
    let known: Vec<&str> = KEYS.iter().chain(&LATER).copied().collect();
    reader.only_keys(&table, &known, &KEYS);

    let mut not_supported_yet = Vec::new();
    let base = table.get("base").and_then(|entry| {
        let text = reader.text(&entry)?;
        if let Err(rule) = text.parse::<Slug>() {
            reader.problem(&entry, format!("is no name of a base: {rule}"));
        }
        Some(text.to_owned())
    });
    let sleep_after_s = match table.get("sleep_after") {
        None => Some(DEFAULT_SLEEP_S),
        Some(entry) => sleep::read(reader, &entry, limits),
    };
    let persist = persist::read(reader, table.get("persist"), limits);
    if !persist.iter().eq(ROOTS.iter()) {
        not_supported_yet.push(format!(
            "`persist` is kept and has no effect yet: all of {} and {} persists.",
            ROOTS[0], ROOTS[1]
        ));
    }
    let ports = ports::read(reader, table.get("ports"), limits);
    VersionSpec {
        base: base.unwrap_or_else(|| DEFAULT_BASE.to_owned()),
        setup: steps::read_setup(reader, table.get("setup"), limits),
        on_start: steps::read_on_start(reader, table.get("on_start"), limits),
        sleep_after_s,
        persist,
        env: env::read(reader, table.get("env"), limits),
        ports,
        limits: resources::read(reader, table.get("resources"), limits),
        not_supported_yet,
    }
}
