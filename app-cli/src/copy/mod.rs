//! Copies between this machine and sessions. A copy is a source that flows and a target that takes it: files as their
//! bytes, folders as archives that whoever unpacks does not trust.

mod end;
mod flow;
mod local;
mod progress;
mod remote;

use std::ffi::OsStr;

pub use self::end::End;
use self::flow::Flow;
use self::progress::Progress;
use crate::context::Context;
use crate::exit::{Exit, Failure};

/// What one end is found to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Folder,
    Other,
}

/// What is copied: its bytes, or its archive.
struct Source {
    kind: Kind,
    /// What it is called, for a target that is a folder; none for standard input, and for a folder whose content is meant.
    name: Option<Vec<u8>>,
    /// Permission bits.
    mode: Option<u32>,
    /// Nanoseconds since 1970.
    mtime_ns: Option<i64>,
    /// Bytes that will come, where that is known.
    size: Option<u64>,
    flow: Flow,
}

/// What became of a copy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Copied {
    /// Files, folders and links.
    pub entries: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// What was left out.
    pub skipped: u64,
    /// Some of it, with the reason.
    pub why: Vec<String>,
}

/// Copies. Nothing half is left behind, also when it is interrupted.
///
/// # Errors
/// When one end is not there, not what it should be, or breaks off.
pub async fn copy(context: &Context, from: &End, to: &End, recursive: bool) -> Result<Copied, Failure> {
    let client = context.client()?;
    let source = match from {
        End::Standard => local::standard_input(),
        End::Local(path) => local::source(path, recursive)?,
        End::Remote { session, path } => remote::source(&client, session, path, recursive).await?,
    };
    let mut progress = Progress::new(context, source.size);
    let copied = match to {
        End::Standard => local::standard_output(context, source).await,
        End::Local(path) => local::target(path, source, &mut progress).await,
        End::Remote { session, path } => remote::target(&client, session, path, source, &mut progress).await,
    };
    context.output.end_progress();
    copied
}

/// Where a source goes, as cp(1) has it: into a folder that is there, under its own name; otherwise to the name that was
/// given, which for a file must not end with a slash.
enum Goal {
    /// Into this folder, under the source's name.
    Inside(Vec<u8>),
    /// To the very place.
    Here,
}

fn goal(found: Option<Kind>, slash: bool, source: &Source, shown: &str) -> Result<Goal, Failure> {
    match (found, source.kind) {
        (Some(Kind::Folder), kind) => match &source.name {
            Some(name) => Ok(Goal::Inside(name.clone())),
            None if kind == Kind::Folder => Ok(Goal::Here),
            None => Err(Failure::usage(format!("{shown} is a folder; name the file"))),
        },
        (Some(_), Kind::Folder) => {
            Err(Failure::new(Exit::Conflict, format!("{shown} is no folder")).hint("Choose another name."))
        }
        (Some(_), _) if slash => Err(Failure::new(Exit::Conflict, format!("{shown} is no folder"))),
        (None, Kind::File | Kind::Other) if slash => {
            Err(Failure::new(Exit::NotFound, format!("there is no folder {shown}"))
                .hint("Make it, or leave the slash away."))
        }
        _ => Ok(Goal::Here),
    }
}

/// A folder that was not asked for with everything in it.
fn omitted(shown: &str) -> Failure {
    Failure::usage(format!("{shown} is a folder")).hint("Copy it with everything in it: `flare cp -r`.")
}

/// The last name of a path; none where its content is meant (`.`, `dir/.`, `/`).
fn last_name(path: &[u8]) -> Option<Vec<u8>> {
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |at| at + 1);
    let name = path.get(..end)?.rsplit(|byte| *byte == b'/').next()?;
    (!matches!(name, b"" | b"." | b".." | b"~")).then(|| name.to_vec())
}

fn shown(path: &OsStr) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_last_ones() {
        for (path, name) in [
            ("a/b", Some("b")),
            ("a/b/", Some("b")),
            ("a/b//", Some("b")),
            ("b ", Some("b ")),
            (".", None),
            ("a/.", None),
            ("..", None),
            ("/", None),
            ("", None),
        ] {
            assert_eq!(last_name(path.as_bytes()).as_deref(), name.map(str::as_bytes), "{path:?}");
        }
    }
}
