//! Which entries of a folder go into its bundle.

use std::fs::Metadata;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use burstflare_core::domain::bundle::MANIFEST_NAME;
use ignore::WalkBuilder;

use super::{Content, Item};
use crate::exit::Failure;

/// Never part of a bundle, wherever it lies: a repository's own folder, or the file a worktree has instead.
const NEVER: &str = ".git";

/// Everything of the folder that belongs into its bundle, sorted, and remarks about what was left out.
///
/// # Errors
/// When something cannot be read or cannot be in a bundle; the message names it.
pub fn collect(dir: &Path) -> Result<(Vec<Item>, Vec<String>), Failure> {
    let root = dir.canonicalize().map_err(|error| Failure {
        exit: crate::exit::Exit::Usage,
        ..Failure::local(format_args!("cannot open {}", dir.display()), error)
    })?;
    let mut items = Vec::new();
    let mut remarks = Vec::new();
    let walk = WalkBuilder::new(&root)
        .hidden(false)
        .parents(false)
        .ignore(false)
        .git_global(false)
        .git_exclude(false)
        .git_ignore(true)
        .require_git(false)
        .follow_links(false)
        .add_custom_ignore_filename(".flareignore")
        .filter_entry(|entry| entry.file_name() != NEVER)
        .build();
    for entry in walk {
        let entry = entry.map_err(|error| Failure::local("cannot read the folder", error))?;
        if let Some(error) = entry.error() {
            remarks.push(format!("{error}"));
        }
        if entry.depth() == 0 {
            continue;
        }
        let metadata = entry.path().symlink_metadata().map_err(|error| unreadable(entry.path(), &error))?;
        items.extend(item(&root, entry.path(), &metadata, &mut remarks)?);
    }
    if !items.iter().any(|item| item.path == MANIFEST_NAME.as_bytes()) {
        // Ignored or not: without it the folder is no template.
        let path = root.join(MANIFEST_NAME);
        let metadata = path.symlink_metadata().map_err(|error| unreadable(&path, &error))?;
        items.extend(item(&root, &path, &metadata, &mut remarks)?);
    }
    items.sort_by(|one, other| one.path.cmp(&other.path));
    Ok((items, remarks))
}

fn item(
    root: &Path,
    path: &Path,
    metadata: &Metadata,
    remarks: &mut Vec<String>,
) -> Result<Option<Item>, Failure> {
    let below = path.strip_prefix(root).map_err(|error| Failure::local(path.display(), error))?;
    let kind = metadata.file_type();
    let mut mode = metadata.permissions().mode() & 0o7777;
    let content = if kind.is_dir() {
        // Inherited from the folder above in shared folders; it says nothing about the template.
        mode &= 0o1777;
        Content::Folder
    } else if kind.is_symlink() {
        mode = 0o777;
        let target = path.read_link().map_err(|error| unreadable(path, &error))?;
        Content::Link(target.into_os_string().into_vec())
    } else if kind.is_file() {
        Content::File(path.to_owned(), metadata.size())
    } else if kind.is_socket() {
        remarks.push(format!("left out: {} is a socket", below.display()));
        return Ok(None);
    } else {
        return Err(Failure::usage(format!(
            "{} is a device or pipe and cannot be in a template",
            below.display()
        ))
        .hint("Remove it, or name it in .flareignore."));
    };
    Ok(Some(Item { path: below.as_os_str().as_bytes().to_vec(), mode, content }))
}

pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::local(format_args!("cannot read {}", path.display()), error)
        .hint("Make it readable, or name it in .flareignore.")
}
