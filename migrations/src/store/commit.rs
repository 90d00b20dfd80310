//! A change as the list of statements of one batch, in the order that the port promises.

use burstflare_ports::error::PortResult;
use burstflare_ports::record::{
    Build, Grant, Membership, Pack, PortSetting, Release, SecretEntry, SecretKey, Session, SignIn, Snapshot,
    SnapshotPack, Template, Ticket, Token, User, Version, Workspace,
};
use burstflare_ports::store::{ChangeSet, Counter, Family, Key, Put, SingleUse, Spend};

use super::guard::{self, counter_key, key_params, tenant};
use super::params;
use crate::column::MAX_INTEGER;
use crate::database::{Statement, Value};
use crate::table::{
    AUDIT_APPEND, COUNTER_BUMP, COUNTER_DELETE, DIRECTORY_AUDIT_APPEND, DIRECTORY_OUTBOX_APPEND,
    EVENT_APPEND, GRANT_SPEND, OUTBOX_APPEND, PACKS_SHARE, Stored, TICKET_SPEND, audit_values, event_values,
};

/// Guards, puts, spends, bumps, deletes, outbox, events, audit.
pub(super) fn statements(change: &ChangeSet) -> PortResult<Vec<Statement>> {
    let family = change.family;
    let mut batch = Vec::new();
    for (slot, guard) in change.guards.iter().enumerate() {
        batch.push(guard::statement(family, slot, guard)?);
    }
    for put in &change.puts {
        batch.push(put_statement(put)?);
    }
    for spend in &change.spends {
        batch.push(spend_statement(family, *spend)?);
    }
    for bump in &change.bumps {
        let mut params = counter_key(tenant(family)?, bump.counter)?;
        params.push(Value::Int(bump.by.clamp(-MAX_INTEGER, MAX_INTEGER)));
        batch.push(Statement::new(COUNTER_BUMP, params));
    }
    for key in &change.deletes {
        delete_statements(family, *key, &mut batch)?;
    }
    for (effect, due_at) in &change.outbox {
        batch.push(match family {
            Family::Workspace(id) => Statement::new(OUTBOX_APPEND, params![id, *effect, *due_at]),
            Family::Directory => Statement::new(DIRECTORY_OUTBOX_APPEND, params![*effect, *due_at]),
        });
    }
    for event in &change.events {
        batch.push(Statement::new(EVENT_APPEND, event_values(tenant(family)?, event)?));
    }
    for (seen_by, entry) in &change.audit {
        batch.push(match family {
            Family::Workspace(id) => Statement::new(AUDIT_APPEND, audit_values(Some(id), entry)?),
            Family::Directory => Statement::new(DIRECTORY_AUDIT_APPEND, audit_values(*seen_by, entry)?),
        });
    }
    Ok(batch)
}

/// A record's first revision is inserted and later ones written over: a put never creates what its guard says
/// exists, and never writes over what its guard says does not.
fn put_statement(put: &Put) -> PortResult<Statement> {
    let updates = put.revision().is_some_and(|revision| revision > 1);
    match put {
        Put::User(record) => written(record, updates),
        Put::Workspace(record) => written(record, updates),
        Put::Membership(record) => written(record, updates),
        Put::SignIn(record) => written(record, updates),
        Put::Token(record) => written(record, updates),
        Put::Grant(record) => written(record, updates),
        Put::Template(record) => written(record, updates),
        Put::Version(record) => written(record, updates),
        Put::Build(record) => written(record, updates),
        Put::LogChunk(record) => written(record, updates),
        Put::Release(record) => written(record, updates),
        Put::Session(record) => written(record, updates),
        Put::Port(record) => written(record, updates),
        Put::Ticket(record) => written(record, updates),
        Put::Snapshot(record) => written(record, updates),
        Put::Pack(record) => written(record, updates),
        Put::SnapshotPack(record) => written(record, updates),
        Put::SecretKey(record) => written(record, updates),
        Put::Secret(record) => written(record, updates),
        Put::SharedPacks(shared) => {
            Ok(Statement::new(PACKS_SHARE, params![shared.to, shared.workspace, shared.from]))
        }
    }
}

fn written<T: Stored>(record: &T, updates: bool) -> PortResult<Statement> {
    Ok(Statement::new(if updates { T::UPDATE } else { T::INSERT }, record.values()?))
}

fn spend_statement(family: Family, spend: Spend) -> PortResult<Statement> {
    Ok(match spend.what {
        SingleUse::Grant(id) => Statement::new(GRANT_SPEND, params![spend.at, id]),
        SingleUse::Ticket(id) => Statement::new(TICKET_SPEND, params![spend.at, tenant(family)?, id]),
    })
}

/// Log chunks, tickets, snapshots and what they name follow by their foreign keys; counters have none.
fn delete_statements(family: Family, key: Key, batch: &mut Vec<Statement>) -> PortResult<()> {
    let sql = match key {
        Key::User(_) => User::DELETE,
        Key::Workspace(_) => Workspace::DELETE,
        Key::Membership(..) => Membership::DELETE,
        Key::SignIn(_) => SignIn::DELETE,
        Key::Token(_) => Token::DELETE,
        Key::Grant(_) => Grant::DELETE,
        Key::Template(id) => {
            let params = counter_key(tenant(family)?, Counter::Versions(id))?;
            batch.push(Statement::new(COUNTER_DELETE, params));
            Template::DELETE
        }
        Key::Version(_) => Version::DELETE,
        Key::Build(_) => Build::DELETE,
        Key::Release(_) => Release::DELETE,
        Key::Session(id) => {
            let params = counter_key(tenant(family)?, Counter::Snapshots(id))?;
            batch.push(Statement::new(COUNTER_DELETE, params));
            Session::DELETE
        }
        Key::Port(..) => PortSetting::DELETE,
        Key::Ticket(_) => Ticket::DELETE,
        Key::Snapshot(_) => Snapshot::DELETE,
        Key::Pack(_) => Pack::DELETE,
        Key::SnapshotPack(..) => SnapshotPack::DELETE,
        Key::SecretKey => SecretKey::DELETE,
        Key::Secret(_) => SecretEntry::DELETE,
    };
    batch.push(Statement::new(sql, key_params(family, key)?));
    Ok(())
}
