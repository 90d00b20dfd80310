//! Keys of a folder of blobs, in the order of their texts.

use std::io;
use std::path::Path;

use burstflare_ports::blob::{BlobKey, BlobPage};

/// The keys below `prefix` behind `after`, at most `limit`. Reads only the folders that can hold them.
pub(super) fn page(
    root: &Path,
    prefix: &BlobKey,
    after: Option<&BlobKey>,
    limit: usize,
) -> io::Result<BlobPage> {
    let mut walk = Walk { after: after.map_or("", BlobKey::as_str), limit, keys: Vec::new(), more: false };
    let mut key = format!("{prefix}/");
    walk.folder(&root.join(prefix.as_str()), &mut key)?;
    let next = if walk.more { walk.keys.last().cloned() } else { None };
    Ok(BlobPage { keys: walk.keys, next })
}

struct Walk<'a> {
    after: &'a str,
    limit: usize,
    keys: Vec<BlobKey>,
    more: bool,
}

impl Walk<'_> {
    /// `key` is what the keys of this folder begin with.
    fn folder(&mut self, path: &Path, key: &mut String) -> io::Result<()> {
        let entries = match std::fs::read_dir(path) {
            Ok(entries) => entries,
            // Nothing has such a key, or the last one was deleted just now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        // A folder stands where its first key would: behind `-` and `.`, before digits and letters.
        let mut parts = Vec::new();
        for entry in entries {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            parts.push(match name.strip_suffix('@') {
                Some(blob) => blob.to_owned(),
                None => format!("{name}/"),
            });
        }
        parts.sort_unstable();
        let own = key.len();
        for part in parts {
            key.truncate(own);
            key.push_str(&part);
            if part.ends_with('/') {
                if key.as_str() > self.after || self.after.starts_with(key.as_str()) {
                    self.folder(&path.join(&part), key)?;
                }
            } else if key.as_str() > self.after
                && let Ok(found) = key.parse()
            {
                if self.keys.len() >= self.limit {
                    self.more = true;
                } else {
                    self.keys.push(found);
                }
            }
            if self.more {
                break;
            }
        }
        key.truncate(own);
        Ok(())
    }
}
