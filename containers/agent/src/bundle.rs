//! `PUT /v1/bundle`: a template's folder, unpacked into the first root under the entry policy.
//!
//! It is put together beside the root's content and moved there when all of it has passed: a refused bundle leaves
//! nothing behind.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;
use std::sync::Arc;

use burstflare_ports::wire::bundle::{BundleEntry, BundleKind, BundlePolicy};
use burstflare_ports::wire::path;
use burstflare_ports::wire::tree::{Digest, Entry, Kind, Summary};
use hyper::body::Incoming;
use rustix::fs::{AtFlags, Mode, OFlags};
use tar::EntryType;

use crate::agent::Agent;
use crate::body;
use crate::folder::{self, Missing, Staging, Trail};
use crate::reply::{self, Refused, Reply};
use crate::snapshot::swap;
use crate::tree::{Budget, HEADERS, Meter, copy};

const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const GZIP: [u8; 2] = [0x1f, 0x8b];
const BUFFER: usize = 128 << 10;
/// The largest zstd window that is accepted, as a power of two.
const WINDOW: u32 = 27;

/// Unpacks the body.
pub(crate) async fn receive(agent: &Arc<Agent>, body: Incoming) -> Result<Reply, Refused> {
    let turn = Arc::clone(&agent.roots_in_use).lock_owned().await;
    let roots = agent.roots.clone();
    let summary = body::read_by(body, move |archive| {
        swap::recover(&roots)?;
        let root = roots.first().map_or("", String::as_str);
        let result = unpack_into(root, archive);
        drop(turn);
        result
    })
    .await?;
    reply::json(&summary)
}

pub(crate) fn unpack_into(root: &str, archive: impl Read) -> Result<Summary, Refused> {
    let (mut staging, folder) = Staging::begin(root)?;
    let mut staged = Trail::new(folder);
    let packed = Counter::default();
    let reader = open(Counted { inner: archive, counter: packed.clone() })?;
    let entries = unpack(&mut staged, reader, &packed)?;
    finish_folders(&mut staged, &entries)?;
    folder::merge(staged.root(), staging.root())?;
    if let Some(own) = entries.iter().find(|entry| entry.path.is_empty()) {
        staging.settle(own.mode, own.mtime_ns);
    }
    Ok(summarise(entries))
}

/// Decompresses by the first bytes.
fn open<'r>(mut archive: impl Read + 'r) -> Result<Box<dyn Read + 'r>, Refused> {
    let mut magic = Vec::new();
    archive.by_ref().take(4).read_to_end(&mut magic).map_err(damaged)?;
    let whole = io::Cursor::new(magic.clone()).chain(archive);
    if magic == ZSTD {
        let mut decoder = zstd::stream::read::Decoder::new(whole)?;
        decoder.window_log_max(WINDOW)?;
        Ok(Box::new(decoder))
    } else if magic.starts_with(&GZIP) {
        Ok(Box::new(flate2::read::MultiGzDecoder::new(whole)))
    } else {
        Err(Refused::unacceptable("The bundle is neither tar.zst nor tar.gz."))
    }
}

fn damaged(what: impl std::fmt::Display) -> Refused {
    Refused::corrupt(format!("The bundle is damaged: {what}."))
}

fn unpack(staged: &mut Trail, reader: impl Read, packed: &Counter) -> Result<Vec<Entry>, Refused> {
    let mut policy = BundlePolicy::default();
    let (mut meter, budget) = Meter::new(reader);
    let mut entries = Vec::new();
    {
        let mut tar = tar::Archive::new(&mut meter);
        let mut members = tar.entries().map_err(damaged)?;
        let mut buffer = vec![0; BUFFER];
        loop {
            budget.allow(HEADERS);
            let Some(member) = members.next() else { break };
            let mut member = member.map_err(damaged)?;
            if member.header().entry_type() == EntryType::XGlobalHeader {
                // git archive puts its commit there.
                continue;
            }
            let mut ratio = Ratio { policy: &policy, budget: &budget, packed };
            ratio.check().map_err(breaks_a_rule)?;
            let (path, mut entry) = judge(&mut member, &mut policy)?;
            budget.allow(member.size().saturating_add(HEADERS));
            ratio = Ratio { policy: &policy, budget: &budget, packed };
            make(staged, &path, &mut entry, &mut Watched { inner: &mut member, ratio }, &mut buffer)?;
            entries.push(entry);
        }
    }
    // Nothing but padding may follow, and the checksum behind it has to hold.
    budget.allow(HEADERS);
    io::copy(&mut meter, &mut io::sink()).map_err(damaged)?;
    Ok(entries)
}

fn breaks_a_rule(refusal: impl std::fmt::Display) -> Refused {
    Refused::unacceptable(format!("The bundle is refused: {refusal}."))
}

/// Asks the policy. The answer is the clean path and what is known of the entry so far.
fn judge(
    member: &mut tar::Entry<'_, impl Read>,
    policy: &mut BundlePolicy,
) -> Result<(Vec<u8>, Entry), Refused> {
    let sparse = member
        .pax_extensions()
        .map_err(damaged)?
        .is_some_and(|records| records.flatten().any(|record| record.key_bytes().starts_with(b"GNU.sparse")));
    let kind = match member.header().entry_type() {
        EntryType::Directory => BundleKind::Folder,
        EntryType::Regular | EntryType::Continuous if !sparse => BundleKind::File,
        EntryType::Symlink => BundleKind::Link,
        EntryType::Link => BundleKind::HardLink,
        _ => BundleKind::Other,
    };
    let name = member.path_bytes().into_owned();
    let link = member.link_name_bytes().map(std::borrow::Cow::into_owned);
    let mode = member.header().mode().map_err(damaged)?;
    let size = member.size();
    let entry = BundleEntry { path: &name, kind, mode, size, link: link.as_deref() };
    let clean = policy.check(entry).map_err(breaks_a_rule)?;
    let kind = match kind {
        BundleKind::Folder => Kind::Folder,
        BundleKind::Link => Kind::Link,
        _ => Kind::File,
    };
    let mode = match kind {
        // The user can always work with what is their own.
        Kind::Folder => mode & 0o777 | 0o700,
        Kind::Link => 0o777,
        _ => mode & 0o777 | 0o600,
    };
    let seconds = member.header().mtime().unwrap_or(0);
    let entry = Entry {
        path: path::encode(&clean),
        kind,
        mode,
        mtime_ns: i64::try_from(seconds)
            .ok()
            .and_then(|seconds| seconds.checked_mul(1_000_000_000))
            .unwrap_or(0),
        size,
        blake3: None,
        link: link.filter(|_| kind == Kind::Link).as_deref().map(path::encode),
    };
    Ok((clean, entry))
}

fn make(
    staged: &mut Trail,
    path: &[u8],
    entry: &mut Entry,
    content: &mut impl Read,
    buffer: &mut [u8],
) -> Result<(), Refused> {
    if path.is_empty() {
        return Ok(());
    }
    let (parent, name) = staged.parent(path, Missing::Make)?;
    match entry.kind {
        Kind::Folder => match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700)) {
            // Made on the way to something in it; the policy knows no other reason.
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        },
        Kind::Link => {
            let target = entry.link.as_deref().and_then(path::decode).unwrap_or_default();
            rustix::fs::symlinkat(&target, parent, name)?;
            rustix::fs::utimensat(parent, name, &folder::times(entry.mtime_ns), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Kind::File | Kind::Pipe => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))?;
            let (size, hash) = copy(content, &file, buffer)?;
            if size != entry.size {
                return Err(damaged(format_args!("`{}` is cut off", entry.path)));
            }
            rustix::fs::fchmod(&file, Mode::from_raw_mode(entry.mode))?;
            rustix::fs::futimens(&file, &folder::times(entry.mtime_ns))?;
            entry.blake3 = Some(hash.to_hex().to_string());
        }
    }
    Ok(())
}

/// Folders get their mode and time when everything is in them; those that were only implied are like others.
fn finish_folders(staged: &mut Trail, entries: &[Entry]) -> Result<(), Refused> {
    let mut folders = std::collections::BTreeMap::new();
    for entry in entries {
        let bytes = path::decode(&entry.path).unwrap_or_default();
        for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            let parent = bytes.get(..at).unwrap_or_default().to_vec();
            folders.entry(parent).or_insert((0o755, None));
        }
        if entry.kind == Kind::Folder && !bytes.is_empty() {
            folders.insert(bytes, (entry.mode, Some(entry.mtime_ns)));
        }
    }
    for (folder_path, (mode, mtime_ns)) in folders.iter().rev() {
        let (parent, name) = staged.parent(folder_path, Missing::Fail)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = rustix::fs::openat(parent, name, flags, Mode::empty())?;
        rustix::fs::fchmod(&handle, Mode::from_raw_mode(*mode))?;
        if let Some(mtime_ns) = mtime_ns {
            rustix::fs::futimens(&handle, &folder::times(*mtime_ns))?;
        }
    }
    Ok(())
}

fn summarise(mut entries: Vec<Entry>) -> Summary {
    entries.sort_unstable_by(|one, other| one.path.cmp(&other.path));
    let mut digest = Digest::default();
    for entry in &entries {
        digest.add(entry);
    }
    digest.summary()
}

/// Packed bytes so far.
type Counter = Rc<Cell<u64>>;

struct Counted<R> {
    inner: R,
    counter: Counter,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.counter.set(self.counter.get() + length as u64);
        Ok(length)
    }
}

/// Holds the expansion to its ratio.
struct Ratio<'a> {
    policy: &'a BundlePolicy,
    budget: &'a Budget,
    packed: &'a Counter,
}

impl Ratio<'_> {
    fn check(&self) -> Result<(), burstflare_ports::wire::bundle::BundleRefusal> {
        self.policy.check_ratio(self.packed.get(), self.budget.total())
    }
}

struct Watched<'a, R> {
    inner: R,
    ratio: Ratio<'a>,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.ratio.check().map_err(io::Error::other)?;
        self.inner.read(buffer)
    }
}
