//! The writes of a change, in the order of the port, with the constraints that production's schema has.

use std::sync::Arc;

use super::guard::{subject, tenant};
use super::tables::{Tables, conflict, require, write};
use crate::error::PortError;
use crate::id::Id;
use crate::record::{SharedPacks, SnapshotState, Workspace};
use crate::store::{Bump, ChangeSet, Counter, Key, Put, SingleUse, Spend};

type Applied = Result<(), PortError>;

impl Tables {
    /// Writes everything, or answers why not; the caller throws these tables away then.
    pub(super) fn apply(&mut self, change: &ChangeSet) -> Applied {
        for put in &change.puts {
            self.parents(put)?;
            self.uniques(put)?;
            self.put(put)?;
        }
        for spend in &change.spends {
            self.spend(tenant(change.family), *spend)?;
        }
        if let Some(workspace) = tenant(change.family) {
            for bump in &change.bumps {
                self.bump(workspace, *bump);
            }
        }
        change.deletes.iter().try_for_each(|key| self.delete(tenant(change.family), *key))
    }

    fn put(&mut self, put: &Put) -> Applied {
        let is_new = put.revision().is_none_or(|revision| revision == 1);
        match put.clone() {
            Put::User(row) => write(&mut self.users, row.id, row, is_new),
            Put::Workspace(row) => write(&mut self.workspaces, row.id, row, is_new),
            Put::Membership(row) => write(&mut self.memberships, (row.workspace, row.user), row, is_new),
            Put::SignIn(row) => write(&mut self.sign_ins, row.id, row, is_new),
            Put::Token(row) => write(&mut self.tokens, row.id, row, is_new),
            Put::Grant(row) => write(&mut self.grants, row.id, row, is_new),
            Put::Template(row) => write(&mut self.templates, (row.workspace, row.id), row, is_new),
            Put::Version(row) => write(&mut self.versions, (row.workspace, row.id), row, is_new),
            Put::Build(row) => write(&mut self.builds, (row.workspace, row.id), row, is_new),
            Put::LogChunk(row) => {
                let key = (row.workspace, row.build, row.attempt, row.offset);
                write(&mut self.log_chunks, key, row, is_new)
            }
            Put::Release(row) => write(&mut self.releases, (row.workspace, row.id), row, is_new),
            Put::Session(row) => write(&mut self.sessions, (row.workspace, row.id), row, is_new),
            Put::Port(row) => {
                write(&mut self.port_settings, (row.workspace, row.session, row.port), row, is_new)
            }
            Put::Ticket(row) => write(&mut self.tickets, (row.workspace, row.id), row, is_new),
            Put::Snapshot(row) => write(&mut self.snapshots, (row.workspace, row.id), row, is_new),
            Put::Pack(row) => write(&mut self.packs, (row.workspace, row.id), row, is_new),
            Put::SnapshotPack(row) => {
                write(&mut self.snapshot_packs, (row.workspace, row.snapshot, row.pack), (), is_new)
            }
            Put::SharedPacks(row) => self.share(row),
            Put::SecretKey(row) => write(&mut self.secret_keys, row.workspace, row, is_new),
            Put::Secret(row) => write(&mut self.secrets, (row.workspace, row.id), row, is_new),
        }
    }

    /// Names the packs of one snapshot by another; what that one names already stays named.
    fn share(&mut self, shared: SharedPacks) -> Applied {
        let of = (shared.workspace, shared.from);
        let packs: Vec<_> =
            self.snapshot_packs.keys().filter(|key| (key.0, key.1) == of).map(|key| key.2).collect();
        let to = self.snapshots.contains_key(&(shared.workspace, shared.to));
        require(packs.is_empty() || to, "a record it refers to is missing")?;
        let named = Arc::make_mut(&mut self.snapshot_packs);
        named.extend(packs.into_iter().map(|pack| ((shared.workspace, shared.to, pack), ())));
        Ok(())
    }

    /// What a record refers to within its family is there.
    fn parents(&self, put: &Put) -> Applied {
        let there = match put {
            Put::User(_)
            | Put::Workspace(_)
            | Put::Template(_)
            | Put::Pack(_)
            | Put::SharedPacks(_)
            | Put::SecretKey(_)
            | Put::Secret(_) => true,
            Put::Membership(row) => {
                self.workspaces.contains_key(&row.workspace) && self.users.contains_key(&row.user)
            }
            Put::SignIn(row) => self.users.contains_key(&row.user),
            Put::Token(row) => self.sign_ins.contains_key(&row.sign_in),
            Put::Grant(row) => row.sign_in.is_none_or(|sign_in| self.sign_ins.contains_key(&sign_in)),
            Put::Version(row) => self.templates.contains_key(&(row.workspace, row.template)),
            Put::Build(row) => self.versions.contains_key(&(row.workspace, row.version)),
            Put::LogChunk(row) => self.builds.contains_key(&(row.workspace, row.build)),
            Put::Release(row) => {
                self.templates.contains_key(&(row.workspace, row.template))
                    && self.versions.contains_key(&(row.workspace, row.version))
            }
            Put::Session(row) => {
                self.templates.contains_key(&(row.workspace, row.template))
                    && self.releases.contains_key(&(row.workspace, row.release))
            }
            Put::Port(row) => self.sessions.contains_key(&(row.workspace, row.session)),
            Put::Ticket(row) => self.sessions.contains_key(&(row.workspace, row.session)),
            Put::Snapshot(row) => self.sessions.contains_key(&(row.workspace, row.session)),
            Put::SnapshotPack(row) => {
                self.snapshots.contains_key(&(row.workspace, row.snapshot))
                    && self.packs.contains_key(&(row.workspace, row.pack))
            }
        };
        require(there, "a record it refers to is missing")
    }

    /// No other record has what may exist once.
    fn uniques(&self, put: &Put) -> Applied {
        let free = match put {
            Put::User(new) => self.users.values().all(|row| row.id == new.id || row.email != new.email),
            Put::Workspace(new) => {
                self.workspaces.values().all(|row| row.id == new.id || row.name != new.name)
            }
            Put::Token(new) => self.tokens.values().all(|row| row.id == new.id || row.hash != new.hash),
            Put::Grant(new) => self.grants.values().all(|row| row.hash != new.hash),
            Put::Template(new) => self
                .templates
                .values()
                .all(|row| row.workspace != new.workspace || row.id == new.id || row.name != new.name),
            Put::Version(new) => self.versions.values().all(|row| {
                row.workspace != new.workspace
                    || row.id == new.id
                    || row.template != new.template
                    || row.label != new.label
            }),
            Put::Release(new) => self.releases.values().all(|row| {
                row.workspace != new.workspace || row.template != new.template || row.number != new.number
            }),
            Put::Session(new) => self
                .sessions
                .values()
                .all(|row| row.workspace != new.workspace || row.id == new.id || row.name != new.name),
            Put::Ticket(new) => self.tickets.values().all(|row| row.hash != new.hash),
            Put::Snapshot(new) => self.snapshots.values().all(|row| {
                row.workspace != new.workspace
                    || row.session != new.session
                    || row.id == new.id
                    || row.state != SnapshotState::Pending
                    || new.state != SnapshotState::Pending
            }),
            Put::Secret(new) => self
                .secrets
                .values()
                .all(|row| row.workspace != new.workspace || row.id == new.id || row.name != new.name),
            Put::Port(_)
            | Put::Membership(_)
            | Put::SignIn(_)
            | Put::SecretKey(_)
            | Put::Build(_)
            | Put::LogChunk(_)
            | Put::Pack(_)
            | Put::SnapshotPack(_)
            | Put::SharedPacks(_) => true,
        };
        require(free, "another record has what may exist once")
    }

    fn spend(&mut self, home: Option<Id<Workspace>>, spend: Spend) -> Applied {
        let spent_at = match spend.what {
            SingleUse::Grant(id) => Arc::make_mut(&mut self.grants).get_mut(&id).map(|row| &mut row.spent_at),
            SingleUse::Ticket(id) => home
                .and_then(|home| Arc::make_mut(&mut self.tickets).get_mut(&(home, id)))
                .map(|row| &mut row.spent_at),
        };
        let spent_at = spent_at.ok_or_else(|| conflict("there is nothing to spend"))?;
        *spent_at = Some(spend.at);
        Ok(())
    }

    fn bump(&mut self, workspace: Id<Workspace>, bump: Bump) {
        let key = (workspace, bump.counter.name(), subject(bump.counter));
        let value = Arc::make_mut(&mut self.counters).entry(key).or_insert(0);
        *value = value.saturating_add_signed(bump.by);
    }

    fn delete(&mut self, home: Option<Id<Workspace>>, key: Key) -> Applied {
        require(!self.in_use(home, key), "a record is still referred to")?;
        match (key, home) {
            (Key::User(id), _) => drop(Arc::make_mut(&mut self.users).remove(&id)),
            (Key::Workspace(id), _) => drop(Arc::make_mut(&mut self.workspaces).remove(&id)),
            (Key::Membership(workspace, user), _) => {
                Arc::make_mut(&mut self.memberships).remove(&(workspace, user));
            }
            (Key::SignIn(id), _) => drop(Arc::make_mut(&mut self.sign_ins).remove(&id)),
            (Key::Token(id), _) => drop(Arc::make_mut(&mut self.tokens).remove(&id)),
            (Key::Grant(id), _) => drop(Arc::make_mut(&mut self.grants).remove(&id)),
            (Key::Template(id), Some(home)) => {
                Arc::make_mut(&mut self.templates).remove(&(home, id));
                let counter = Counter::Versions(id);
                Arc::make_mut(&mut self.counters).remove(&(home, counter.name(), subject(counter)));
            }
            (Key::Version(id), Some(home)) => drop(Arc::make_mut(&mut self.versions).remove(&(home, id))),
            (Key::Build(id), Some(home)) => {
                Arc::make_mut(&mut self.builds).remove(&(home, id));
                Arc::make_mut(&mut self.log_chunks).retain(|key, _| (key.0, key.1) != (home, id));
            }
            (Key::Release(id), Some(home)) => drop(Arc::make_mut(&mut self.releases).remove(&(home, id))),
            (Key::Session(id), Some(home)) => {
                Arc::make_mut(&mut self.sessions).remove(&(home, id));
                Arc::make_mut(&mut self.port_settings).retain(|key, _| (key.0, key.1) != (home, id));
                Arc::make_mut(&mut self.tickets).retain(|key, row| (key.0, row.session) != (home, id));
                Arc::make_mut(&mut self.snapshots).retain(|key, row| (key.0, row.session) != (home, id));
                self.forget_named();
                let counter = Counter::Snapshots(id);
                Arc::make_mut(&mut self.counters).remove(&(home, counter.name(), subject(counter)));
            }
            (Key::Port(session, port), Some(home)) => {
                Arc::make_mut(&mut self.port_settings).remove(&(home, session, port));
            }
            (Key::Ticket(id), Some(home)) => drop(Arc::make_mut(&mut self.tickets).remove(&(home, id))),
            (Key::Snapshot(id), Some(home)) => {
                Arc::make_mut(&mut self.snapshots).remove(&(home, id));
                self.forget_named();
            }
            (Key::Pack(id), Some(home)) => drop(Arc::make_mut(&mut self.packs).remove(&(home, id))),
            (Key::SnapshotPack(snapshot, pack), Some(home)) => {
                Arc::make_mut(&mut self.snapshot_packs).remove(&(home, snapshot, pack));
            }
            (Key::SecretKey, Some(home)) => drop(Arc::make_mut(&mut self.secret_keys).remove(&home)),
            (Key::Secret(id), Some(home)) => drop(Arc::make_mut(&mut self.secrets).remove(&(home, id))),
            // The change was checked: it has no keys of workspace data without a workspace.
            (_, None) => {}
        }
        Ok(())
    }

    /// What snapshots that are gone named.
    fn forget_named(&mut self) {
        let snapshots = Arc::clone(&self.snapshots);
        Arc::make_mut(&mut self.snapshot_packs).retain(|key, ()| snapshots.contains_key(&(key.0, key.1)));
    }

    /// Whether a record that stays refers to this one.
    fn in_use(&self, home: Option<Id<Workspace>>, key: Key) -> bool {
        match key {
            Key::User(id) => {
                self.memberships.values().any(|row| row.user == id)
                    || self.sign_ins.values().any(|row| row.user == id)
            }
            Key::Workspace(id) => self.memberships.values().any(|row| row.workspace == id),
            Key::SignIn(id) => {
                self.tokens.values().any(|row| row.sign_in == id)
                    || self.grants.values().any(|row| row.sign_in == Some(id))
            }
            Key::Template(id) => {
                self.versions.values().any(|row| Some(row.workspace) == home && row.template == id)
                    || self.releases.values().any(|row| Some(row.workspace) == home && row.template == id)
                    || self.sessions.values().any(|row| Some(row.workspace) == home && row.template == id)
            }
            Key::Version(id) => {
                self.builds.values().any(|row| Some(row.workspace) == home && row.version == id)
                    || self.releases.values().any(|row| Some(row.workspace) == home && row.version == id)
            }
            Key::Release(id) => {
                self.sessions.values().any(|row| Some(row.workspace) == home && row.release == id)
            }
            Key::Pack(id) => self.snapshot_packs.keys().any(|key| Some(key.0) == home && key.2 == id),
            Key::Membership(..)
            | Key::Token(_)
            | Key::Grant(_)
            | Key::Build(_)
            | Key::Session(_)
            | Key::Port(..)
            | Key::Ticket(_)
            | Key::Snapshot(_)
            | Key::SnapshotPack(..)
            | Key::SecretKey
            | Key::Secret(_) => false,
        }
    }
}
