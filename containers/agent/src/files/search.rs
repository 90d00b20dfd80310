//! `GET /v1/search`: names by pattern, content by text. Bounded in time, entries, depth, hits and bytes a file; it
//! follows no link and opens nothing but regular files.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use burstflare_ports::wire::files::{Cut, FOUND_LIMIT, FileKind, Found, Hit};
use burstflare_ports::wire::path;
use http::Request;
use hyper::body::Incoming;
use rustix::fs::{Dir, Mode, OFlags};

use super::place::{Place, join};
use super::{Query, blocking, glob, info, refuse};
use crate::agent::Agent;
use crate::body;
use crate::folder;
use crate::reply::{self, Refused, Reply};

const TIME: Duration = Duration::from_secs(10);
const ENTRIES: u64 = 500_000;
/// Levels of folders; each holds a handle.
const DEPTH: usize = 128;
/// Of each file so much is searched, from its beginning.
const CONTENT: u64 = 8 << 20;
/// Lines of one file.
const LINES: usize = 100;
/// Bytes of a line that are shown.
const SHOWN: usize = 200;
/// Bytes of a pattern or text.
const WISH: usize = 1024;
const DEFAULT_HITS: usize = 200;

struct Search {
    name: Option<Vec<u8>>,
    text: Option<Vec<u8>>,
    limit: usize,
    until: Instant,
    gone: Arc<AtomicBool>,
    root: String,
    found: Found,
    buffer: Vec<u8>,
}

/// See the module.
pub(super) async fn search(agent: &Arc<Agent>, request: &Request<Incoming>) -> Result<Reply, Refused> {
    let mut query = Query::of(request)?;
    let path_text = query.text("path").unwrap_or_else(|| ".".to_owned());
    let decoded = |name: &str, text: Option<String>| {
        let bytes =
            text.map(|text| path::decode(&text).filter(|bytes| !bytes.is_empty() && bytes.len() <= WISH));
        match bytes {
            Some(None) => {
                Err(Refused::invalid(format!("`{name}` is empty, malformed, or over {WISH} bytes.")))
            }
            Some(bytes) => Ok(bytes),
            None => Ok(None),
        }
    };
    let name = decoded("name", query.text("name"))?;
    let text = decoded("text", query.text("text"))?;
    let limit = query.number("limit")?.unwrap_or(DEFAULT_HITS).clamp(1, FOUND_LIMIT);
    query.finish()?;
    if name.is_none() && text.is_none() {
        return Err(Refused::invalid("A search needs `name` or `text`."));
    }
    let roots = agent.roots.clone();
    let slot = agent.files.search().await?;
    let gone = Arc::new(AtomicBool::new(false));
    // A caller who goes away drops this call, and with it the guard.
    let guard = Gone(Arc::clone(&gone));
    let found = blocking(move || {
        let place = Place::find(&roots, &path_text)?;
        let handle = place.target()?;
        let mut search = Search {
            name,
            text,
            limit,
            until: Instant::now() + TIME,
            gone,
            root: place.root_path().to_owned(),
            found: Found { items: Vec::new(), looked_at: 0, cut: None },
            buffer: Vec::new(),
        };
        search.folder(handle.as_fd(), &place.below, 0).map_err(refuse::of)?;
        let found =
            std::mem::replace(&mut search.found, Found { items: Vec::new(), looked_at: 0, cut: None });
        drop(search);
        body::release_memory();
        drop(slot);
        Ok(found)
    })
    .await?;
    drop(guard);
    reply::json(&found)
}

struct Gone(Arc<AtomicBool>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Search {
    fn is_over(&mut self) -> bool {
        let cut = if self.found.items.len() >= self.limit {
            Some(Cut::Hits)
        } else if self.found.looked_at >= ENTRIES {
            Some(Cut::Entries)
        } else if self.gone.load(Ordering::Relaxed) || Instant::now() > self.until {
            Some(Cut::Time)
        } else {
            None
        };
        if let Some(cut) = cut {
            self.found.cut = Some(cut);
        }
        cut.is_some()
    }

    fn folder(&mut self, folder: BorrowedFd<'_>, below: &[u8], depth: usize) -> rustix::io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(folder, ".", flags, Mode::empty())?;
        for entry in Dir::read_from(&opened)? {
            let Ok(entry) = entry else { break };
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") || depth == 0 && folder::is_staging(name) {
                continue;
            }
            if self.is_over() {
                return Ok(());
            }
            self.found.looked_at += 1;
            let Ok(stat) = folder::stat(&opened, name) else { continue };
            let kind = info::kind(&stat);
            let here = if below.is_empty() { name.to_vec() } else { [below, b"/", name].concat() };
            let fits = self.name.as_ref().is_none_or(|pattern| glob::matches(pattern, name));
            if fits && self.text.is_none() {
                self.found.items.push(Hit { path: join(&self.root, &here), kind, line: None, text: None });
            }
            match kind {
                FileKind::File if fits && self.text.is_some() => {
                    // What cannot be read is not searched.
                    if let Some(file) = open_file(&opened, name) {
                        self.content(file, &here);
                    }
                }
                FileKind::Folder if depth >= DEPTH => self.found.cut = Some(Cut::Depth),
                FileKind::Folder => {
                    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    if let Ok(inner) = rustix::fs::openat(&opened, name, flags, Mode::empty()) {
                        // One that vanishes or may not be read is passed over.
                        let _ = self.folder(inner.as_fd(), &here, depth + 1);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn content(&mut self, file: File, below: &[u8]) {
        let Some(text) = self.text.clone() else { return };
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        // What was read before an error is searched all the same.
        let _ = file.take(CONTENT).read_to_end(&mut buffer);
        let finder = memchr::memmem::Finder::new(&text);
        let (mut at, mut line, mut counted, mut lines) = (0, 1, 0, 0);
        while let Some(hit) = finder.find(buffer.get(at..).unwrap_or_default()) {
            let hit = at + hit;
            line += memchr::memchr_iter(b'\n', buffer.get(counted..hit).unwrap_or_default()).count() as u64;
            counted = hit;
            let start = memchr::memrchr(b'\n', buffer.get(..hit).unwrap_or_default()).map_or(0, |at| at + 1);
            let end = memchr::memchr(b'\n', buffer.get(hit..).unwrap_or_default())
                .map_or(buffer.len(), |at| hit + at);
            // A long line is shown from a little before the hit.
            let from = if hit - start > SHOWN / 2 { hit - SHOWN / 4 } else { start };
            let shown = buffer.get(from..end.min(from + SHOWN)).unwrap_or_default();
            self.found.items.push(Hit {
                path: join(&self.root, below),
                kind: FileKind::File,
                line: Some(line),
                text: Some(path::encode(shown)),
            });
            lines += 1;
            // The next one is on another line; a text that holds a line's end goes on behind its beginning.
            at = end.max(hit) + 1;
            if lines >= LINES || self.found.items.len() >= self.limit || Instant::now() > self.until {
                break;
            }
        }
        self.buffer = buffer;
        if self.found.items.len() >= self.limit {
            self.found.cut = Some(Cut::Hits);
        }
    }
}

/// Opens a regular file; what became something else since it was looked at is closed again unread.
fn open_file(folder: &OwnedFd, name: &[u8]) -> Option<File> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = rustix::fs::openat(folder, name, flags, Mode::empty()).ok()?;
    let stat = rustix::fs::fstat(&handle).ok()?;
    if info::kind(&stat) != FileKind::File {
        return None;
    }
    super::place::reopen(&handle, OFlags::RDONLY).ok().map(File::from)
}
