//! How fast the records are here: printed, never judged. No script runs it; for numbers of a machine:
//!
//! ```sh
//! cargo nextest run --release -p burstflare-adapters-local --run-ignored all --no-capture -E 'test(rates_of)'
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use burstflare_adapters_local::sqlite::SqliteStore;
use burstflare_ports::id::Id;
use burstflare_ports::record::{
    Membership, Role, SecretHash, SignIn, Template, Token, TokenKind, User, Workspace,
};
use burstflare_ports::store::{
    Accounts, Bump, ChangeSet, Counter, Family, Guard, Put, Store, Templates, Unique,
};
use burstflare_ports::time::Timestamp;

use super::place;

const NOW: Timestamp = Timestamp::from_millis(1_750_000_000_000);

fn template(workspace: Id<Workspace>, number: u32) -> ChangeSet {
    let mut random = [0; 10];
    random[..4].copy_from_slice(&number.to_be_bytes());
    let row = Template {
        id: Id::new(NOW, random),
        workspace,
        name: format!("t-{number}").parse().expect("a name"),
        created_by: Id::new(NOW, [1; 10]),
        current_release: None,
        archived_at: None,
        created_at: NOW,
        revision: 1,
    };
    let mut change = ChangeSet::new(Family::Workspace(workspace));
    change.guards.push(Guard::Free(Unique::TemplateName(row.name.clone())));
    change.guards.push(Guard::Below { counter: Counter::Templates, by: 1, limit: 1 << 40 });
    change.bumps.push(Bump { counter: Counter::Templates, by: 1 });
    change.puts.push(Put::Template(row));
    change
}

fn median(mut spans: Vec<Duration>) -> (Duration, Duration) {
    spans.sort();
    (spans[spans.len() / 2], spans[spans.len() * 99 / 100])
}

async fn account(store: &SqliteStore) -> SecretHash {
    let (user, workspace, sign_in) = (Id::new(NOW, [2; 10]), Id::new(NOW, [3; 10]), Id::new(NOW, [4; 10]));
    let hash = SecretHash::of("secret");
    let mut change = ChangeSet::new(Family::Directory);
    change.puts = vec![
        Put::User(User {
            id: user,
            email: "a@b".parse().expect("an address"),
            email_verified_at: None,
            created_at: NOW,
            revision: 1,
        }),
        Put::Workspace(Workspace {
            id: workspace,
            name: "w".parse().expect("a name"),
            plan: "local".to_owned(),
            personal_of: None,
            created_at: NOW,
            revision: 1,
        }),
        Put::Membership(Membership { workspace, user, role: Role::Owner, created_at: NOW, revision: 1 }),
        Put::SignIn(SignIn { id: sign_in, user, workspace, created_at: NOW, revoked_at: None, revision: 1 }),
        Put::Token(Token {
            id: Id::new(NOW, [5; 10]),
            kind: TokenKind::Access,
            hash,
            sign_in,
            user,
            workspace,
            name: None,
            scopes: Vec::new(),
            created_at: NOW,
            expires_at: NOW,
            revoked_at: None,
            revision: 1,
        }),
    ];
    change.guards = change.puts.iter().filter_map(Put::key).map(Guard::Absent).collect();
    store.commit(&change).await.expect("the account");
    hash
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, run by hand: the top of this file says how"]
async fn rates_of_commits_and_reads() {
    let place = place().await;
    let store = Arc::new(SqliteStore::new(place.database.clone()));
    let hash = account(&store).await;
    let workspace = Id::new(NOW, [9; 10]);
    let mut spans = Vec::new();
    for number in 0..2_000 {
        let start = Instant::now();
        store.commit(&template(workspace, number)).await.expect("the commit");
        spans.push(start.elapsed());
    }
    let (half, most) = median(spans);
    eprintln!("commit (2 guards, a put, a bump): median {half:?}, 99th {most:?}");
    for writers in [1_u32, 16, 100] {
        let (start, each) = (Instant::now(), 2_000 / writers);
        let work = (0..writers).map(|writer| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for number in 0..each {
                    let change = template(workspace, (writers << 20) + (writer << 12) + number);
                    store.commit(&change).await.expect("the commit");
                }
            })
        });
        futures_util::future::join_all(work).await;
        let rate = f64::from(each * writers) / start.elapsed().as_secs_f64();
        eprintln!("commits, {writers} at once: {rate:.0} a second");
    }
    let id = Id::new(NOW, [0; 10]);
    for readers in [1_u32, 4, 16] {
        let (start, each) = (Instant::now(), 20_000 / readers);
        let work = (0..readers).map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for _ in 0..each {
                    store.template(workspace, id).await.expect("a read").expect("a template");
                }
            })
        });
        futures_util::future::join_all(work).await;
        let rate = f64::from(each * readers) / start.elapsed().as_secs_f64();
        eprintln!("template by id, {readers} at once: {rate:.0} reads/s");
    }
    let start = Instant::now();
    for _ in 0..10_000 {
        store.principal(&hash).await.expect("a read").expect("a principal");
    }
    eprintln!("principal: {:.0} reads/s", 10_000.0 / start.elapsed().as_secs_f64());
    let start = Instant::now();
    for _ in 0..500 {
        assert_eq!(store.templates(workspace, None, 200).await.expect("a read").items.len(), 200);
    }
    eprintln!("a page of 200 templates: {:?}", start.elapsed() / 500);
}
