//! The scan: the roots beside the parent's tree, and reading what is not as it was.

use std::collections::HashMap;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use burstflare_ports::wire::path;
use burstflare_ports::wire::snapshot::manifest::Tables;
use burstflare_ports::wire::snapshot::tree::{Body, Entry, Extent, File};
use burstflare_ports::wire::snapshot::{Hash, MAX_PATH, MAX_TARGET, Missing, Scanned};
use burstflare_ports::wire::tree::Digest;
use rustix::fs::FileType;

use super::before::{Before, Manifest};
use super::content::{Content, Cutter};
use super::draft::{Draft, Group, Source};
use super::reach::Reach;
use super::seen::{Seen, is_settled};
use super::walk::{Found, Listings, walk};
use super::work::ordered;
use crate::reply::Refused;
use crate::tree::member_name;

/// Files that one thread reads before it asks for more.
const BATCH: usize = 64;
/// And their bytes.
const BATCH_BYTES: u64 = 4 << 20;
/// For so long the system may keep what was written in memory alone. Until then, more writes through a mapping do
/// not touch the file's times.
const WRITTEN_BACK: Duration = Duration::from_secs(300);

/// What a scan found: kept until its packs are asked for.
pub(super) struct Scan {
    pub(super) roots: Vec<String>,
    pub(super) began_ns: i64,
    pub(super) disk: Hash,
    pub(super) draft: Draft,
    pub(super) parent: Option<Arc<Tables>>,
    /// Folders that cannot be read without lifting their mode, by path.
    pub(super) shut: Vec<Vec<u8>>,
}

/// The machine's clock, nanoseconds since the epoch.
pub(super) fn now_ns() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |before| -before),
    }
}

/// Scans the roots. `began_ns` is now, by the machine's clock.
pub(super) fn scan(
    roots: &[String],
    parent: Option<&Manifest>,
    disk: Hash,
    began_ns: i64,
) -> Result<(Scan, Scanned), Refused> {
    let listings = walk(roots)?;
    let mut joined = match parent {
        Some(parent) => {
            let same = disk != Hash::default() && parent.tables.header.disk == disk;
            let mut before = Before::new(parent.entries()?)?;
            let trust = same.then_some(parent.tables.header.began_ns);
            let joined = join(roots, &listings, Some(&mut before), trust)?;
            before.finish()?;
            joined
        }
        None => join(roots, &listings, None::<&mut Before<std::io::Empty>>, None)?,
    };
    let tables = parent.map(|parent| Arc::clone(&parent.tables));
    let mut counts = Scanned { files: joined.files, ..Scanned::default() };
    counts.reused_files = joined.files - joined.names - joined.unread.len() as u64;
    take_over(&mut joined, tables.as_deref())?;
    let Joined { mut draft, unread, shut, .. } = joined;
    read_all(roots, &mut draft, unread, tables.as_deref(), &mut counts)?;
    drop(listings);
    let scan = Scan { roots: roots.to_vec(), began_ns, disk, draft, parent: tables, shut };
    scan.count(&mut counts)?;
    Ok((scan, counts))
}

impl Scan {
    /// What the parent's tables do not hold, in the order of first use.
    pub(super) fn missing(&self) -> impl Iterator<Item = Missing> {
        let new = self.draft.chunks.iter().filter(|known| matches!(known.source, Source::Entry(..)));
        new.map(|known| Missing { hash: known.hash, plain: known.plain })
    }

    fn count(&self, counts: &mut Scanned) -> Result<(), Refused> {
        let mut digest = Digest::default();
        self.draft.show(|entry| {
            entry.digest(&mut digest);
            Ok(())
        })?;
        let summary = digest.summary();
        counts.entries = summary.files;
        counts.bytes = summary.bytes;
        counts.digest = summary.digest;
        for missing in self.missing() {
            counts.new_chunks += 1;
            counts.new_bytes += u64::from(missing.plain);
        }
        counts.changed = self.draft.changed.clone();
        Ok(())
    }
}

/// The tree before anything was read.
#[derive(Default)]
struct Joined {
    draft: Draft,
    /// Entries whose content has to be read.
    unread: Vec<u32>,
    /// Names of groups, but the first ones.
    names: u64,
    files: u64,
    shut: Vec<Vec<u8>>,
    /// Groups by device and inode.
    groups: HashMap<(u64, u64), u32>,
}

/// Both trees by their order. Extents of what is taken over name chunks of the parent.
fn join<R: Read>(
    roots: &[String],
    listings: &Listings,
    before: Option<&mut Before<R>>,
    trust: Option<i64>,
) -> Result<Joined, Refused> {
    let mut join = Join { listings, before, trust, joined: Joined::default() };
    // Roots are siblings of a kind.
    let all: Vec<Found> = roots
        .iter()
        .zip(&listings.roots)
        .enumerate()
        .map(|(listing, (root, seen))| Found {
            name: member_name(root).into(),
            seen: *seen,
            target: Box::default(),
            listing,
        })
        .collect();
    join.folder(&all, &mut Vec::new())?;
    Ok(join.joined)
}

struct Join<'l, R> {
    listings: &'l Listings,
    before: Option<&'l mut Before<R>>,
    /// When the parent's scan began, where its disk was this one.
    trust: Option<i64>,
    joined: Joined,
}

impl<R: Read> Join<'_, R> {
    /// A tree sorted by whole paths visits a folder twice: as an entry (`a`), and for what is in it (`a/`), with
    /// siblings such as `a-b` between.
    fn folder(&mut self, found: &[Found], path: &mut Vec<u8>) -> Result<(), Refused> {
        let mut steps: Vec<(&Found, bool)> = Vec::with_capacity(found.len());
        for found in found {
            steps.push((found, false));
            if found.seen.kind == FileType::Directory {
                steps.push((found, true));
            }
        }
        // Most are in order already.
        steps.sort_by(|(one, one_inside), (other, other_inside)| {
            let slash = |inside: &bool| inside.then_some(&b'/');
            one.name.iter().chain(slash(one_inside)).cmp(other.name.iter().chain(slash(other_inside)))
        });
        let above = path.len();
        for (found, inside) in steps {
            path.truncate(above);
            if above > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(&found.name);
            if inside {
                let listings = self.listings;
                self.folder(listings.folders.get(found.listing).map_or(&[], Vec::as_slice), path)?;
            } else {
                self.entry(found, path)?;
            }
        }
        path.truncate(above);
        Ok(())
    }

    fn entry(&mut self, found: &Found, path: &[u8]) -> Result<(), Refused> {
        let at = u32::try_from(self.joined.draft.entries.len()).unwrap_or(u32::MAX);
        if path.len() > MAX_PATH || found.target.len() > MAX_TARGET {
            let shown = path::encode(path.get(..200).unwrap_or(path));
            return Err(Refused::too_large(format!("A path is too long: `{shown}`.")));
        }
        let body = match found.seen.kind {
            FileType::Directory => {
                if self.listings.shut.contains(found.listing) {
                    self.joined.shut.push(path.to_vec());
                }
                Body::Folder
            }
            FileType::Symlink => Body::Link(found.target.to_vec()),
            FileType::RegularFile => self.file(at, &found.seen, path)?,
            _ => Body::Pipe,
        };
        let Seen { mode, mtime_ns, .. } = found.seen;
        self.joined.draft.entries.push(Entry { path: path.to_vec(), mode, mtime_ns, body });
        Ok(())
    }

    fn file(&mut self, at: u32, seen: &Seen, path: &[u8]) -> Result<Body, Refused> {
        let Joined { draft, unread, names, files, groups, .. } = &mut self.joined;
        *files += 1;
        let key = (seen.device, seen.inode);
        if seen.names > 1
            && let Some(group) = groups.get(&key)
        {
            *names += 1;
            if let Some(known) = draft.groups.get_mut(*group as usize) {
                known.names.push(at);
            }
            return Ok(Body::Name { group: *group, size: 0, hash: Hash::default() });
        }
        let group = (seen.names > 1).then(|| {
            let group = u32::try_from(draft.groups.len()).unwrap_or(u32::MAX);
            groups.insert(key, group);
            draft.groups.push(Group { inode: seen.inode, names: Vec::new() });
            group
        });
        let was = match &mut self.before {
            Some(before) => before.find(path)?,
            None => None,
        };
        let same = was.filter(|was| {
            was.mtime_ns == seen.mtime_ns
                && was.file.size == seen.size
                && was.file.ctime_ns == seen.ctime_ns
                && was.file.inode == seen.inode
                && self.trust.is_some_and(|began| is_settled(seen.ctime_ns, began))
        });
        let (hash, extents) = match same {
            Some(was) => (was.file.hash, was.file.extents.clone()),
            None => {
                unread.push(at);
                (Hash::default(), Vec::new())
            }
        };
        let (size, ctime_ns, inode) = (seen.size, seen.ctime_ns, seen.inode);
        Ok(Body::File(File { size, hash, extents, group, ctime_ns, inode }))
    }
}

/// Gives chunks that were taken over numbers of this tree.
fn take_over(joined: &mut Joined, parent: Option<&Tables>) -> Result<(), Refused> {
    let Some(parent) = parent else { return Ok(()) };
    let draft = &mut joined.draft;
    for at in 0..draft.entries.len() {
        let Some(Entry { body: Body::File(file), .. }) = draft.entries.get_mut(at) else { continue };
        let mut extents = std::mem::take(&mut file.extents);
        for extent in &mut extents {
            if let Extent::Chunk(number) = extent
                && let Some(chunk) = parent.chunks.get(*number as usize)
            {
                let source = Source::Parent(*number);
                *number = draft.number(chunk.hash, chunk.plain, || source)?;
            }
        }
        if let Some(Entry { body: Body::File(file), .. }) = draft.entries.get_mut(at) {
            file.extents = extents;
        }
    }
    Ok(())
}

/// The parent's chunks by their hash.
pub(super) fn by_hash(parent: Option<&Tables>) -> HashMap<Hash, u32> {
    let chunks = parent.map_or(&[][..], |parent| &parent.chunks);
    chunks.iter().zip(0..).map(|(chunk, number)| (chunk.hash, number)).collect()
}

/// Reads what has to be read, on several threads.
fn read_all(
    roots: &[String],
    draft: &mut Draft,
    unread: Vec<u32>,
    parent: Option<&Tables>,
    counts: &mut Scanned,
) -> Result<(), Refused> {
    let parent = if unread.is_empty() { HashMap::new() } else { by_hash(parent) };
    let mut wanted = unread;
    // Each turn but the first reads names of files whose first name is gone.
    while !wanted.is_empty() {
        let files: Vec<(u32, Vec<u8>, u64)> = wanted
            .iter()
            .filter_map(|at| {
                let entry = draft.entries.get(*at as usize)?;
                Some((*at, entry.path.clone(), entry.size()))
            })
            .collect();
        let mut again = Vec::new();
        let tools = || (Reach::new(roots), Cutter::new());
        let work = |(reach, cutter): &mut (std::io::Result<Reach<'_>>, Cutter),
                    batch: &[(u32, Vec<u8>, u64)]| {
            let reach = reach.as_mut().map_err(|problem| Refused::internal(problem.to_string()))?;
            batch.iter().map(|(at, path, _)| Ok((*at, read(reach, cutter, path)?))).collect()
        };
        let sink = |results: Vec<(u32, Option<Content>)>| -> Result<(), Refused> {
            for (at, content) in results {
                again.extend(match content {
                    None => draft.lose(at),
                    Some(content) => {
                        counts.read_files += 1;
                        counts.read_bytes += content.read;
                        draft.fill(at, &content, &mut |hash, offset| {
                            parent
                                .get(hash)
                                .map_or(Source::Entry(at, offset), |number| Source::Parent(*number))
                        })?
                    }
                });
            }
            Ok(())
        };
        ordered(Batches { rest: &files }, tools, work, sink)?;
        wanted = again;
    }
    Ok(())
}

fn read(reach: &mut Reach<'_>, cutter: &mut Cutter, path: &[u8]) -> Result<Option<Content>, Refused> {
    let failed = |problem: std::io::Error| {
        let refused = Refused::from(problem);
        Refused {
            message: format!("`{}` cannot be read: {}", path::encode(path), refused.message),
            ..refused
        }
    };
    let Some(file) = reach.file(path).map_err(failed)? else { return Ok(None) };
    let seen = Seen::from(&rustix::fs::fstat(&file)?);
    if seen.ctime_ns.saturating_add(i64::try_from(WRITTEN_BACK.as_nanos()).unwrap_or(0)) > now_ns() {
        write_back(&file);
    }
    cutter.read(file.as_fd(), &mut |_, _| Ok(())).map(Some).map_err(failed)
}

/// Starts writing what is only in memory. From then on a write through a mapping touches the file's times again,
/// and the next scan sees that it happened.
fn write_back(file: &impl AsFd) {
    let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE;
    // SAFETY: the descriptor is open; nothing of ours is read or written. Where the file system cannot do it, the
    // file's times are what there is.
    unsafe { libc::sync_file_range(file.as_fd().as_raw_fd(), 0, 0, flags) };
}

/// Cuts a list of files into batches.
struct Batches<'f> {
    rest: &'f [(u32, Vec<u8>, u64)],
}

impl<'f> Iterator for Batches<'f> {
    type Item = &'f [(u32, Vec<u8>, u64)];

    fn next(&mut self) -> Option<Self::Item> {
        let mut bytes = 0u64;
        let whole = self.rest.iter().take(BATCH).take_while(|(_, _, size)| {
            let fits = bytes < BATCH_BYTES;
            bytes = bytes.saturating_add(*size);
            fits
        });
        let (batch, rest) = self.rest.split_at_checked(whole.count())?;
        self.rest = rest;
        (!batch.is_empty()).then_some(batch)
    }
}
