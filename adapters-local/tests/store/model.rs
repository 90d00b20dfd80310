//! The store in memory and the one in SQLite answer alike, whatever they are asked to commit.

use std::sync::Arc;

use burstflare_adapters_local::sqlite::SqliteStore;
use burstflare_ports::error::ErrorKind;
use burstflare_ports::id::{Id, Kind};
use burstflare_ports::memory::MemoryStore;
use burstflare_ports::record::{
    Effect, Goal, Grant, GrantKind, Membership, Release, ReleaseCause, Role, SecretHash, Session,
    SessionKeys, SessionState, Sharing, SignIn, Template, Ticket, TicketPurpose, Token, TokenKind, User,
    Version, VersionState, Workspace,
};
use burstflare_ports::store::{
    Bump, ChangeSet, CommitError, Counter, Family, Guard, Key, Put, SingleUse, Spend, Store, Unique,
};
use burstflare_ports::time::Timestamp;
use proptest::prelude::*;

use super::place;

/// Few ids, names and secrets, so that changes meet each other.
const FEW: u8 = 3;

fn at(millis: u8) -> Timestamp {
    Timestamp::from_millis(1_000 + i64::from(millis))
}

fn id<K: Kind>(number: u8) -> Id<K> {
    Id::new(at(number), [number; 10])
}

fn hash(number: u8) -> SecretHash {
    SecretHash::of(&number.to_string())
}

fn name<T: std::str::FromStr>(number: u8) -> T {
    format!("n{number}").parse().ok().expect("a name")
}

/// What a random change is made of: small numbers that pick a record, a name, a revision.
type Pick = (u8, u8, u8, u8, u64);

fn record(family: Family, (kind, key, text, other, revision): Pick) -> Put {
    let (created_at, created_by) = (at(0), id(0));
    let Family::Workspace(workspace) = family else {
        return match kind % 6 {
            0 => Put::User(User {
                id: id(key),
                email: format!("u{text}@example.com").parse().expect("an address"),
                email_verified_at: (other > 0).then(|| at(other)),
                created_at,
                revision,
            }),
            1 => Put::Workspace(Workspace {
                id: id(key),
                name: name(text),
                plan: format!("p{other}"),
                personal_of: None,
                created_at,
                revision,
            }),
            2 => Put::Membership(Membership {
                workspace: id(key),
                user: id(text),
                role: if other > 0 { Role::Owner } else { Role::Viewer },
                created_at,
                revision,
            }),
            3 => Put::SignIn(SignIn {
                id: id(key),
                user: id(text),
                workspace: id(other),
                created_at,
                revoked_at: None,
                revision,
            }),
            4 => Put::Token(Token {
                id: id(key),
                kind: if other > 0 { TokenKind::Personal } else { TokenKind::Access },
                hash: hash(text),
                sign_in: id(other),
                user: id(text),
                workspace: id(other),
                name: None,
                scopes: Vec::new(),
                created_at,
                expires_at: at(text),
                revoked_at: None,
                revision,
            }),
            _ => Put::Grant(Grant {
                id: id(key),
                kind: GrantKind::Invite,
                hash: hash(text),
                user: None,
                sign_in: (other > 1).then(|| id(other)),
                workspace: Some(id(other)),
                role: None,
                created_at,
                expires_at: at(other),
                spent_at: None,
            }),
        };
    };
    match kind % 5 {
        0 => Put::Template(Template {
            id: id(key),
            workspace,
            name: name(text),
            created_by,
            current_release: None,
            archived_at: (other > 0).then(|| at(other)),
            created_at,
            revision,
        }),
        1 => Put::Version(Version {
            id: id(key),
            workspace,
            template: id(other),
            label: name(text),
            state: VersionState::Draft,
            bundle: None,
            spec: None,
            build: None,
            layer: None,
            created_by,
            created_at,
            revision,
        }),
        2 => Put::Release(Release {
            id: id(key),
            workspace,
            template: id(other),
            version: id(text),
            number: revision,
            cause: ReleaseCause::Promote,
            previous: None,
            created_by,
            created_at,
        }),
        3 => Put::Session(Session {
            id: id(key),
            workspace,
            name: name(text),
            template: id(other),
            release: id(other),
            version: id(other),
            owner: id(0),
            sharing: Sharing::Private,
            state: if other > 0 { SessionState::Running } else { SessionState::Failed },
            goal: if text > 0 { Goal::Run } else { Goal::Sleep },
            epoch: 0,
            keys: SessionKeys { agent: String::new(), ssh_host_seed: String::new() },
            ssh_host_key: String::new(),
            force: false,
            snapshot: None,
            restore: None,
            lineage: id(key),
            forked_from: None,
            disk: 0,
            saved_at: None,
            unsaved: false,
            deadline: None,
            failure: None,
            sleep_after_s: None,
            stopped_by: None,
            wanted_at: None,
            created_at,
            changed_at: created_at,
            revision,
        }),
        _ => Put::Ticket(Ticket {
            id: id(key),
            workspace,
            session: id(other),
            user: id(0),
            token: id(1),
            sign_in: id(2),
            purpose: TicketPurpose::Ssh,
            epoch: 1,
            ssh_key: None,
            port: Some(3000),
            hash: hash(text.wrapping_add(100)),
            created_at,
            expires_at: at(other),
            spent_at: None,
        }),
    }
}

fn guard(family: Family, (kind, key, text, other, revision): Pick) -> Guard {
    let named = record(family, (kind, key, text, other, revision));
    match (other, family) {
        (0, _) => named.key().map_or(Guard::Absent(Key::Template(id(key))), Guard::Absent),
        (1, Family::Workspace(_)) => Guard::Below { counter: counter(kind), by: revision, limit: 3 },
        (1, Family::Directory) => Guard::Unspent(SingleUse::Grant(id(key)), at(text)),
        (2, Family::Workspace(_)) if kind > 5 => Guard::Unspent(SingleUse::Ticket(id(key)), at(text)),
        (2, _) => named.unique().map_or_else(|| Guard::Absent(named.key().expect("a key")), Guard::Free),
        _ => Guard::Free(Unique::FirstUser),
    }
}

fn counter(kind: u8) -> Counter {
    match kind % 3 {
        0 => Counter::Templates,
        1 => Counter::Sessions,
        _ => Counter::Versions(id(kind)),
    }
}

/// Mostly changes that keep the rules: each put brings its guard. Some do not.
fn change(
    directory: bool,
    home: u8,
    puts: Vec<Pick>,
    guards: Vec<Pick>,
    deletes: Vec<Pick>,
    spend: Option<u8>,
    bump: i64,
) -> ChangeSet {
    let family = if directory { Family::Directory } else { Family::Workspace(id(home % 2)) };
    let mut change = ChangeSet::new(family);
    change.guards.extend(guards.into_iter().map(|pick| guard(family, pick)));
    for pick in puts {
        let put = record(family, pick);
        if let (Some(key), Some(revision)) = (put.key(), put.revision()) {
            let wanted = if revision == 1 {
                Guard::Absent(key)
            } else {
                Guard::Revision(key, revision.saturating_sub(1))
            };
            change.guards.push(wanted);
        }
        change.puts.push(put);
    }
    change.deletes.extend(deletes.into_iter().filter_map(|pick| record(family, pick).key()));
    if let Some(number) = spend {
        let what = if directory { SingleUse::Grant(id(number)) } else { SingleUse::Ticket(id(number)) };
        change.guards.push(Guard::Unspent(what, at(0)));
        change.spends.push(Spend { what, at: at(9) });
    }
    if !directory {
        change.bumps.push(Bump { counter: counter(home), by: bump });
        change.outbox.push((Effect::WakeSession { session: id(home) }, at(home)));
    }
    change
}

fn changes() -> impl Strategy<Value = ChangeSet> {
    let pick = || (0..8_u8, 0..FEW, 0..FEW, 0..FEW, 1..3_u64);
    (
        any::<bool>(),
        0..6_u8,
        prop::collection::vec(pick(), 0..3),
        prop::collection::vec(pick(), 0..2),
        prop::collection::vec(pick(), 0..2),
        prop::option::weighted(0.2, 0..FEW),
        -2..4_i64,
    )
        .prop_map(|(directory, home, puts, guards, deletes, spend, bump)| {
            change(directory, home, puts, guards, deletes, spend, bump)
        })
}

#[derive(Debug, PartialEq)]
enum Answer {
    Done,
    Refused(Guard),
    Failed(ErrorKind),
}

async fn commit(store: &dyn Store, change: &ChangeSet) -> Answer {
    match store.commit(change).await {
        Ok(()) => Answer::Done,
        Err(CommitError::Refused(guard)) => Answer::Refused(guard),
        Err(CommitError::Failed(error)) => Answer::Failed(error.kind()),
    }
}

/// Everything that can be read, as text.
async fn everything(store: &dyn Store) -> Vec<String> {
    let mut all = Vec::new();
    macro_rules! see {
        ($($read:expr),+ $(,)?) => { $(all.push(format!("{:?}", $read.await.expect("a read")));)+ };
    }
    for number in 0..FEW {
        see!(
            store.principal(&hash(number)),
            store.user(id(number)),
            store.user_by_email(&format!("u{number}@example.com").parse().expect("an address")),
            store.grant(&hash(number)),
            store.sign_in(id(number)),
            store.workspace(id(number)),
            store.workspace_by_name(&name(number)),
            store.members(id(number), None, 10),
            store.workspaces_of(id(number), None, 10),
            store.invites(id(number), None, 10),
            store.ticket(&hash(number + 100)),
        );
        for other in 0..FEW {
            see!(store.tokens(id(number), id(other), None, 10), store.membership(id(number), id(other)));
        }
    }
    for home in 0..2 {
        let workspace = id(home);
        see!(
            store.templates(workspace, None, 10),
            store.releases(workspace, None, None, 10),
            store.sessions(workspace, None, 10),
        );
        for number in 0..FEW {
            see!(
                store.versions(workspace, id(number), None, 10),
                store.version_by_label(workspace, id(number), &name(number)),
                store.releases(workspace, Some(id(number)), None, 10),
                store.session_by_name(workspace, &name(number)),
            );
        }
        let due = store.due(Some(workspace), at(200), 200).await.expect("a read");
        all.push(format!(
            "{:?}",
            due.iter().map(|stored| (&stored.effect, stored.due_at)).collect::<Vec<_>>()
        ));
    }
    see!(store.restless_sessions(None, 200), store.any_user(), store.backlog());
    all
}

#[test]
fn memory_and_sqlite_answer_alike() {
    let cases = std::env::var("MODEL_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(48);
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let seen = std::sync::Mutex::new(std::collections::BTreeMap::<String, u32>::new());
    proptest!(config, |(changes in prop::collection::vec(changes(), 1..40))| {
        runtime.block_on(async {
            let place = place().await;
            let sqlite: Arc<dyn Store> = Arc::new(SqliteStore::new(place.database.clone()));
            let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
            for change in &changes {
                let (one, two) = (commit(memory.as_ref(), change).await, commit(sqlite.as_ref(), change).await);
                let kind = match &one {
                    Answer::Refused(_) => "Refused".to_owned(),
                    other => format!("{other:?}"),
                };
                *seen.lock().expect("no panic").entry(kind).or_default() += 1;
                prop_assert_eq!(one, two, "in memory, then in SQLite: {:?}", change);
            }
            prop_assert_eq!(everything(memory.as_ref()).await, everything(sqlite.as_ref()).await);
            Ok(())
        })?;
    });
    // A comparison of refusals alone would show little.
    let seen = seen.into_inner().expect("no panic");
    for kind in ["Done", "Refused", "Failed(Conflict)", "Failed(Invalid)"] {
        assert!(seen.get(kind).is_some_and(|count| *count > cases / 4), "{kind} is rare: {seen:?}");
    }
}
