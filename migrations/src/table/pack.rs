use burstflare_ports::error::PortResult;
use burstflare_ports::record::{Pack, SnapshotPack};

use super::{Stored, assignments, conditions, marks, names, record_of, table, values_of};
use crate::column::{Column, Reader};
use crate::database::Value;

table! {
    Pack in "packs", key [workspace, id],
    columns [lineage, hash, bytes, state, condemned_at, created_at, revision]
    {
        PACK = "workspace = ? AND id = ?";
        PACKS_IN = "workspace = ? AND lineage = ? AND id < ? ORDER BY id DESC LIMIT ?";
        ALL_PACKS = "workspace = ? AND id > ? ORDER BY id LIMIT ?";
        UNREFERENCED_PACKS = "workspace = ? AND lineage = ? AND state <> 'condemned' AND NOT EXISTS \
            (SELECT 1 FROM snapshot_packs WHERE snapshot_packs.workspace = packs.workspace AND pack = packs.id) \
            ORDER BY id DESC LIMIT ?";
        /// The state is a literal, as in the index that serves this.
        CONDEMNED_PACKS = "state = 'condemned' AND condemned_at <= ? \
            ORDER BY condemned_at, id LIMIT ?";
    }
}

impl Stored for SnapshotPack {
    const INSERT: &'static str = "INSERT INTO snapshot_packs (workspace, snapshot, pack) VALUES (?, ?, ?)";
    // A row is all key: there is nothing to write over.
    const UPDATE: &'static str = Self::INSERT;
    const DELETE: &'static str =
        "DELETE FROM snapshot_packs WHERE workspace = ? AND snapshot = ? AND pack = ?";
    const HAS: &'static str =
        "SELECT 1 FROM snapshot_packs WHERE workspace = ? AND snapshot = ? AND pack = ?";
    const STATEMENTS: &'static [&'static str] = &[Self::INSERT, Self::DELETE, Self::HAS];

    fn values(&self) -> PortResult<Vec<Value>> {
        Ok(vec![self.workspace.encode()?, self.snapshot.encode()?, self.pack.encode()?])
    }

    fn read(row: &mut Reader) -> PortResult<Self> {
        Ok(Self {
            workspace: row.next("SnapshotPack.workspace")?,
            snapshot: row.next("SnapshotPack.snapshot")?,
            pack: row.next("SnapshotPack.pack")?,
        })
    }
}

/// The packs of a snapshot: workspace, snapshot, behind which id, how many.
pub(crate) const PACKS_OF: &str = "SELECT p.lineage, p.hash, p.bytes, p.state, p.condemned_at, p.created_at, p.revision, \
    p.workspace, p.id FROM snapshot_packs AS n JOIN packs AS p ON p.workspace = n.workspace AND p.id = n.pack \
    WHERE n.workspace = ? AND n.snapshot = ? AND n.pack < ? ORDER BY n.pack DESC LIMIT ?";
/// Names the packs of one snapshot by another, too: by whom, workspace, whose.
pub(crate) const PACKS_SHARE: &str = "INSERT OR IGNORE INTO snapshot_packs (workspace, snapshot, pack) \
    SELECT workspace, ?, pack FROM snapshot_packs WHERE workspace = ? AND snapshot = ?";
/// A row where the snapshot names so many packs and all are live: workspace, snapshot, how many.
pub(crate) const SNAPSHOT_PACKED: &str = "SELECT 1 WHERE (SELECT COUNT(*) FROM snapshot_packs \
    WHERE workspace = ?1 AND snapshot = ?2) = ?3 AND (SELECT COUNT(*) FROM snapshot_packs AS n \
    JOIN packs AS p ON p.workspace = n.workspace AND p.id = n.pack \
    WHERE n.workspace = ?1 AND n.snapshot = ?2 AND p.state = 'live') = ?3";
/// A row where one of some packs is named: workspace; the list of question marks is added behind it.
pub(crate) const PACKS_NAMED: &str = "SELECT 1 FROM snapshot_packs WHERE workspace = ? AND pack IN ";

pub(super) const PACK_STATEMENTS: &[&[&str]] = &[
    Pack::STATEMENTS,
    SnapshotPack::STATEMENTS,
    &[
        PACKS_OF,
        PACKS_SHARE,
        SNAPSHOT_PACKED,
        "SELECT 1 FROM snapshot_packs WHERE workspace = ? AND pack IN (?, ?, ?)",
    ],
];
