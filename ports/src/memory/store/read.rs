//! The reads. Each is a walk over a table: tests are small, and their orders are those of the keys.

use async_trait::async_trait;

use super::{MemoryStore, checked, locked};
use crate::error::PortResult;
use crate::id::{Id, Kind};
use crate::record::{
    Build, BuildState, Effect, Goal, Grant, GrantKind, LogChunk, Membership, Principal, Release, SecretHash,
    Session, SessionState, SignIn, Snapshot, StoredAudit, StoredEffect, StoredEvent, Template, Ticket, Token,
    TokenKind, User, Version, Workspace,
};
use crate::store::{
    Accounts, Builds, Journal, Outbox, Page, Releases, Sessions, Snapshots, Templates, Workspaces,
};
use crate::text::{Email, Label, Slug};
use crate::time::Timestamp;

/// The first `limit` of what is given, and whether there is more.
fn page<T>(items: impl Iterator<Item = T>, limit: usize) -> PortResult<Page<T>> {
    let limit = checked(limit)?;
    let mut items: Vec<_> = items.take(limit + 1).collect();
    let more = items.len() > limit;
    items.truncate(limit);
    Ok(Page { items, more })
}

/// Whether an id lies behind a cursor, the newest first.
fn older<K: Kind>(id: Id<K>, after: Option<Id<K>>) -> bool {
    after.is_none_or(|after| id < after)
}

/// Whether an id lies behind a cursor, the oldest first.
fn newer<K: Kind>(id: Id<K>, after: Option<Id<K>>) -> bool {
    after.is_none_or(|after| id > after)
}

#[async_trait]
impl Accounts for MemoryStore {
    async fn principal(&self, hash: &SecretHash) -> PortResult<Option<Principal>> {
        let tables = locked(&self.state).tables.clone();
        let find = || {
            let token = tables.tokens.values().find(|token| token.hash == *hash)?.clone();
            Some(Principal {
                sign_in: tables.sign_ins.get(&token.sign_in)?.clone(),
                user: tables.users.get(&token.user)?.clone(),
                workspace: tables.workspaces.get(&token.workspace)?.clone(),
                membership: tables.memberships.get(&(token.workspace, token.user)).cloned(),
                token,
            })
        };
        Ok(find())
    }

    async fn user(&self, id: Id<User>) -> PortResult<Option<User>> {
        Ok(locked(&self.state).tables.users.get(&id).cloned())
    }

    async fn user_by_email(&self, email: &Email) -> PortResult<Option<User>> {
        Ok(locked(&self.state).tables.users.values().find(|user| user.email == *email).cloned())
    }

    async fn grant(&self, hash: &SecretHash) -> PortResult<Option<Grant>> {
        Ok(locked(&self.state).tables.grants.values().find(|grant| grant.hash == *hash).cloned())
    }

    async fn sign_in(&self, id: Id<SignIn>) -> PortResult<Option<SignIn>> {
        Ok(locked(&self.state).tables.sign_ins.get(&id).cloned())
    }

    async fn token(&self, user: Id<User>, id: Id<Token>) -> PortResult<Option<Token>> {
        Ok(locked(&self.state).tables.tokens.get(&id).filter(|token| token.user == user).cloned())
    }

    async fn tokens(
        &self,
        user: Id<User>,
        workspace: Id<Workspace>,
        after: Option<Id<Token>>,
        limit: usize,
    ) -> PortResult<Page<Token>> {
        let tables = locked(&self.state).tables.clone();
        let wanted = |token: &&Token| {
            token.user == user
                && token.workspace == workspace
                && token.kind == TokenKind::Personal
                && token.revoked_at.is_none()
                && older(token.id, after)
        };
        page(tables.tokens.values().rev().filter(wanted).cloned(), limit)
    }

    async fn any_user(&self) -> PortResult<bool> {
        Ok(!locked(&self.state).tables.users.is_empty())
    }
}

#[async_trait]
impl Workspaces for MemoryStore {
    async fn workspace(&self, id: Id<Workspace>) -> PortResult<Option<Workspace>> {
        Ok(locked(&self.state).tables.workspaces.get(&id).cloned())
    }

    async fn workspace_by_name(&self, name: &Slug) -> PortResult<Option<Workspace>> {
        Ok(locked(&self.state).tables.workspaces.values().find(|row| row.name == *name).cloned())
    }

    async fn membership(&self, workspace: Id<Workspace>, user: Id<User>) -> PortResult<Option<Membership>> {
        Ok(locked(&self.state).tables.memberships.get(&(workspace, user)).cloned())
    }

    async fn members(
        &self,
        workspace: Id<Workspace>,
        after: Option<Id<User>>,
        limit: usize,
    ) -> PortResult<Page<(Membership, User)>> {
        let tables = locked(&self.state).tables.clone();
        let of =
            tables.memberships.values().filter(|row| row.workspace == workspace && newer(row.user, after));
        page(of.filter_map(|row| Some((row.clone(), tables.users.get(&row.user)?.clone()))), limit)
    }

    async fn workspaces_of(
        &self,
        user: Id<User>,
        after: Option<Id<Workspace>>,
        limit: usize,
    ) -> PortResult<Page<(Workspace, Membership)>> {
        let tables = locked(&self.state).tables.clone();
        let of =
            tables.memberships.values().rev().filter(|row| row.user == user && older(row.workspace, after));
        page(of.filter_map(|row| Some((tables.workspaces.get(&row.workspace)?.clone(), row.clone()))), limit)
    }

    async fn invites(
        &self,
        workspace: Id<Workspace>,
        after: Option<Id<Grant>>,
        limit: usize,
    ) -> PortResult<Page<Grant>> {
        let tables = locked(&self.state).tables.clone();
        let wanted = |grant: &&Grant| {
            grant.kind == GrantKind::Invite
                && grant.workspace == Some(workspace)
                && grant.spent_at.is_none()
                && older(grant.id, after)
        };
        page(tables.grants.values().rev().filter(wanted).cloned(), limit)
    }
}

#[async_trait]
impl Templates for MemoryStore {
    async fn template(&self, workspace: Id<Workspace>, id: Id<Template>) -> PortResult<Option<Template>> {
        Ok(locked(&self.state).tables.templates.get(&(workspace, id)).cloned())
    }

    async fn template_by_name(&self, workspace: Id<Workspace>, name: &Slug) -> PortResult<Option<Template>> {
        let tables = locked(&self.state).tables.clone();
        let found = tables.templates.values().find(|row| row.workspace == workspace && row.name == *name);
        Ok(found.cloned())
    }

    async fn templates(
        &self,
        workspace: Id<Workspace>,
        after: Option<Id<Template>>,
        limit: usize,
    ) -> PortResult<Page<Template>> {
        let tables = locked(&self.state).tables.clone();
        let wanted = |row: &&Template| row.workspace == workspace && older(row.id, after);
        page(tables.templates.values().rev().filter(wanted).cloned(), limit)
    }

    async fn version(&self, workspace: Id<Workspace>, id: Id<Version>) -> PortResult<Option<Version>> {
        Ok(locked(&self.state).tables.versions.get(&(workspace, id)).cloned())
    }

    async fn version_by_label(
        &self,
        workspace: Id<Workspace>,
        template: Id<Template>,
        label: &Label,
    ) -> PortResult<Option<Version>> {
        let tables = locked(&self.state).tables.clone();
        let wanted =
            |row: &&Version| row.workspace == workspace && row.template == template && row.label == *label;
        Ok(tables.versions.values().find(wanted).cloned())
    }

    async fn versions(
        &self,
        workspace: Id<Workspace>,
        template: Id<Template>,
        after: Option<Id<Version>>,
        limit: usize,
    ) -> PortResult<Page<Version>> {
        let tables = locked(&self.state).tables.clone();
        let wanted =
            |row: &&Version| row.workspace == workspace && row.template == template && older(row.id, after);
        page(tables.versions.values().rev().filter(wanted).cloned(), limit)
    }
}

#[async_trait]
impl Builds for MemoryStore {
    async fn build(&self, workspace: Id<Workspace>, id: Id<Build>) -> PortResult<Option<Build>> {
        Ok(locked(&self.state).tables.builds.get(&(workspace, id)).cloned())
    }

    async fn builds(
        &self,
        workspace: Id<Workspace>,
        after: Option<Id<Build>>,
        limit: usize,
    ) -> PortResult<Page<Build>> {
        let tables = locked(&self.state).tables.clone();
        let wanted = |row: &&Build| row.workspace == workspace && older(row.id, after);
        page(tables.builds.values().rev().filter(wanted).cloned(), limit)
    }

    async fn log_chunks(
        &self,
        workspace: Id<Workspace>,
        build: Id<Build>,
        attempt: u32,
        from: u64,
        limit: usize,
    ) -> PortResult<Page<LogChunk>> {
        let tables = locked(&self.state).tables.clone();
        let chunks =
            tables.log_chunks.range((workspace, build, attempt, 0)..=(workspace, build, attempt, u64::MAX));
        let wanted = chunks.map(|(_, row)| row).filter(|row| row.offset + row.size > from);
        page(wanted.cloned(), limit)
    }

    async fn overdue_builds(
        &self,
        now: Timestamp,
        after: Option<Id<Build>>,
        limit: usize,
    ) -> PortResult<Page<Build>> {
        let tables = locked(&self.state).tables.clone();
        let mut overdue: Vec<_> = tables
            .builds
            .values()
            .filter(|row| matches!(row.state, BuildState::Queued | BuildState::Running))
            .filter(|row| row.deadline.is_some_and(|deadline| deadline <= now) && newer(row.id, after))
            .cloned()
            .collect();
        overdue.sort_by_key(|row| row.id);
        page(overdue.into_iter(), limit)
    }
}

#[async_trait]
impl Releases for MemoryStore {
    async fn release(&self, workspace: Id<Workspace>, id: Id<Release>) -> PortResult<Option<Release>> {
        Ok(locked(&self.state).tables.releases.get(&(workspace, id)).cloned())
    }

    async fn releases(
        &self,
        workspace: Id<Workspace>,
        template: Option<Id<Template>>,
        after: Option<Id<Release>>,
        limit: usize,
    ) -> PortResult<Page<Release>> {
        let tables = locked(&self.state).tables.clone();
        let wanted = |row: &&Release| {
            row.workspace == workspace
                && template.is_none_or(|template| row.template == template)
                && older(row.id, after)
        };
        page(tables.releases.values().rev().filter(wanted).cloned(), limit)
    }
}

#[async_trait]
impl Sessions for MemoryStore {
    async fn session(&self, workspace: Id<Workspace>, id: Id<Session>) -> PortResult<Option<Session>> {
        Ok(locked(&self.state).tables.sessions.get(&(workspace, id)).cloned())
    }

    async fn session_by_name(&self, workspace: Id<Workspace>, name: &Slug) -> PortResult<Option<Session>> {
        let tables = locked(&self.state).tables.clone();
        let found = tables.sessions.values().find(|row| row.workspace == workspace && row.name == *name);
        Ok(found.cloned())
    }

    async fn sessions(
        &self,
        workspace: Id<Workspace>,
        after: Option<Id<Session>>,
        limit: usize,
    ) -> PortResult<Page<Session>> {
        let tables = locked(&self.state).tables.clone();
        let wanted = |row: &&Session| row.workspace == workspace && older(row.id, after);
        page(tables.sessions.values().rev().filter(wanted).cloned(), limit)
    }

    async fn restless_sessions(&self, after: Option<Id<Session>>, limit: usize) -> PortResult<Page<Session>> {
        let tables = locked(&self.state).tables.clone();
        let rests = |row: &Session| {
            let still =
                matches!(row.state, SessionState::Created | SessionState::Sleeping | SessionState::Failed);
            still && row.goal == Goal::Sleep
        };
        let mut restless: Vec<_> =
            tables.sessions.values().filter(|row| !rests(row) && newer(row.id, after)).cloned().collect();
        restless.sort_by_key(|row| row.id);
        page(restless.into_iter(), limit)
    }

    async fn ticket(&self, hash: &SecretHash) -> PortResult<Option<Ticket>> {
        Ok(locked(&self.state).tables.tickets.values().find(|row| row.hash == *hash).cloned())
    }
}

#[async_trait]
impl Snapshots for MemoryStore {
    async fn snapshot(&self, workspace: Id<Workspace>, id: Id<Snapshot>) -> PortResult<Option<Snapshot>> {
        Ok(locked(&self.state).tables.snapshots.get(&(workspace, id)).cloned())
    }

    async fn snapshots(
        &self,
        workspace: Id<Workspace>,
        session: Id<Session>,
        after: Option<Id<Snapshot>>,
        limit: usize,
    ) -> PortResult<Page<Snapshot>> {
        let tables = locked(&self.state).tables.clone();
        let wanted =
            |row: &&Snapshot| row.workspace == workspace && row.session == session && older(row.id, after);
        page(tables.snapshots.values().rev().filter(wanted).cloned(), limit)
    }
}

#[async_trait]
impl Journal for MemoryStore {
    async fn events(
        &self,
        workspace: Id<Workspace>,
        after: u64,
        limit: usize,
    ) -> PortResult<Vec<StoredEvent>> {
        let limit = checked(limit)?;
        let state = locked(&self.state);
        let of = state.events.iter().filter(|(home, stored)| *home == workspace && stored.seq > after);
        Ok(of.take(limit).map(|(_, stored)| stored.clone()).collect())
    }

    async fn last_event(&self, workspace: Id<Workspace>) -> PortResult<u64> {
        let state = locked(&self.state);
        Ok(state.events.iter().rev().find(|(home, _)| *home == workspace).map_or(0, |(_, stored)| stored.seq))
    }

    async fn audit(
        &self,
        workspace: Id<Workspace>,
        before: Option<u64>,
        limit: usize,
    ) -> PortResult<Page<StoredAudit>> {
        let state = locked(&self.state);
        let of =
            state.audit.iter().rev().filter(|(home, stored)| {
                *home == workspace && before.is_none_or(|before| stored.seq < before)
            });
        page(of.map(|(_, stored)| stored.clone()), limit)
    }
}

#[async_trait]
impl Outbox for MemoryStore {
    async fn due(
        &self,
        workspace: Option<Id<Workspace>>,
        now: Timestamp,
        limit: usize,
    ) -> PortResult<Vec<StoredEffect>> {
        let limit = checked(limit)?;
        let state = locked(&self.state);
        let all = state.outbox.values().chain(state.directory_outbox.values());
        let mut due: Vec<_> = all
            .filter(|stored| stored.due_at <= now && (workspace.is_none() || stored.workspace == workspace))
            .cloned()
            .collect();
        due.sort_by_key(|stored| (stored.due_at, stored.seq));
        due.truncate(limit);
        Ok(due)
    }

    async fn settle(&self, effect: &StoredEffect) -> PortResult<()> {
        let mut state = locked(&self.state);
        let outbox = match effect.workspace {
            Some(_) => &mut state.outbox,
            None => &mut state.directory_outbox,
        };
        if outbox.get(&effect.seq).is_some_and(|stored| stored.workspace == effect.workspace) {
            outbox.remove(&effect.seq);
        }
        Ok(())
    }

    async fn postpone(&self, effect: &StoredEffect, due_at: Timestamp) -> PortResult<()> {
        let mut state = locked(&self.state);
        let outbox = match effect.workspace {
            Some(_) => &mut state.outbox,
            None => &mut state.directory_outbox,
        };
        if let Some(stored) =
            outbox.get_mut(&effect.seq).filter(|stored| stored.workspace == effect.workspace)
        {
            (stored.attempts, stored.due_at) = (stored.attempts + 1, due_at);
        }
        Ok(())
    }

    async fn sweep_expired(&self, before: Timestamp, limit: usize) -> PortResult<u64> {
        let limit = checked(limit)?;
        let mut state = locked(&self.state);
        let tables = &mut state.tables;
        let mut gone = 0;
        macro_rules! sweep {
            ($table:ident) => {
                let mut old: Vec<_> =
                    tables.$table.iter().filter(|(_, row)| row.expires_at < before).collect();
                old.sort_by_key(|(_, row)| row.expires_at);
                let keys: Vec<_> = old.into_iter().take(limit).map(|(key, _)| *key).collect();
                for key in keys {
                    std::sync::Arc::make_mut(&mut tables.$table).remove(&key);
                    gone += 1;
                }
            };
        }
        sweep!(tickets);
        sweep!(grants);
        sweep!(tokens);
        Ok(gone)
    }

    async fn backlog(&self) -> PortResult<u64> {
        let state = locked(&self.state);
        Ok((state.outbox.len() + state.directory_outbox.len()) as u64)
    }

    async fn waiting(&self, workspace: Id<Workspace>, effect: &Effect) -> PortResult<bool> {
        let state = locked(&self.state);
        let mut of = state.outbox.values().filter(|stored| stored.workspace == Some(workspace));
        Ok(of.any(|stored| stored.effect == *effect))
    }
}
