//! Guards as statements that write nothing where they hold, and break a CHECK with their number in its name where not.

use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::id::Id;
use burstflare_ports::record::{
    Build, Grant, Membership, Pack, PortSetting, Release, SecretEntry, SecretKey, Session, SignIn, Snapshot,
    SnapshotPack, Template, Ticket, Token, User, Version, Workspace,
};
use burstflare_ports::store::{ChangeSet, CommitError, Counter, Family, Guard, Key, SingleUse, Unique};

use super::params;
use crate::column::{Column, MAX_INTEGER};
use crate::database::{Statement, Value};
use crate::table::{
    ANY_USER, COUNTER_BELOW, EMAIL_TAKEN, GRANT_UNSPENT, PACKS_NAMED, SECRET_NAME_TAKEN, SESSION_NAME_TAKEN,
    SNAPSHOT_PACKED, SNAPSHOT_PENDS, Stored, TEMPLATE_NAME_TAKEN, TICKET_UNSPENT, VERSION_LABEL_TAKEN,
    WORKSPACE_NAME_TAKEN,
};

/// What a guard says about a SELECT.
enum Wants {
    Row(&'static str),
    RowAtRevision(&'static str),
    NoRow(&'static str),
    /// The SELECT ends in a list of so many values.
    NoRowOf(&'static str, usize),
}

/// The guard in slot `slot` of a commit.
pub(super) fn statement(family: Family, slot: usize, guard: &Guard) -> PortResult<Statement> {
    let (wants, params) = match guard {
        Guard::Revision(key, revision) => {
            let (has, mut params) = has(family, *key)?;
            params.push(revision.encode()?);
            (Wants::RowAtRevision(has), params)
        }
        Guard::Absent(key) => {
            let (has, params) = has(family, *key)?;
            (Wants::NoRow(has), params)
        }
        Guard::Free(unique) => {
            let (taken, params) = taken(family, unique)?;
            (Wants::NoRow(taken), params)
        }
        Guard::Unspent(SingleUse::Grant(id), now) => (Wants::Row(GRANT_UNSPENT), params![*id, *now]),
        Guard::Unspent(SingleUse::Ticket(id), now) => {
            (Wants::Row(TICKET_UNSPENT), params![tenant(family)?, *id, *now])
        }
        Guard::Below { counter, by, limit } => {
            let mut params = counter_key(tenant(family)?, *counter)?;
            params.extend([bounded(*by), bounded(*limit)]);
            (Wants::Row(COUNTER_BELOW), params)
        }
        Guard::Packed { snapshot, packs } => {
            let mut params = params![tenant(family)?, *snapshot];
            params.push(bounded(*packs));
            (Wants::Row(SNAPSHOT_PACKED), params)
        }
        Guard::Unreferenced(packs) => {
            let mut params = params![tenant(family)?];
            for pack in packs {
                params.push(pack.encode()?);
            }
            (Wants::NoRowOf(PACKS_NAMED, packs.len()), params)
        }
    };
    let failing = match wants {
        Wants::Row(select) => format!("NOT EXISTS ({select})"),
        Wants::RowAtRevision(select) => format!("NOT EXISTS ({select} AND revision = ?)"),
        Wants::NoRow(select) => format!("EXISTS ({select})"),
        Wants::NoRowOf(select, count) => format!("EXISTS ({select}({}))", vec!["?"; count].join(", ")),
    };
    Ok(Statement::new(format!("INSERT INTO commit_guard (guard_{slot}) SELECT 0 WHERE {failing}"), params))
}

/// What a broken constraint means for the change.
pub(super) fn refusal(change: &ChangeSet, constraint: &str) -> CommitError {
    let slot = constraint.strip_prefix("guard_").and_then(|slot| slot.parse::<usize>().ok());
    if let Some(guard) = slot.and_then(|slot| change.guards.get(slot)) {
        return CommitError::Refused(guard.clone());
    }
    let what = if constraint.is_empty() {
        "a record it refers to is missing, or one that would go is still referred to".to_owned()
    } else {
        format!("broke the constraint {constraint}")
    };
    CommitError::Failed(PortError::new(ErrorKind::Conflict, "store.commit", what))
}

/// The workspace of a commit of workspace data.
pub(super) fn tenant(family: Family) -> PortResult<Id<Workspace>> {
    match family {
        Family::Workspace(id) => Ok(id),
        Family::Directory => {
            Err(PortError::new(ErrorKind::Invalid, "store.commit", "workspace data in a directory commit"))
        }
    }
}

/// The key columns of a counter.
pub(super) fn counter_key(workspace: Id<Workspace>, counter: Counter) -> PortResult<Vec<Value>> {
    let subject = match counter {
        Counter::Versions(template) => template.to_string(),
        Counter::Snapshots(session) => session.to_string(),
        _ => String::new(),
    };
    Ok(params![workspace, counter.name().to_owned(), subject])
}

/// The key columns of a record, in the order of its table.
pub(super) fn key_params(family: Family, key: Key) -> PortResult<Vec<Value>> {
    Ok(match key {
        Key::User(id) => params![id],
        Key::Workspace(id) => params![id],
        Key::Membership(workspace, user) => params![workspace, user],
        Key::SignIn(id) => params![id],
        Key::Token(id) => params![id],
        Key::Grant(id) => params![id],
        Key::Template(id) => params![tenant(family)?, id],
        Key::Version(id) => params![tenant(family)?, id],
        Key::Build(id) => params![tenant(family)?, id],
        Key::Release(id) => params![tenant(family)?, id],
        Key::Session(id) => params![tenant(family)?, id],
        Key::Port(session, port) => params![tenant(family)?, session, port],
        Key::Ticket(id) => params![tenant(family)?, id],
        Key::Snapshot(id) => params![tenant(family)?, id],
        Key::Pack(id) => params![tenant(family)?, id],
        Key::SecretKey => params![tenant(family)?],
        Key::Secret(id) => params![tenant(family)?, id],
        Key::SnapshotPack(snapshot, pack) => params![tenant(family)?, snapshot, pack],
    })
}

fn has(family: Family, key: Key) -> PortResult<(&'static str, Vec<Value>)> {
    let sql = match key {
        Key::User(_) => User::HAS,
        Key::Workspace(_) => Workspace::HAS,
        Key::Membership(..) => Membership::HAS,
        Key::SignIn(_) => SignIn::HAS,
        Key::Token(_) => Token::HAS,
        Key::Grant(_) => Grant::HAS,
        Key::Template(_) => Template::HAS,
        Key::Version(_) => Version::HAS,
        Key::Build(_) => Build::HAS,
        Key::Release(_) => Release::HAS,
        Key::Session(_) => Session::HAS,
        Key::Port(..) => PortSetting::HAS,
        Key::Ticket(_) => Ticket::HAS,
        Key::Snapshot(_) => Snapshot::HAS,
        Key::Pack(_) => Pack::HAS,
        Key::SnapshotPack(..) => SnapshotPack::HAS,
        Key::SecretKey => SecretKey::HAS,
        Key::Secret(_) => SecretEntry::HAS,
    };
    Ok((sql, key_params(family, key)?))
}

fn taken(family: Family, unique: &Unique) -> PortResult<(&'static str, Vec<Value>)> {
    Ok(match unique {
        Unique::Email(email) => (EMAIL_TAKEN, params![email]),
        Unique::WorkspaceName(name) => (WORKSPACE_NAME_TAKEN, params![name]),
        Unique::TemplateName(name) => (TEMPLATE_NAME_TAKEN, params![tenant(family)?, name]),
        Unique::VersionLabel(template, label) => {
            (VERSION_LABEL_TAKEN, params![tenant(family)?, template, label])
        }
        Unique::SessionName(name) => (SESSION_NAME_TAKEN, params![tenant(family)?, name]),
        Unique::SecretName(name) => (SECRET_NAME_TAKEN, params![tenant(family)?, name]),
        Unique::PendingSnapshot(session) => (SNAPSHOT_PENDS, params![tenant(family)?, *session]),
        Unique::FirstUser => (ANY_USER, Vec::new()),
    })
}

/// A quota over what a database counts is no limit at all.
fn bounded(number: u64) -> Value {
    Value::Int(i64::try_from(number).unwrap_or(MAX_INTEGER).min(MAX_INTEGER))
}
