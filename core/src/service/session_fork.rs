//! Forks: a new session that begins with the files of a snapshot.

use burstflare_ports::id::Id;
use burstflare_ports::record::{
    Effect, Goal, Session, SessionKeys, SessionState, SharedPacks, Sharing, Snapshot, SnapshotKind,
    SnapshotState,
};
use burstflare_ports::store::{Bump, ChangeSet, Counter, Family, Guard, Key, Put, Unique};
use burstflare_ports::text::Slug;
use serde_json::json;

use super::session::{seed_place, state_event};
use super::snapshot::event;
use super::snapshot_restore::not_complete;
use super::{Caller, ControlPlane};
use crate::domain::permission::{Action, Relation};
use crate::domain::session::Event;
use crate::domain::ssh_key;
use crate::error::{Error, Result};

/// A wish for a fork.
#[derive(Debug, Clone)]
pub struct Fork {
    /// The new session's name.
    pub name: Slug,
    /// Which snapshot of the origin, by id or label; its newest if none.
    pub snapshot: Option<String>,
    /// Who else may work in it.
    pub sharing: Sharing,
}

impl ControlPlane {
    /// Makes a session of the origin's release with the files of one of its snapshots, and begins its start. Nothing is
    /// copied: both name the same packs.
    ///
    /// # Errors
    /// `name_taken`, `no_snapshot`, `snapshot_not_complete`, `quota_exceeded`; `forbidden` where the caller may not get into
    /// the origin, whose files these are.
    pub async fn fork_session(&self, caller: &Caller, origin: &str, wish: Fork) -> Result<Session> {
        caller.may(Action::SessionCreate, Relation::Own)?;
        self.commit_decided(|| self.decide_fork(caller, origin, &wish)).await.map_err(|error| {
            match error.code {
                "name_taken" => Error::conflict(
                    "name_taken",
                    format!("A session called `{}` exists already.", wish.name),
                    "Choose another name.",
                ),
                _ => error,
            }
        })
    }

    async fn decide_fork(
        &self,
        caller: &Caller,
        origin: &str,
        wish: &Fork,
    ) -> Result<(Option<ChangeSet>, Session)> {
        let origin = self.find_session(caller.workspace.id, origin).await?;
        caller.may_session(Action::SessionAttach, &origin)?;
        let from = self.fork_point(&origin, wish.snapshot.as_deref()).await?;
        let now = self.now();
        let id: Id<Session> = self.new_id(now)?;
        let seed = self.random::<32>()?;
        let first = Snapshot {
            id: self.new_id(now)?,
            session: id,
            kind: SnapshotKind::Auto,
            label: None,
            parent: Some(from.id),
            epoch: 0,
            due_at: None,
            created_at: now,
            revision: 1,
            ..from.clone()
        };
        let created = Session {
            id,
            name: wish.name.clone(),
            owner: caller.user.id,
            sharing: wish.sharing,
            state: SessionState::Created,
            goal: Goal::Run,
            epoch: 0,
            keys: SessionKeys {
                agent: String::new(),
                ssh_host_seed: self.seal(origin.workspace, &seed_place(id), &seed)?,
            },
            ssh_host_key: ssh_key::host_key(&seed),
            force: false,
            snapshot: Some(first.id),
            restore: None,
            forked_from: Some(from.id),
            disk: 0,
            saved_at: None,
            unsaved: false,
            deadline: None,
            failure: None,
            stopped_by: None,
            wanted_at: None,
            created_at: now,
            changed_at: now,
            revision: 0,
            ..origin.clone()
        };
        let step = self.step(&created, &Event::Start)?;
        let plan = caller.plan();
        let mut change = ChangeSet::new(Family::Workspace(origin.workspace));
        change.guards = vec![
            Guard::Free(Unique::SessionName(wish.name.clone())),
            Guard::Absent(Key::Session(id)),
            Guard::Absent(Key::Snapshot(first.id)),
            // What it names stays named: either by both, or the fork does not come to be.
            Guard::Revision(Key::Snapshot(from.id), from.revision),
            Guard::Below { counter: Counter::Sessions, by: 1, limit: plan.sessions },
            Guard::Below { counter: Counter::Running, by: 1, limit: plan.running },
        ];
        change.bumps =
            vec![Bump { counter: Counter::Sessions, by: 1 }, Bump { counter: Counter::Running, by: 1 }];
        change.outbox = vec![(Effect::WakeSession { session: id }, now)];
        change.events = vec![state_event(&step.next), event("created", &first, now)];
        change.audit.push(caller.audit(
            self,
            "session.fork",
            id,
            json!({ "name": wish.name, "origin": origin.id, "snapshot": from.id }),
        ));
        let shared = SharedPacks { workspace: origin.workspace, from: from.id, to: first.id };
        change.puts = vec![Put::Session(step.next.clone()), Put::Snapshot(first), Put::SharedPacks(shared)];
        Ok((Some(change), step.next))
    }

    async fn fork_point(&self, origin: &Session, reference: Option<&str>) -> Result<Snapshot> {
        let from = match (reference, origin.snapshot) {
            (Some(reference), _) => self.find_snapshot(origin.workspace, reference).await?,
            (None, Some(newest)) => {
                let found = self.store().snapshot(origin.workspace, newest).await?;
                found.ok_or_else(|| Error::not_found("snapshot"))?
            }
            (None, None) => {
                return Err(Error::conflict(
                    "no_snapshot",
                    "The session has no snapshot yet.",
                    "Take one: `flare snapshot create`; or stop the session.",
                ));
            }
        };
        if from.session != origin.id {
            return Err(Error::not_found("snapshot"));
        }
        if from.state == SnapshotState::Complete { Ok(from) } else { Err(not_complete()) }
    }
}
