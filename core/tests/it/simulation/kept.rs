//! What has to hold of snapshots, of what they are made of, and of what listeners were told.

use std::collections::BTreeMap;

use burstflare_ports::record::{Session, SessionState, Snapshot, SnapshotKind, SnapshotState};
use burstflare_ports::store::PAGE_LIMIT;

use super::invariants::Tenant;
use super::world::World;
use crate::{packed, stored};

impl World {
    async fn all_snapshots(&self, session: &Session) -> Vec<Snapshot> {
        self.store.snapshots(session.workspace, session.id, None, PAGE_LIMIT).await.unwrap().items
    }

    /// Snapshots are what they call themselves, hold what was promised, and are there until somebody lets them go.
    pub(super) async fn kept(&self, tenant: &Tenant, wrong: &mut Vec<String>) {
        let mut found = BTreeMap::new();
        for session in &tenant.sessions {
            for snapshot in self.all_snapshots(session).await {
                found.insert(snapshot.id, snapshot);
            }
            if session.state == SessionState::Running {
                wrong.push(format!("{} is awake although nobody has used it for hours", session.id));
            }
        }
        for snapshot in found.values() {
            match snapshot.state {
                SnapshotState::Pending => wrong.push(format!("{} is still pending", snapshot.id)),
                SnapshotState::Failed => self.faults.count("snapshot that failed"),
                SnapshotState::Complete => {
                    self.faults.count(&format!("snapshot kept, {:?}", snapshot.kind));
                    // One that cannot be restored is told elsewhere.
                    let Some(tree) = self.tree_of(snapshot).await else { continue };
                    if snapshot.format != 1 && packed::summary(&tree).digest != snapshot.digest {
                        wrong.push(format!("{} is not the tree it calls itself", snapshot.id));
                    }
                    let ledger = self.ledger();
                    let note = ledger.snapshots.get(&snapshot.id).filter(|note| note.epoch == snapshot.epoch);
                    let lost = note.into_iter().flat_map(|note| &note.files);
                    for (path, _) in lost.filter(|(path, text)| tree.get(*path) != Some(*text)) {
                        wrong.push(format!("{} lacks {path}", snapshot.id));
                    }
                }
            }
        }
        let ledger = self.ledger();
        for (id, note) in ledger.snapshots.iter().filter(|(_, note)| note.workspace == tenant.id) {
            let session_goes = ledger.sessions.get(&note.session).is_none_or(|session| session.deleting);
            match found.get(id) {
                None if !note.deleting && !session_goes => wrong.push(format!("{id} is lost")),
                Some(_) if note.deleted => wrong.push(format!("{id} was deleted and is there")),
                Some(found) if found.kind != SnapshotKind::Manual => {
                    wrong.push(format!("{id} changed its kind"));
                }
                _ => {}
            }
        }
    }

    /// Nothing lies about that no snapshot names.
    pub(super) async fn left_over(&self, tenant: &Tenant, wrong: &mut Vec<String>) {
        let place = (tenant.id, &tenant.sessions[..]);
        let (named, left) = stored::unnamed(&*self.store, &*self.blobs, place).await;
        (0..named).for_each(|_| self.faults.count("blob that is named"));
        wrong.extend(left.into_iter().map(|key| format!("blob {key} is left over")));
    }

    /// A restore that was acknowledged was carried out, waits for the next start, or is said not to have been.
    pub(super) async fn went_back(&self, tenant: &Tenant, wrong: &mut Vec<String>) {
        let mut told: BTreeMap<String, Vec<(u64, String)>> = BTreeMap::new();
        let mut after = 0;
        loop {
            let page = self.store.events(tenant.id, after, PAGE_LIMIT).await.unwrap();
            let Some(end) = page.last() else { break };
            after = end.seq;
            for found in page.into_iter().filter(|found| found.event.kind.starts_with("snapshot.")) {
                told.entry(found.event.subject).or_default().push((found.seq, found.event.kind));
            }
        }
        for session in &tenant.sessions {
            let note = self.ledger().sessions.get(&session.id).and_then(|note| {
                let note = note.restoring.as_ref()?;
                Some((note.snapshot, note.after))
            });
            let Some((snapshot, after)) = note else { continue };
            if session.restore == Some(snapshot) {
                self.faults.count("restore that waits for a start");
                continue;
            }
            let mut told = told.get(&snapshot.to_string()).into_iter().flatten();
            let end = told.rfind(|(seq, kind)| *seq > after && kind.ends_with("restored"));
            match end {
                Some((_, kind)) => self.faults.count(kind),
                None => wrong.push(format!("{} was to be restored on {}, and was not", snapshot, session.id)),
            }
        }
    }

    /// Events are in order, none twice, and the last one of a session tells where it is.
    pub(super) async fn told(&self, tenant: &Tenant, wrong: &mut Vec<String>) {
        let (mut after, mut last) = (0, BTreeMap::new());
        loop {
            let page = self.store.events(tenant.id, after, PAGE_LIMIT).await.unwrap();
            let Some(end) = page.last() else { break };
            for event in &page {
                if event.seq <= after {
                    wrong.push(format!("event {} comes after {after}", event.seq));
                }
                after = event.seq;
                if event.event.kind == "session.state" {
                    let state = event.event.data.get("state").and_then(|state| state.as_str());
                    last.insert(event.event.subject.clone(), state.unwrap_or_default().to_owned());
                }
            }
            after = end.seq;
        }
        for session in &tenant.sessions {
            let state = format!("{:?}", session.state).to_lowercase();
            let told = last.get(&session.id.to_string());
            if told != Some(&state) {
                wrong.push(format!("{} is {state}, and listeners were told {told:?}", session.id));
            }
        }
    }
}
