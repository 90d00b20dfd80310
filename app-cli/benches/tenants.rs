//! Many other tenants' sessions, put into the database of a server that is stopped.

use std::path::Path;

use burstflare_adapters_local::sqlite::{DataFolder, SqliteDatabase, SqliteStore};
use burstflare_ports::id::{Id, Kind};
use burstflare_ports::record::{
    Goal, Release, ReleaseCause, Session, SessionKeys, SessionState, Sharing, Template, Version, VersionState,
};
use burstflare_ports::store::{ChangeSet, Family, Guard, Key, Put, Store as _};

use crate::bare::now;

/// Sessions of one tenant: each new record takes a guard, and a commit has sixteen.
const EACH: u64 = 10;

fn id<K: Kind>(number: u64) -> Id<K> {
    let mut random = [0; 10];
    random[..8].copy_from_slice(&number.to_be_bytes());
    random[8] = 0xbe;
    Id::new(now(), random)
}

pub(crate) fn add(folder: &Path, count: u64) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let folder = DataFolder::open(folder.join("data")).unwrap();
        let store = SqliteStore::new(SqliteDatabase::open(&folder, now()).await.unwrap());
        for tenant in 0..count / EACH {
            store.commit(&change(tenant)).await.unwrap();
        }
        store.database().close().await;
    });
}

fn change(tenant: u64) -> ChangeSet {
    let at = now();
    let workspace = id(tenant);
    let mut change = ChangeSet::new(Family::Workspace(workspace));
    let (template, version, release) = (id(tenant), id(tenant), id(tenant));
    let user = id(tenant);
    change.guards = vec![Guard::Absent(Key::Template(template)), Guard::Absent(Key::Version(version))];
    change.puts.push(Put::Template(Template {
        id: template,
        workspace,
        name: "other".parse().unwrap(),
        created_by: user,
        current_release: None,
        archived_at: None,
        created_at: at,
        revision: 1,
    }));
    change.puts.push(Put::Version(Version {
        id: version,
        workspace,
        template,
        label: "1".parse().unwrap(),
        state: VersionState::Ready,
        bundle: None,
        spec: None,
        build: None,
        layer: None,
        created_by: user,
        created_at: at,
        revision: 1,
    }));
    change.puts.push(Put::Release(Release {
        id: release,
        workspace,
        template,
        version,
        number: 1,
        cause: ReleaseCause::Promote,
        previous: None,
        created_by: user,
        created_at: at,
    }));
    for number in 0..EACH {
        let session = id(tenant * EACH + number);
        change.guards.push(Guard::Absent(Key::Session(session)));
        change.puts.push(Put::Session(Session {
            id: session,
            workspace,
            name: format!("other-{number}").parse().unwrap(),
            template,
            release,
            version,
            owner: user,
            sharing: Sharing::Private,
            state: SessionState::Sleeping,
            goal: Goal::Sleep,
            epoch: 1,
            keys: SessionKeys { agent: String::new(), ssh_host_seed: String::new() },
            ssh_host_key: String::new(),
            force: false,
            snapshot: None,
            restore: None,
            lineage: session,
            forked_from: None,
            disk: 0,
            saved_at: None,
            unsaved: false,
            deadline: None,
            failure: None,
            sleep_after_s: None,
            stopped_by: None,
            wanted_at: None,
            created_at: at,
            changed_at: at,
            revision: 1,
        }));
    }
    change
}
