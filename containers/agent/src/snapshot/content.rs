//! Reading one file: into chunks and holes, as it was at one moment.

use std::io;
use std::os::fd::BorrowedFd;

use burstflare_ports::wire::snapshot::tree::holey_hash;
use burstflare_ports::wire::snapshot::{Hash, MAX_CHUNK, MAX_EXTENTS, MAX_HASHED_HOLES};
use fastcdc::v2020;
use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::seen::Seen;

/// A smaller file, or rest of one, is one chunk.
const MIN: usize = 256 << 10;
const AVERAGE: usize = 1 << 20;
const MAX: usize = MAX_CHUNK as usize;
/// Files and holes below this are not worth the bookkeeping: zeros compress well.
const SPARSE: u64 = 64 << 10;
/// Attempts to read a file while nobody writes to it.
const ATTEMPTS: u32 = 3;

/// A part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    Chunk { hash: Hash, plain: u32 },
    Hole(u64),
}

impl Piece {
    pub(super) const fn length(self) -> u64 {
        match self {
            Self::Chunk { plain, .. } => plain as u64,
            Self::Hole(length) => length,
        }
    }
}

/// A file that was read.
#[derive(Debug)]
pub(super) struct Content {
    /// Its state before the first byte was read.
    pub(super) seen: Seen,
    /// What was read of it; less than was seen where it shrank.
    pub(super) size: u64,
    pub(super) hash: Hash,
    pub(super) pieces: Vec<Piece>,
    /// Somebody wrote to it meanwhile.
    pub(super) changed: bool,
    /// And in each attempt.
    pub(super) torn: bool,
    /// Bytes read, in all attempts.
    pub(super) read: u64,
}

/// What a thread needs to read files.
pub(super) struct Cutter {
    buffer: Vec<u8>,
    masks: (u64, u64),
}

impl Cutter {
    pub(super) fn new() -> Self {
        Self { buffer: Vec::new(), masks: v2020::select_masks(AVERAGE, v2020::Normalization::Level1) }
    }

    /// Reads a file, again where it changed meanwhile. Each chunk is shown to `each` with its bytes, in every
    /// attempt.
    pub(super) fn read<E: From<io::Error>>(
        &mut self,
        file: BorrowedFd<'_>,
        each: &mut impl FnMut(&Hash, &[u8]) -> Result<(), E>,
    ) -> Result<Content, E> {
        let failed = |problem: Errno| E::from(problem.into());
        let (mut total, mut attempt) = (0, 1);
        loop {
            let seen = Seen::from(&rustix::fs::fstat(file).map_err(failed)?);
            let mut content = self.attempt(file, seen, each)?;
            total += content.read;
            let after = Seen::from(&rustix::fs::fstat(file).map_err(failed)?);
            let untouched = seen.is_untouched(&after);
            if untouched || attempt == ATTEMPTS {
                content.read = total;
                content.changed = attempt > 1 || !untouched;
                content.torn = !untouched;
                return Ok(content);
            }
            attempt += 1;
        }
    }

    fn attempt<E: From<io::Error>>(
        &mut self,
        file: BorrowedFd<'_>,
        seen: Seen,
        each: &mut impl FnMut(&Hash, &[u8]) -> Result<(), E>,
    ) -> Result<Content, E> {
        let mut made =
            Made { each, pieces: Vec::new(), whole: blake3::Hasher::new(), size: 0, holes: 0, read: 0 };
        for segment in segments(file, &seen)? {
            match segment {
                Segment::Hole(length) => made.hole(length),
                Segment::Data(to) => {
                    self.data(file, to, seen.size, &mut made)?;
                    if made.size < to {
                        // Cut off meanwhile.
                        break;
                    }
                }
            }
            if made.pieces.len() > MAX_EXTENTS {
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, "a file has too many parts").into());
            }
        }
        let Made { pieces, whole, size, holes, read, .. } = made;
        let hash = match pieces.as_slice() {
            [Piece::Chunk { hash, .. }] => *hash,
            _ if holes > MAX_HASHED_HOLES => holey_hash(
                size,
                pieces.iter().map(|piece| match piece {
                    Piece::Chunk { hash, .. } => Ok(*hash),
                    Piece::Hole(length) => Err(*length),
                }),
            ),
            _ => whole.finalize().into(),
        };
        Ok(Content { seen, size, hash, pieces, changed: false, torn: false, read })
    }

    /// Chunks of what lies between here and `to`, less where the file ends before.
    fn data<E: From<io::Error>, F: FnMut(&Hash, &[u8]) -> Result<(), E>>(
        &mut self,
        file: BorrowedFd<'_>,
        to: u64,
        size: u64,
        made: &mut Made<'_, F>,
    ) -> Result<(), E> {
        let mut next = made.size;
        // Twice the largest chunk: what is left of one reading moves to the front at most once for each chunk.
        let room = usize::try_from(to - next).unwrap_or(usize::MAX).min(2 * MAX);
        if self.buffer.len() < room {
            self.buffer.resize(room, 0);
        }
        let (mut begin, mut end) = (0, 0);
        loop {
            if end - begin < MAX && next < to {
                self.buffer.copy_within(begin..end, 0);
                (begin, end) = (0, end - begin);
                while end < room && next < to {
                    let left = usize::try_from(to - next).unwrap_or(usize::MAX);
                    let space =
                        self.buffer.get_mut(end..room.min(end.saturating_add(left))).unwrap_or_default();
                    let length = rustix::io::retry_on_intr(|| rustix::io::pread(file, &mut *space, next))
                        .map_err(io::Error::from)?;
                    if length == 0 {
                        break;
                    }
                    end += length;
                    next += length as u64;
                }
            }
            let rest = self.buffer.get(begin..end).unwrap_or_default();
            if rest.is_empty() {
                return Ok(());
            }
            let (small, large) = self.masks;
            let (_, length) = v2020::cut(rest, MIN, AVERAGE, MAX, small, large, small << 1, large << 1);
            let length = length.clamp(1, rest.len());
            made.chunk(rest.get(..length).unwrap_or_default(), size)?;
            begin += length;
        }
    }
}

/// What was made of a file so far.
struct Made<'f, F> {
    each: &'f mut F,
    pieces: Vec<Piece>,
    whole: blake3::Hasher,
    size: u64,
    holes: u64,
    read: u64,
}

impl<F> Made<'_, F> {
    fn chunk<E>(&mut self, bytes: &[u8], size: u64) -> Result<(), E>
    where
        F: FnMut(&Hash, &[u8]) -> Result<(), E>,
    {
        let hash = Hash::of(bytes);
        // Where the chunk is the file their hashes are one.
        if bytes.len() as u64 != size {
            self.whole.update(bytes);
        }
        self.read += bytes.len() as u64;
        self.size += bytes.len() as u64;
        let plain = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.pieces.push(Piece::Chunk { hash, plain });
        (self.each)(&hash, bytes)
    }

    fn hole(&mut self, length: u64) {
        self.pieces.push(Piece::Hole(length));
        self.size += length;
        self.holes = self.holes.saturating_add(length);
        // Beyond, the hash is another one.
        if self.holes <= MAX_HASHED_HOLES {
            hash_zeros(&mut self.whole, length);
        }
    }
}

fn hash_zeros(hasher: &mut blake3::Hasher, mut length: u64) {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    while length > 0 {
        let piece = usize::try_from(length).unwrap_or(usize::MAX).min(ZEROS.len());
        hasher.update(ZEROS.get(..piece).unwrap_or_default());
        length -= piece as u64;
    }
}

/// A stretch of a file.
#[derive(Debug, PartialEq, Eq)]
enum Segment {
    /// Data from here to this place.
    Data(u64),
    /// So many zeros that take no space.
    Hole(u64),
}

/// Data and holes in turn. Small holes count as data, and so does everything after very many.
fn segments(file: BorrowedFd<'_>, seen: &Seen) -> io::Result<Vec<Segment>> {
    let size = seen.size;
    if size < SPARSE || seen.held >= size {
        return Ok(if size == 0 { Vec::new() } else { vec![Segment::Data(size)] });
    }
    let mut segments = Vec::new();
    let mut at = 0;
    while at < size {
        let data = if segments.len() < MAX_EXTENTS / 4 { seek(file, SeekFrom::Data(at), size)? } else { at };
        if data - at >= SPARSE || data == size && at == 0 {
            segments.push(Segment::Hole(data - at));
        } else if data > at {
            // Back into the data before.
            segments.pop_if(|last| matches!(last, Segment::Data(_)));
        }
        if data == size {
            if data - at < SPARSE && at > 0 {
                segments.push(Segment::Data(size));
            }
            break;
        }
        let end =
            if segments.len() < MAX_EXTENTS / 4 { seek(file, SeekFrom::Hole(data), size)? } else { size };
        // A file that changes meanwhile may tell anything; we go forward in any case.
        at = end.max(data + 1);
        segments.push(Segment::Data(at));
    }
    Ok(segments)
}

/// The next data or hole from there on; the end where there is none.
fn seek(file: BorrowedFd<'_>, from: SeekFrom, size: u64) -> io::Result<u64> {
    let (SeekFrom::Data(at) | SeekFrom::Hole(at)) = from else { return Ok(size) };
    match rustix::fs::seek(file, from) {
        Ok(place) => Ok(place.clamp(at, size)),
        Err(Errno::NXIO) => Ok(size),
        // A file system that knows no holes.
        Err(Errno::INVAL | Errno::OPNOTSUPP) if matches!(from, SeekFrom::Data(_)) => Ok(at),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(size),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;

    fn noise(length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        bytes
    }

    fn read(file: &File) -> (Content, Vec<u8>) {
        let mut all = Vec::new();
        let content = Cutter::new()
            .read(file.as_fd(), &mut |hash, bytes| {
                assert_eq!(*hash, Hash::of(bytes));
                all.extend_from_slice(bytes);
                Ok::<_, io::Error>(())
            })
            .expect("reads");
        (content, all)
    }

    /// Where it cuts is part of what is stored: other cuts would store everything anew.
    #[test]
    fn cuts_do_not_move() {
        let file = tempfile::tempfile().expect("file");
        let bytes = noise(9 << 20);
        file.write_all_at(&bytes, 0).expect("writes");
        let (content, all) = read(&file);
        assert!(all == bytes);
        assert_eq!(content.hash, Hash::of(&bytes));
        let cuts: Vec<u64> = content.pieces.iter().map(|piece| piece.length()).collect();
        assert_eq!(cuts, [1_660_009, 795_372, 1_161_044, 1_398_683, 1_395_912, 1_892_488, 1_133_676]);
        // And behind an insertion they fall where they did.
        let shifted = [&bytes[..100], b"inserted", &bytes[100..]].concat();
        file.write_all_at(&shifted, 0).expect("writes");
        let (moved, _) = read(&file);
        assert_eq!(moved.pieces[1..], content.pieces[1..]);
    }

    #[test]
    fn holes_are_seen_and_small_ones_read_over() {
        let file = tempfile::tempfile().expect("file");
        let (data, hole) = (noise(100_000), 3 << 20);
        for at in [0, hole, hole + 120_000, 2 * hole] {
            file.write_all_at(&data, at).expect("writes");
        }
        file.set_len(3 * hole).expect("grows");
        let (content, _) = read(&file);
        let mut plain = vec![0; usize::try_from(3 * hole).expect("fits")];
        file.read_exact_at(&mut plain, 0).expect("reads");
        assert_eq!((content.size, content.hash), (3 * hole, Hash::of(&plain)));
        assert!(content.read < 500_000, "{content:?}");
        assert_eq!(content.pieces.iter().filter(|piece| matches!(piece, Piece::Hole(_))).count(), 3);
        assert_eq!(content.pieces.iter().map(|piece| piece.length()).sum::<u64>(), 3 * hole);
    }

    #[test]
    fn enormous_holes_take_no_time() {
        let file = tempfile::tempfile().expect("file");
        file.set_len(1 << 42).expect("grows");
        file.write_all_at(b"in the middle of nothing", 1 << 41).expect("writes");
        let (content, _) = read(&file);
        assert_eq!(content.size, 1 << 42);
        assert_eq!(content.pieces.len(), 3);
        assert!(content.read < SPARSE);
        file.set_len(0).expect("shrinks");
        assert_eq!(read(&file).0.hash, Hash::of(b""));
        file.set_len(SPARSE).expect("grows");
        let (content, _) = read(&file);
        assert_eq!((content.pieces, content.read), (vec![Piece::Hole(SPARSE)], 0));
    }
}
