//! The template that comes with the program: it builds in seconds and needs no network.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{Content, Item};
use crate::exit::Failure;

const FILES: [(&str, u32, &[u8]); 3] = [
    ("README.md", 0o644, include_bytes!("../starter/README.md")),
    ("flare.toml", 0o644, include_bytes!("../starter/flare.toml")),
    ("hello.sh", 0o755, include_bytes!("../starter/hello.sh")),
];

/// The entries of the starter's bundle.
#[must_use]
pub fn starter() -> Vec<Item> {
    FILES
        .into_iter()
        .map(|(name, mode, bytes)| Item {
            path: name.as_bytes().to_vec(),
            mode,
            content: Content::Embedded(bytes),
        })
        .collect()
}

/// Writes the starter into a folder, whose files of those names stay as they are; answers which were written.
///
/// # Errors
/// When the folder cannot be written to.
pub fn write_starter(dir: &Path) -> Result<Vec<&'static str>, Failure> {
    let failed = |path: &Path, error| Failure::local(format_args!("cannot write {}", path.display()), error);
    fs::create_dir_all(dir).map_err(|error| failed(dir, error))?;
    let mut written = Vec::new();
    for (name, mode, bytes) in FILES {
        let path = dir.join(name);
        let file = fs::File::options().write(true).create_new(true).open(&path);
        let mut file = match file {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(failed(&path, error)),
        };
        std::io::Write::write_all(&mut file, bytes)
            .and_then(|()| file.set_permissions(fs::Permissions::from_mode(mode)))
            .map_err(|error| failed(&path, error))?;
        written.push(name);
    }
    Ok(written)
}
