//! Sessions: make, see, start, stop, delete.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use burstflare_ports::id::Id;
use burstflare_ports::record::{
    Effect, Event as Notice, Goal, Session, SessionKeys, SessionState, Sharing, Version, Workspace,
};
use burstflare_ports::store::{Bump, ChangeSet, Counter, Family, Guard, Key, Put, Unique};
use burstflare_ports::text::Slug;
use serde_json::json;

use super::paging::list;
use super::{Caller, ControlPlane, Idle, List, PageQuery};
use crate::domain::manifest::{ManifestLimits, SleepAfter};
use crate::domain::permission::{Action, Relation};
use crate::domain::session::{self as rules, Event, Running, Transition};
use crate::domain::ssh_key;
use crate::error::{Error, Kind, Result};

/// A wish for a session.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// Its name.
    pub name: Slug,
    /// The template, by id or name.
    pub template: String,
    /// Who else may work in it.
    pub sharing: Sharing,
}

/// What is to change about a session; what is absent stays.
#[derive(Debug, Clone, Default)]
pub struct SessionChange {
    /// A new name.
    pub name: Option<Slug>,
    /// Who else may work in it.
    pub sharing: Option<Sharing>,
    /// Idle time before sleep: as in a manifest, or `template` for what the template says.
    pub sleep_after: Option<String>,
}

/// A session and what its version's manifest has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionView {
    /// The session.
    pub session: Session,
    /// Manifest keys that have no effect yet, each with a sentence.
    pub not_supported_yet: Vec<String>,
    /// How idle it is, where it runs and its agent answers.
    pub idle: Option<Idle>,
}

impl ControlPlane {
    /// Makes a session of the template's current release and begins its start.
    ///
    /// # Errors
    /// `name_taken`, `no_release`, `archived`, `quota_exceeded`.
    pub async fn create_session(&self, caller: &Caller, wish: NewSession) -> Result<Session> {
        caller.may(Action::SessionCreate, Relation::Own)?;
        let name = &wish.name;
        self.commit_decided(|| self.decide_session(caller, &wish)).await.map_err(|error| match error.code {
            "name_taken" => Error::conflict(
                "name_taken",
                format!("A session called `{name}` exists already."),
                "Choose another name, or wake that one: `flare session start`.",
            ),
            _ => error,
        })
    }

    /// A new session of what is current now. Decided again when the template changed meanwhile.
    async fn decide_session(
        &self,
        caller: &Caller,
        wish: &NewSession,
    ) -> Result<(Option<ChangeSet>, Session)> {
        let template = self.find_template(caller.workspace.id, &wish.template).await?;
        if template.archived_at.is_some() {
            return Err(super::version::archived());
        }
        let release = match template.current_release {
            Some(id) => self.release_of(template.workspace, id).await?,
            None => None,
        };
        let release = release.ok_or_else(|| {
            Error::conflict(
                "no_release",
                format!("Template `{}` has no release yet.", template.name),
                "Promote a built version: `flare template promote`.",
            )
        })?;
        let now = self.now();
        let id: Id<Session> = self.new_id(now)?;
        let seed = self.random::<32>()?;
        let sealed_seed = self.seal(template.workspace, &seed_place(id), &seed)?;
        let created = Session {
            id,
            workspace: template.workspace,
            name: wish.name.clone(),
            template: template.id,
            release: release.id,
            version: release.version,
            owner: caller.user.id,
            sharing: wish.sharing,
            state: SessionState::Created,
            goal: Goal::Run,
            epoch: 0,
            keys: SessionKeys { agent: String::new(), ssh_host_seed: sealed_seed },
            ssh_host_key: ssh_key::host_key(&seed),
            force: false,
            snapshot: None,
            restore: None,
            lineage: id,
            forked_from: None,
            disk: 0,
            saved_at: None,
            unsaved: false,
            deadline: None,
            failure: None,
            sleep_after_s: None,
            stopped_by: None,
            wanted_at: None,
            created_at: now,
            changed_at: now,
            revision: 0,
        };
        let step = self.step(&created, &Event::Start)?;
        let plan = caller.plan();
        let mut change = ChangeSet::new(Family::Workspace(created.workspace));
        change.guards = vec![
            Guard::Free(Unique::SessionName(wish.name.clone())),
            Guard::Absent(Key::Session(id)),
            // A template that is archived meanwhile gets no new session.
            Guard::Revision(Key::Template(template.id), template.revision),
            Guard::Below { counter: Counter::Sessions, by: 1, limit: plan.sessions },
            Guard::Below { counter: Counter::Running, by: 1, limit: plan.running },
        ];
        change.bumps =
            vec![Bump { counter: Counter::Sessions, by: 1 }, Bump { counter: Counter::Running, by: 1 }];
        change.outbox = vec![(Effect::WakeSession { session: id }, now)];
        change.events = vec![state_event(&step.next)];
        change.audit.push(caller.audit(
            self,
            "session.create",
            id,
            json!({ "name": wish.name, "template": template.id, "release": release.id }),
        ));
        change.puts = vec![Put::Session(step.next.clone())];
        Ok((Some(change), step.next))
    }

    /// The sessions of the workspace.
    ///
    /// # Errors
    /// When the store cannot answer.
    pub async fn sessions(
        &self,
        caller: &Caller,
        page: PageQuery<Id<Session>>,
    ) -> Result<List<Session, Id<Session>>> {
        caller.may(Action::Read, Relation::Own)?;
        let found = self.store().sessions(caller.workspace.id, page.after, page.limit).await?;
        Ok(list(found, |session| session.id))
    }

    /// A session by id or name.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn session(&self, caller: &Caller, reference: &str) -> Result<SessionView> {
        caller.may(Action::Read, Relation::Own)?;
        let session = self.find_session(caller.workspace.id, reference).await?;
        let version = self.store().version(session.workspace, session.version).await?;
        let idle = self.idle_of(caller, &session, version.as_ref()).await;
        Ok(SessionView { session, not_supported_yet: warnings(version), idle })
    }

    /// Wants a running machine. A stop that is under way is waited for.
    ///
    /// # Errors
    /// `session_deleting`, `quota_exceeded`.
    pub async fn start_session(&self, caller: &Caller, reference: &str) -> Result<Session> {
        self.steer_session(caller, reference, &Event::Start, Action::SessionControl).await
    }

    /// Wants the session to sleep; its files are snapshotted first.
    ///
    /// # Errors
    /// `session_deleting`.
    pub async fn stop_session(&self, caller: &Caller, reference: &str) -> Result<Session> {
        self.steer_session(caller, reference, &Event::Stop, Action::SessionControl).await
    }

    /// Ends the machine at once, without snapshot and orderly end: the way out of a stop or start that hangs.
    ///
    /// # Errors
    /// `session_deleting`.
    pub async fn force_stop_session(&self, caller: &Caller, reference: &str) -> Result<Session> {
        self.steer_session(caller, reference, &Event::ForceStop, Action::SessionControl).await
    }

    /// Wants a machine of a new life, of the same release.
    ///
    /// # Errors
    /// `session_deleting`, `quota_exceeded`.
    pub async fn restart_session(&self, caller: &Caller, reference: &str) -> Result<Session> {
        self.steer_session(caller, reference, &Event::Restart, Action::SessionControl).await
    }

    /// Changes name, sharing or idle time.
    ///
    /// # Errors
    /// `name_taken`, `session_deleting`, `plan_sleeps`, `Invalid` for what is no idle time.
    pub async fn change_session(
        &self,
        caller: &Caller,
        reference: &str,
        wish: SessionChange,
    ) -> Result<Session> {
        let sleep_after_s = wish.sleep_after.as_deref().map(|text| idle_time(text, caller)).transpose()?;
        let wish = &wish;
        self.commit_decided(|| async move {
            let session = self.find_session(caller.workspace.id, reference).await?;
            caller.may_session(Action::SessionManage, &session)?;
            if session.state == SessionState::Deleting {
                return Err(deleting(session.state));
            }
            let mut next = session.clone();
            next.name.clone_from(wish.name.as_ref().unwrap_or(&session.name));
            next.sharing = wish.sharing.unwrap_or(session.sharing);
            next.sleep_after_s = sleep_after_s.unwrap_or(session.sleep_after_s);
            if next == session {
                return Ok((None, next));
            }
            next.revision += 1;
            let mut change = ChangeSet::new(Family::Workspace(session.workspace));
            change.guards.push(Guard::Revision(Key::Session(session.id), session.revision));
            if next.name != session.name {
                change.guards.push(Guard::Free(Unique::SessionName(next.name.clone())));
            }
            if rules::work(&next, self.now()) == rules::Work::Watch {
                // It may sleep earlier now than its actor has in mind.
                change.outbox.push((Effect::WakeSession { session: session.id }, self.now()));
            }
            change.events.push(Notice {
                kind: "session.changed".to_owned(),
                subject: session.id.to_string(),
                data: settings(&next),
                at: self.now(),
            });
            change.audit.push(caller.audit(
                self,
                "session.change",
                session.id,
                json!({ "from": settings(&session), "to": settings(&next) }),
            ));
            change.puts.push(Put::Session(next.clone()));
            Ok((Some(change), next))
        })
        .await
    }

    /// Wants the session gone, with its files and snapshots.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn delete_session(&self, caller: &Caller, reference: &str) -> Result<Session> {
        self.steer_session(caller, reference, &Event::Delete, Action::SessionManage).await
    }

    async fn steer_session(
        &self,
        caller: &Caller,
        reference: &str,
        event: &Event,
        action: Action,
    ) -> Result<Session> {
        self.commit_decided(|| async move {
            let session = self.find_session(caller.workspace.id, reference).await?;
            caller.may_session(action, &session)?;
            let step = self.step(&session, event)?;
            if !step.changed {
                return Ok((None, step.next));
            }
            let limit = caller.plan().running;
            let mut change = self.session_change(&session, &step, limit);
            if step.next.state == SessionState::Running {
                // Nothing is to be done and nothing to be told: it runs, and is wanted.
                change.outbox.clear();
                change.events.clear();
            }
            change.audit.push(caller.audit(
                self,
                &format!("session.{}", event.name()),
                session.id,
                json!({ "from": session.state, "to": step.next.state }),
            ));
            Ok((Some(change), step.next))
        })
        .await
    }

    /// A transition, with a fresh agent key where a new life begins.
    pub(super) fn step(&self, session: &Session, event: &Event) -> Result<Transition> {
        let mut step = rules::apply(session, event, self.now()).map_err(|illegal| deleting(illegal.from))?;
        if step.next.epoch != session.epoch {
            step.next.keys.agent = self.fresh_key(session, step.next.epoch)?;
        }
        Ok(step)
    }

    /// A sealed agent key for a new life.
    pub(super) fn fresh_key(&self, session: &Session, epoch: u64) -> Result<String> {
        let key = STANDARD.encode(self.random::<32>()?);
        self.seal(session.workspace, &key_place(session.id, epoch), key.as_bytes())
    }

    /// The commit of a session's transition: record, counter, wake and notice.
    pub(super) fn session_change(
        &self,
        session: &Session,
        step: &Transition,
        running_limit: u64,
    ) -> ChangeSet {
        let mut change = ChangeSet::new(Family::Workspace(session.workspace));
        change.guards.push(Guard::Revision(Key::Session(session.id), session.revision));
        match step.running {
            Running::Enters => {
                change.guards.push(Guard::Below { counter: Counter::Running, by: 1, limit: running_limit });
                change.bumps.push(Bump { counter: Counter::Running, by: 1 });
            }
            Running::Leaves => change.bumps.push(Bump { counter: Counter::Running, by: -1 }),
            Running::Same => {}
        }
        if rules::work(&step.next, self.now()) != rules::Work::Rest {
            change.outbox.push((Effect::WakeSession { session: session.id }, self.now()));
        }
        change.events.push(state_event(&step.next));
        change.puts.push(Put::Session(step.next.clone()));
        change
    }

    pub(super) async fn find_session(&self, workspace: Id<Workspace>, reference: &str) -> Result<Session> {
        let found = if let Ok(id) = reference.parse::<Id<Session>>() {
            self.store().session(workspace, id).await?
        } else if let Ok(name) = reference.parse::<Slug>() {
            self.store().session_by_name(workspace, &name).await?
        } else {
            None
        };
        found.ok_or_else(|| Error::not_found("session"))
    }
}

fn deleting(state: SessionState) -> Error {
    Error::conflict(
        "session_deleting",
        format!("The session is {state:?}.").to_lowercase(),
        "Make a new one with `flare session up`.",
    )
}

fn settings(session: &Session) -> serde_json::Value {
    json!({ "name": session.name, "sharing": session.sharing, "sleep_after_s": session.sleep_after_s })
}

/// An idle time as a session keeps it: seconds, 0 for never, nothing for what the template says.
fn idle_time(text: &str, caller: &Caller) -> Result<Option<u64>> {
    if text == "template" {
        return Ok(None);
    }
    let wanted: SleepAfter =
        text.parse().map_err(|error| Error::invalid("sleep_after", format!("`sleep_after` {error}.")))?;
    let most = caller.plan().idle.map(|most| most.as_secs());
    let (least, longest) = ManifestLimits::default().sleep_s;
    match (wanted, most) {
        (SleepAfter::Never, None) => Ok(Some(0)),
        (SleepAfter::Seconds(seconds), _) if !(least..=longest).contains(&seconds) => {
            let (least, longest) = (SleepAfter::Seconds(least), SleepAfter::Seconds(longest));
            Err(Error::invalid(
                "sleep_after",
                format!("`sleep_after` has to be between {least} and {longest}, or \"never\"."),
            ))
        }
        (SleepAfter::Seconds(seconds), most) if most.is_none_or(|most| seconds <= most) => Ok(Some(seconds)),
        (_, most) => Err(Error::new(
            Kind::Limited,
            "plan_sleeps",
            format!(
                "The workspace's plan lets a session be idle for {} at most.",
                SleepAfter::Seconds(most.unwrap_or_default())
            ),
            "Choose a shorter idle time, or ask for a larger plan.",
        )),
    }
}

fn warnings(version: Option<Version>) -> Vec<String> {
    let mut warnings =
        version.and_then(|version| version.spec).map(|spec| spec.not_supported_yet).unwrap_or_default();
    // Of a version that was built when this was so.
    warnings.retain(|warning| !warning.starts_with("`sleep_after`"));
    warnings
}

pub(super) fn state_event(session: &Session) -> Notice {
    Notice {
        kind: "session.state".to_owned(),
        subject: session.id.to_string(),
        data: json!({
            "name": session.name,
            "state": session.state,
            "goal": session.goal,
            "epoch": session.epoch,
            "failure": session.failure,
            "stopped_by": session.stopped_by,
        }),
        at: session.changed_at,
    }
}

pub(super) fn key_place(session: Id<Session>, epoch: u64) -> String {
    format!("{session}/{epoch}/agent")
}

pub(super) fn seed_place(session: Id<Session>) -> String {
    format!("{session}/ssh")
}
