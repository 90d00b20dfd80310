//! Records to begin with.

use burstflare_ports::id::{Id, Kind};
use burstflare_ports::record::{
    Build, BuildState, Failure, Goal, Session, SessionKeys, SessionState, Sharing, Template, Version,
    VersionState,
};
use burstflare_ports::time::Timestamp;

pub(super) fn id<K: Kind>(number: u8) -> Id<K> {
    Id::new(at(0), [number; 10])
}

/// So many seconds after some beginning.
pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000 + seconds * 1000)
}

pub(super) fn failure(code: &str) -> Failure {
    Failure { code: code.to_owned(), message: "It failed.".to_owned(), hint: "Try again.".to_owned() }
}

pub(super) fn session() -> Session {
    Session {
        id: id(1),
        workspace: id(2),
        name: "s".parse().unwrap(),
        template: id(3),
        release: id(4),
        version: id(5),
        owner: id(6),
        sharing: Sharing::Private,
        state: SessionState::Created,
        goal: Goal::Run,
        epoch: 0,
        keys: SessionKeys { agent: String::new(), ssh_host_seed: String::new() },
        ssh_host_key: String::new(),
        force: false,
        snapshot: None,
        restore: None,
        lineage: id(1),
        forked_from: None,
        disk: 0,
        saved_at: None,
        unsaved: false,
        deadline: None,
        failure: None,
        sleep_after_s: None,
        stopped_by: None,
        wanted_at: None,
        created_at: at(0),
        changed_at: at(0),
        revision: 1,
    }
}

pub(super) fn build() -> Build {
    Build {
        id: id(1),
        workspace: id(2),
        template: id(3),
        version: id(5),
        state: BuildState::Queued,
        step: None,
        steps: 3,
        attempt: 1,
        sealed_key: None,
        epoch: 1,
        deadline: Some(at(60)),
        failure: None,
        created_at: at(0),
        started_at: None,
        finished_at: None,
        revision: 1,
    }
}

pub(super) fn template() -> Template {
    Template {
        id: id(3),
        workspace: id(2),
        name: "t".parse().unwrap(),
        created_by: id(6),
        current_release: None,
        archived_at: None,
        created_at: at(0),
        revision: 1,
    }
}

pub(super) fn version(number: u8, state: VersionState) -> Version {
    Version {
        id: id(number),
        workspace: id(2),
        template: id(3),
        label: format!("1.{number}").parse().unwrap(),
        state,
        bundle: None,
        spec: None,
        build: None,
        layer: None,
        created_by: id(6),
        created_at: at(0),
        revision: 1,
    }
}
