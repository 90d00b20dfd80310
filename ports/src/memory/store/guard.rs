use super::tables::Tables;
use crate::id::Id;
use crate::record::{Pack, PackState, Snapshot, SnapshotState, Workspace};
use crate::store::{Counter, Family, Guard, Key, SingleUse, Unique};
use crate::time::Timestamp;

impl Tables {
    /// Whether a guard of a commit of this family holds now.
    pub(super) fn holds(&self, family: Family, guard: &Guard) -> bool {
        match guard {
            Guard::Revision(key, revision) => self.revision(family, *key) == Some(Some(*revision)),
            Guard::Absent(key) => self.revision(family, *key).is_none(),
            Guard::Free(unique) => self.free(family, unique),
            Guard::Unspent(what, now) => self.unspent(family, *what, *now),
            Guard::Below { counter, by, limit } => tenant(family)
                .is_some_and(|workspace| self.count(workspace, *counter).saturating_add(*by) <= *limit),
            Guard::Packed { snapshot, packs } => self.packed(family, *snapshot) == Some(*packs),
            Guard::Unreferenced(packs) => !self
                .snapshot_packs
                .keys()
                .any(|(home, _, pack)| Some(*home) == tenant(family) && packs.contains(pack)),
        }
    }

    /// What a counter shows.
    pub(super) fn count(&self, workspace: Id<Workspace>, counter: Counter) -> u64 {
        self.counters.get(&(workspace, counter.name(), subject(counter))).copied().unwrap_or(0)
    }

    /// None where there is no such record; none within where it does not count its commits.
    fn revision(&self, family: Family, key: Key) -> Option<Option<u64>> {
        let home = tenant(family);
        match key {
            Key::User(id) => self.users.get(&id).map(|row| Some(row.revision)),
            Key::Workspace(id) => self.workspaces.get(&id).map(|row| Some(row.revision)),
            Key::Membership(workspace, user) => {
                self.memberships.get(&(workspace, user)).map(|row| Some(row.revision))
            }
            Key::SignIn(id) => self.sign_ins.get(&id).map(|row| Some(row.revision)),
            Key::Token(id) => self.tokens.get(&id).map(|row| Some(row.revision)),
            Key::Grant(id) => self.grants.get(&id).map(|_| None),
            Key::Template(id) => self.templates.get(&(home?, id)).map(|row| Some(row.revision)),
            Key::Version(id) => self.versions.get(&(home?, id)).map(|row| Some(row.revision)),
            Key::Build(id) => self.builds.get(&(home?, id)).map(|row| Some(row.revision)),
            Key::Release(id) => self.releases.get(&(home?, id)).map(|_| None),
            Key::Session(id) => self.sessions.get(&(home?, id)).map(|row| Some(row.revision)),
            Key::Port(session, port) => {
                self.port_settings.get(&(home?, session, port)).map(|row| Some(row.revision))
            }
            Key::Ticket(id) => self.tickets.get(&(home?, id)).map(|_| None),
            Key::Snapshot(id) => self.snapshots.get(&(home?, id)).map(|row| Some(row.revision)),
            Key::Pack(id) => self.packs.get(&(home?, id)).map(|row| Some(row.revision)),
            Key::SecretKey => self.secret_keys.get(&home?).map(|row| Some(row.revision)),
            Key::Secret(id) => self.secrets.get(&(home?, id)).map(|row| Some(row.revision)),
            Key::SnapshotPack(snapshot, pack) => {
                self.snapshot_packs.get(&(home?, snapshot, pack)).map(|()| None)
            }
        }
    }

    /// How many packs a snapshot names, where all of them are live.
    fn packed(&self, family: Family, snapshot: Id<Snapshot>) -> Option<u64> {
        let home = tenant(family)?;
        let named: Vec<_> =
            self.snapshot_packs.keys().filter(|key| (key.0, key.1) == (home, snapshot)).collect();
        let is_live =
            |id: Id<Pack>| self.packs.get(&(home, id)).is_some_and(|row| row.state == PackState::Live);
        named.iter().all(|key| is_live(key.2)).then_some(named.len() as u64)
    }

    fn free(&self, family: Family, unique: &Unique) -> bool {
        let home = tenant(family);
        match unique {
            Unique::Email(email) => self.users.values().all(|row| row.email != *email),
            Unique::WorkspaceName(name) => self.workspaces.values().all(|row| row.name != *name),
            Unique::TemplateName(name) => {
                self.templates.values().all(|row| Some(row.workspace) != home || row.name != *name)
            }
            Unique::VersionLabel(template, label) => self
                .versions
                .values()
                .all(|row| Some(row.workspace) != home || row.template != *template || row.label != *label),
            Unique::SessionName(name) => {
                self.sessions.values().all(|row| Some(row.workspace) != home || row.name != *name)
            }
            Unique::SecretName(name) => {
                self.secrets.values().all(|row| Some(row.workspace) != home || row.name != *name)
            }
            Unique::PendingSnapshot(session) => self.snapshots.values().all(|row| {
                Some(row.workspace) != home || row.session != *session || row.state != SnapshotState::Pending
            }),
            Unique::FirstUser => self.users.is_empty(),
        }
    }

    fn unspent(&self, family: Family, what: SingleUse, now: Timestamp) -> bool {
        let state = match what {
            SingleUse::Grant(id) => self.grants.get(&id).map(|row| (row.spent_at, row.expires_at)),
            SingleUse::Ticket(id) => tenant(family)
                .and_then(|home| self.tickets.get(&(home, id)))
                .map(|row| (row.spent_at, row.expires_at)),
        };
        state.is_some_and(|(spent_at, expires_at)| spent_at.is_none() && expires_at > now)
    }
}

/// The workspace of a commit of workspace data.
pub(super) fn tenant(family: Family) -> Option<Id<Workspace>> {
    match family {
        Family::Directory => None,
        Family::Workspace(id) => Some(id),
    }
}

/// What a counter counts below.
pub(super) fn subject(counter: Counter) -> String {
    match counter {
        Counter::Versions(template) => template.to_string(),
        Counter::Snapshots(session) => session.to_string(),
        _ => String::new(),
    }
}
