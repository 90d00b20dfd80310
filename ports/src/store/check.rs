//! What makes a change well formed: decided without looking at the store, the same for every backend.

use std::collections::HashSet;

use super::{
    ChangeSet, Counter, Family, GUARD_LIMIT, Guard, Key, Put, SingleUse, UNREFERENCED_LIMIT, Unique,
};
use crate::error::{ErrorKind, PortError, PortResult};
use crate::id::Id;
use crate::record::Workspace;

/// The most bytes an event's data may have as JSON text.
pub const EVENT_DATA_LIMIT: usize = 4096;
/// The most bytes one piece of a log may have.
pub const LOG_CHUNK_LIMIT: u64 = 262_144;

/// Where a thing belongs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Home {
    Directory,
    Workspace,
}

impl Key {
    const fn home(self) -> Home {
        match self {
            Self::User(_)
            | Self::Workspace(_)
            | Self::Membership(..)
            | Self::SignIn(_)
            | Self::Token(_)
            | Self::Grant(_) => Home::Directory,
            Self::Template(_)
            | Self::Version(_)
            | Self::Build(_)
            | Self::Release(_)
            | Self::Session(_)
            | Self::Port(..)
            | Self::Ticket(_)
            | Self::Snapshot(_)
            | Self::Pack(_)
            | Self::SnapshotPack(..)
            | Self::SecretKey
            | Self::Secret(_) => Home::Workspace,
        }
    }

    /// Whether records of this kind count their commits.
    #[must_use]
    pub const fn has_revision(self) -> bool {
        !matches!(self, Self::Grant(_) | Self::Ticket(_) | Self::Release(_) | Self::SnapshotPack(..))
    }
}

impl SingleUse {
    /// The record that holds it.
    #[must_use]
    pub const fn key(self) -> Key {
        match self {
            Self::Grant(id) => Key::Grant(id),
            Self::Ticket(id) => Key::Ticket(id),
        }
    }
}

impl Unique {
    const fn home(&self) -> Home {
        match self {
            Self::Email(_) | Self::WorkspaceName(_) | Self::FirstUser => Home::Directory,
            Self::TemplateName(_)
            | Self::VersionLabel(..)
            | Self::SessionName(_)
            | Self::SecretName(_)
            | Self::PendingSnapshot(_) => Home::Workspace,
        }
    }
}

impl Put {
    /// The record's key; log chunks and shared packs have none.
    #[must_use]
    pub const fn key(&self) -> Option<Key> {
        Some(match self {
            Self::User(record) => Key::User(record.id),
            Self::Workspace(record) => Key::Workspace(record.id),
            Self::Membership(record) => Key::Membership(record.workspace, record.user),
            Self::SignIn(record) => Key::SignIn(record.id),
            Self::Token(record) => Key::Token(record.id),
            Self::Grant(record) => Key::Grant(record.id),
            Self::Template(record) => Key::Template(record.id),
            Self::Version(record) => Key::Version(record.id),
            Self::Build(record) => Key::Build(record.id),
            Self::LogChunk(_) | Self::SharedPacks(_) => return None,
            Self::Release(record) => Key::Release(record.id),
            Self::Session(record) => Key::Session(record.id),
            Self::Port(record) => Key::Port(record.session, record.port),
            Self::Ticket(record) => Key::Ticket(record.id),
            Self::Snapshot(record) => Key::Snapshot(record.id),
            Self::Pack(record) => Key::Pack(record.id),
            Self::SnapshotPack(record) => Key::SnapshotPack(record.snapshot, record.pack),
            Self::SecretKey(_) => Key::SecretKey,
            Self::Secret(record) => Key::Secret(record.id),
        })
    }

    /// The revision it carries; none for records that are only ever inserted.
    #[must_use]
    pub const fn revision(&self) -> Option<u64> {
        match self {
            Self::User(record) => Some(record.revision),
            Self::Workspace(record) => Some(record.revision),
            Self::Membership(record) => Some(record.revision),
            Self::SignIn(record) => Some(record.revision),
            Self::Token(record) => Some(record.revision),
            Self::Template(record) => Some(record.revision),
            Self::Version(record) => Some(record.revision),
            Self::Build(record) => Some(record.revision),
            Self::Session(record) => Some(record.revision),
            Self::Port(record) => Some(record.revision),
            Self::Snapshot(record) => Some(record.revision),
            Self::Pack(record) => Some(record.revision),
            Self::SecretKey(record) => Some(record.revision),
            Self::Secret(record) => Some(record.revision),
            Self::Grant(_)
            | Self::LogChunk(_)
            | Self::Release(_)
            | Self::Ticket(_)
            | Self::SnapshotPack(_)
            | Self::SharedPacks(_) => None,
        }
    }

    /// The value that only one such record may have.
    #[must_use]
    pub fn unique(&self) -> Option<Unique> {
        match self {
            Self::User(record) => Some(Unique::Email(record.email.clone())),
            Self::Workspace(record) => Some(Unique::WorkspaceName(record.name.clone())),
            Self::Template(record) => Some(Unique::TemplateName(record.name.clone())),
            Self::Version(record) => Some(Unique::VersionLabel(record.template, record.label.clone())),
            Self::Session(record) => Some(Unique::SessionName(record.name.clone())),
            Self::Secret(record) => Some(Unique::SecretName(record.name.clone())),
            _ => None,
        }
    }

    /// The workspace it is data of; none for records of the directory.
    #[must_use]
    pub const fn tenant(&self) -> Option<Id<Workspace>> {
        Some(match self {
            Self::Template(record) => record.workspace,
            Self::Version(record) => record.workspace,
            Self::Build(record) => record.workspace,
            Self::LogChunk(record) => record.workspace,
            Self::Release(record) => record.workspace,
            Self::Session(record) => record.workspace,
            Self::Port(record) => record.workspace,
            Self::Ticket(record) => record.workspace,
            Self::Snapshot(record) => record.workspace,
            Self::Pack(record) => record.workspace,
            Self::SnapshotPack(record) => record.workspace,
            Self::SharedPacks(record) => record.workspace,
            Self::SecretKey(record) => record.workspace,
            Self::Secret(record) => record.workspace,
            Self::User(_)
            | Self::Workspace(_)
            | Self::Membership(_)
            | Self::SignIn(_)
            | Self::Token(_)
            | Self::Grant(_) => return None,
        })
    }
}

impl ChangeSet {
    /// Whether the change keeps the rules of its types' docs. Every backend asks this first, so that a defect
    /// of the caller is an answer and never a lost or a foreign row.
    ///
    /// # Errors
    /// `Invalid`, saying which rule.
    pub fn check(&self) -> PortResult<()> {
        if self.guards.len() > GUARD_LIMIT {
            return Err(invalid(format!("{} guards, at most {GUARD_LIMIT} are possible", self.guards.len())));
        }
        self.guards.iter().try_for_each(|guard| self.check_guard(guard))?;
        self.puts.iter().try_for_each(|put| self.check_put(put))?;
        for spend in &self.spends {
            self.at_home(spend.what.key().home(), &spend.what)?;
            let guarded = self
                .guards
                .iter()
                .any(|guard| matches!(guard, Guard::Unspent(what, _) if *what == spend.what));
            if !guarded {
                return Err(invalid(format!("{:?} is spent without its guard", spend.what)));
            }
        }
        for key in &self.deletes {
            self.at_home(key.home(), key)?;
        }
        self.check_targets()?;
        self.check_journal()
    }

    fn home(&self) -> Home {
        match self.family {
            Family::Directory => Home::Directory,
            Family::Workspace(_) => Home::Workspace,
        }
    }

    fn at_home(&self, home: Home, what: &dyn std::fmt::Debug) -> PortResult<()> {
        if home == self.home() {
            Ok(())
        } else {
            Err(invalid(format!("{what:?} is of the other family than the commit")))
        }
    }

    fn check_guard(&self, guard: &Guard) -> PortResult<()> {
        match guard {
            Guard::Revision(key, _) if !key.has_revision() => {
                Err(invalid(format!("{key:?} has no revision")))
            }
            Guard::Revision(key, _) | Guard::Absent(key) => self.at_home(key.home(), key),
            Guard::Free(unique) => self.at_home(unique.home(), unique),
            Guard::Unspent(what, _) => self.at_home(what.key().home(), what),
            Guard::Below { counter, .. } => self.at_home(Home::Workspace, counter),
            Guard::Packed { snapshot, .. } => self.at_home(Home::Workspace, snapshot),
            Guard::Unreferenced(packs) if !(1..=UNREFERENCED_LIMIT).contains(&packs.len()) => {
                Err(invalid(format!("a guard over {} packs", packs.len())))
            }
            Guard::Unreferenced(packs) => self.at_home(Home::Workspace, packs),
        }
    }

    fn check_put(&self, put: &Put) -> PortResult<()> {
        let named = || put.key().map_or_else(|| "log chunk".to_owned(), |key| format!("{key:?}"));
        match (self.family, put.tenant()) {
            (Family::Directory, None) => {}
            (Family::Workspace(own), Some(tenant)) if own == tenant => {}
            _ => return Err(invalid(format!("{} does not belong to the commit's family", named()))),
        }
        if let Put::LogChunk(chunk) = put
            && chunk.size > LOG_CHUNK_LIMIT
        {
            return Err(invalid(format!("a log chunk of {} bytes", chunk.size)));
        }
        let (Some(key), Some(revision)) = (put.key(), put.revision()) else { return Ok(()) };
        let unique = put.unique();
        let guarded = self.guards.iter().any(|guard| match guard {
            Guard::Revision(of, read) => *of == key && read.checked_add(1) == Some(revision) && revision > 1,
            Guard::Absent(of) => *of == key && revision == 1,
            Guard::Free(value) => Some(value) == unique.as_ref() && revision == 1,
            _ => false,
        });
        if guarded {
            Ok(())
        } else {
            Err(invalid(format!("{key:?} is put with revision {revision} without the guard for it")))
        }
    }

    /// One commit touches a record once: what two changes of the same record would mean is nobody's guess.
    fn check_targets(&self) -> PortResult<()> {
        let mut seen = HashSet::new();
        let touched = self
            .puts
            .iter()
            .filter_map(Put::key)
            .chain(self.spends.iter().map(|spend| spend.what.key()))
            .chain(self.deletes.iter().copied());
        for key in touched {
            if !seen.insert(key) {
                return Err(invalid(format!("{key:?} is changed twice")));
            }
        }
        Ok(())
    }

    fn check_journal(&self) -> PortResult<()> {
        let own = match self.family {
            Family::Directory if !self.bumps.is_empty() => {
                return Err(invalid("counters belong to a workspace".to_owned()));
            }
            Family::Directory if !self.events.is_empty() => {
                return Err(invalid("a directory commit has no events".to_owned()));
            }
            Family::Directory => None,
            Family::Workspace(own) => Some(own),
        };
        if let Some(own) = own
            && self.audit.iter().any(|(seen_by, _)| seen_by.is_some_and(|workspace| workspace != own))
        {
            return Err(invalid("an audit line for another workspace".to_owned()));
        }
        match self.events.iter().find(|event| event.data.to_string().len() > EVENT_DATA_LIMIT) {
            Some(event) => {
                Err(invalid(format!("data of event {} over {EVENT_DATA_LIMIT} bytes", event.kind)))
            }
            None => Ok(()),
        }
    }
}

impl Counter {
    /// A stable name for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Templates => "templates",
            Self::Versions(_) => "versions",
            Self::Sessions => "sessions",
            Self::Running => "running",
            Self::Builds => "builds",
            Self::Snapshots(_) => "snapshots",
        }
    }
}

fn invalid(context: String) -> PortError {
    PortError::new(ErrorKind::Invalid, "store.commit", context)
}
