//! Writing the tree section.

use super::super::numbers;
use super::{Body, Entry, Extent, FILE, FIRST, FOLDER, File, LINK, NAME, PIPE, Previous, hash_is_written};

/// Writes the section. What it is given has to be what [`super::Reader`] accepts.
#[derive(Debug)]
pub struct Encoder {
    out: Vec<u8>,
    previous: Previous,
}

impl Encoder {
    /// Begins with the roots.
    #[must_use]
    pub fn new(roots: &[String]) -> Self {
        let mut out = Vec::new();
        numbers::put(&mut out, roots.len() as u64);
        for root in roots {
            numbers::put(&mut out, root.len() as u64);
            out.extend_from_slice(root.as_bytes());
        }
        Self { out, previous: Previous::default() }
    }

    /// The next entry.
    pub fn add(&mut self, entry: &Entry) {
        let shared =
            self.previous.path.iter().zip(&entry.path).take_while(|(one, other)| one == other).count();
        let suffix = entry.path.get(shared..).unwrap_or_default();
        numbers::put(&mut self.out, shared as u64);
        numbers::put(&mut self.out, suffix.len() as u64);
        self.out.extend_from_slice(suffix);
        self.previous.path.truncate(shared);
        self.previous.path.extend_from_slice(suffix);
        self.out.push(match &entry.body {
            Body::Folder => FOLDER,
            Body::File(File { group: None, .. }) => FILE,
            Body::File(_) => FIRST,
            Body::Link(_) => LINK,
            Body::Pipe => PIPE,
            Body::Name { group, .. } => {
                self.out.push(NAME);
                numbers::put(&mut self.out, u64::from(*group));
                return;
            }
        });
        numbers::put(&mut self.out, u64::from(entry.mode));
        numbers::put_signed(&mut self.out, entry.mtime_ns.wrapping_sub(self.previous.mtime_ns));
        self.previous.mtime_ns = entry.mtime_ns;
        match &entry.body {
            Body::Link(target) => {
                numbers::put(&mut self.out, target.len() as u64);
                self.out.extend_from_slice(target);
            }
            Body::File(file) => self.file(file, entry.mtime_ns),
            Body::Folder | Body::Pipe | Body::Name { .. } => {}
        }
    }

    fn file(&mut self, file: &File, mtime_ns: i64) {
        let Self { out, previous } = self;
        numbers::put(out, file.size);
        numbers::put_signed(out, file.ctime_ns.wrapping_sub(mtime_ns));
        numbers::put_signed(out, file.inode.wrapping_sub(previous.inode).cast_signed());
        previous.inode = file.inode;
        numbers::put(out, file.extents.len() as u64);
        for extent in &file.extents {
            match extent {
                Extent::Hole(length) => {
                    numbers::put(out, 0);
                    numbers::put(out, *length);
                }
                Extent::Chunk(chunk) if *chunk == previous.fresh => {
                    numbers::put(out, 1);
                    previous.fresh += 1;
                }
                Extent::Chunk(chunk) => numbers::put(out, u64::from(*chunk) + 2),
            }
        }
        if hash_is_written(&file.extents) {
            out.extend_from_slice(&file.hash.0);
        }
    }

    /// The bytes since the last time.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// How many bytes there are since the last time.
    #[must_use]
    pub const fn pending(&self) -> usize {
        self.out.len()
    }
}
