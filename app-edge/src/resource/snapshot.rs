use burstflare_core::domain::diff;
use burstflare_core::service;
use burstflare_ports::id::Id;
use burstflare_ports::machine::Epoch;
use burstflare_ports::record::{self, Sharing, SnapshotKind, SnapshotState};
use burstflare_ports::text::{Label, Slug};
use burstflare_ports::time::Timestamp;
use burstflare_ports::wire::{path, tree};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Failure;
use super::schema::{SharingWord, SnapshotKindWord, SnapshotStateWord};

/// Takes a snapshot.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateSnapshot {
    /// What to call it: 1 to 64 of `A-Z a-z 0-9 . _ + -`, not beginning with `snp_`. A named one is kept until it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub label: Option<Label>,
}

/// Names a snapshot.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeSnapshot {
    /// What to call it; null takes its name away.
    #[serde(default)]
    #[schema(value_type = Option<String>, max_length = 64)]
    pub label: Option<Label>,
}

/// Restores a snapshot.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreSnapshot {
    /// Whether changes on the session's disk that no snapshot shows may be lost.
    #[serde(default)]
    pub discard_unsaved: bool,
}

/// Makes a session with the files of another one's snapshot.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ForkSession {
    /// Unique in the workspace: 1 to 63 of `a-z 0-9 -`.
    #[schema(value_type = String, example = "sandbox-2", max_length = 63)]
    pub name: Slug,
    /// Id or label of the snapshot; the newest unless asked otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// Who else may work in it; only the owner unless asked otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<SharingWord>)]
    pub sharing: Option<Sharing>,
}

/// The whole tree of a session at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Snapshot {
    /// Its id.
    #[schema(value_type = String, example = "snp_01JD0000000000000000000000")]
    pub id: Id<record::Snapshot>,
    /// The session.
    #[schema(value_type = String)]
    pub session: Id<record::Session>,
    /// Why it was made.
    #[schema(value_type = SnapshotKindWord)]
    pub kind: SnapshotKind,
    /// Where it is.
    #[schema(value_type = SnapshotStateWord)]
    pub state: SnapshotState,
    /// What somebody called it.
    #[schema(value_type = Option<String>)]
    pub label: Option<Label>,
    /// The one it was taken on top of, or forked from; that one may be gone.
    #[schema(value_type = Option<String>)]
    pub parent: Option<Id<record::Snapshot>>,
    /// 1: one archive; 2: a manifest and packs, shared with others; 0 before anything was stored.
    pub format: u32,
    /// Digest of the tree, hexadecimal; empty until complete.
    pub digest: String,
    /// Entries in the tree.
    pub files: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Bytes of its archive or manifest.
    pub stored: u64,
    /// Bytes of the packs it names, those that others name too among them.
    pub packed: u64,
    /// The life of the machine it shows.
    pub epoch: Epoch,
    /// When what is stored was last found to be what was sent.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub verified_at: Option<Timestamp>,
    /// When it goes by itself, unless something needs it then.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// When it was begun.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

impl From<record::Snapshot> for Snapshot {
    fn from(snapshot: record::Snapshot) -> Self {
        let over = snapshot.state != SnapshotState::Pending;
        Self {
            id: snapshot.id,
            session: snapshot.session,
            kind: snapshot.kind,
            state: snapshot.state,
            label: snapshot.label,
            parent: snapshot.parent,
            format: snapshot.format,
            digest: snapshot.digest,
            files: snapshot.files,
            bytes: snapshot.bytes,
            stored: snapshot.stored,
            packed: snapshot.packed,
            epoch: snapshot.epoch,
            verified_at: snapshot.verified_at,
            expires_at: snapshot.due_at.filter(|_| over),
            failure: snapshot.failure.map(Failure::from),
            created_at: snapshot.created_at,
        }
    }
}

/// A path that differs between two snapshots. Times are not compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Difference {
    /// The path, absolute; bytes that are no UTF-8, and `%`, as `%XX`.
    pub path: String,
    /// `added`, `removed` or `changed`.
    pub change: String,
    /// `file`, `folder`, `link` or `pipe`; the earlier one where it was removed.
    pub kind: String,
    /// Whether its type is another.
    pub type_changed: bool,
    /// Whether its bytes, or a link's target, are others.
    pub content_changed: bool,
    /// Whether its permission bits are others.
    pub mode_changed: bool,
    /// Bytes before, of a file.
    pub size_before: Option<u64>,
    /// Bytes now, of a file.
    pub size_after: Option<u64>,
}

impl From<diff::Difference> for Difference {
    fn from(found: diff::Difference) -> Self {
        let (change, (type_changed, content_changed, mode_changed)) = match found.change {
            diff::Change::Added => ("added", (false, false, false)),
            diff::Change::Removed => ("removed", (false, false, false)),
            diff::Change::Changed { kind, content, mode } => ("changed", (kind, content, mode)),
        };
        let kind = match found.kind {
            tree::Kind::Folder => "folder",
            tree::Kind::File => "file",
            tree::Kind::Link => "link",
            tree::Kind::Pipe => "pipe",
        };
        Self {
            path: format!("/{}", path::encode(&found.path)),
            change: change.to_owned(),
            kind: kind.to_owned(),
            type_changed,
            content_changed,
            mode_changed,
            size_before: found.before,
            size_after: found.after,
        }
    }
}

/// A page of what differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Diff {
    /// The snapshot.
    #[schema(value_type = String)]
    pub snapshot: Id<record::Snapshot>,
    /// The earlier one; null where there is none to compare with, so that everything is new.
    #[schema(value_type = Option<String>)]
    pub against: Option<Id<record::Snapshot>>,
    /// By path.
    pub items: Vec<Difference>,
    /// Give it as `cursor` for the next page; null on the last one.
    pub next_cursor: Option<String>,
}

impl Diff {
    pub(crate) fn new(diff: &service::Diff, page: super::Page<Difference>) -> Self {
        Self {
            snapshot: diff.snapshot,
            against: diff.against,
            items: page.items,
            next_cursor: page.next_cursor,
        }
    }
}
