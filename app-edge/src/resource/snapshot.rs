use burstflare_ports::id::Id;
use burstflare_ports::machine::Epoch;
use burstflare_ports::record::{self, SnapshotKind, SnapshotState};
use burstflare_ports::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::schema::{SnapshotKindWord, SnapshotStateWord};

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
    /// Digest of the tree, hexadecimal; empty until complete.
    pub digest: String,
    /// Entries in the tree.
    pub files: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Bytes stored.
    pub stored: u64,
    /// The life of the machine it shows.
    pub epoch: Epoch,
    /// When it was begun.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

impl From<record::Snapshot> for Snapshot {
    fn from(snapshot: record::Snapshot) -> Self {
        Self {
            id: snapshot.id,
            session: snapshot.session,
            kind: snapshot.kind,
            state: snapshot.state,
            digest: snapshot.digest,
            files: snapshot.files,
            bytes: snapshot.bytes,
            stored: snapshot.stored,
            epoch: snapshot.epoch,
            created_at: snapshot.created_at,
        }
    }
}
