//! Secrets: set, listed, deleted; never read again but by the machines of the workspace's sessions.

use std::collections::BTreeMap;
use std::time::Duration;

use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::id::Id;
use burstflare_ports::machine::AgentTarget;
use burstflare_ports::record::{
    Effect, Event as Notice, SecretEntry, SecretKey, Session, SessionState, Workspace,
};
use burstflare_ports::secret::Secret;
use burstflare_ports::store::{ChangeSet, CommitError, Family, Guard, Key, PAGE_LIMIT, Put, Unique};
use burstflare_ports::text::VariableName;
use burstflare_ports::wire::Secrets;
use futures_util::future::join_all;
use serde_json::json;

use super::paging::list;
use super::{Caller, ControlPlane, List, PageQuery, fault, into_port};
use crate::domain::permission::{Action, Relation};
use crate::domain::seal::DataKey;
use crate::domain::secret as rules;
use crate::error::{Error, Result};

/// For one machine to take its secrets.
const TELL: Duration = Duration::from_secs(5);
/// What the data key is sealed for.
const KEY_PLACE: &str = "data key";

impl ControlPlane {
    /// The workspace's secrets, without their values.
    ///
    /// # Errors
    /// `Forbidden`.
    pub async fn secrets(
        &self,
        caller: &Caller,
        page: PageQuery<Id<SecretEntry>>,
    ) -> Result<List<SecretEntry, Id<SecretEntry>>> {
        caller.may(Action::SecretManage, Relation::Own)?;
        let found = self.store().secrets(caller.workspace.id, page.after, page.limit).await?;
        Ok(list(found, |secret| secret.id))
    }

    /// A secret, without its value.
    ///
    /// # Errors
    /// `NotFound`, `Forbidden`.
    pub async fn secret(&self, caller: &Caller, name: &str) -> Result<SecretEntry> {
        caller.may(Action::SecretManage, Relation::Own)?;
        let name = name.parse().map_err(|_| Error::not_found("secret"))?;
        let found = self.store().secret_by_name(caller.workspace.id, &name).await?;
        found.ok_or_else(|| Error::not_found("secret"))
    }

    /// Sets a secret; machines that run are told at once.
    ///
    /// # Errors
    /// As [`crate::domain::secret::judge`], and `Forbidden`.
    pub async fn set_secret(
        &self,
        caller: &Caller,
        name: &str,
        value: &Secret<String>,
    ) -> Result<SecretEntry> {
        caller.may(Action::SecretManage, Relation::Own)?;
        let name: VariableName =
            name.parse().map_err(|rule| Error::invalid("secret", format!("This is no name: {rule}.")))?;
        let name = &name;
        self.commit_decided(|| async move {
            let workspace = caller.workspace.id;
            let now = self.now();
            let (data_key, key, guard) = self.next_key(workspace).await?;
            let others = self.all_secrets(workspace).await?;
            rules::judge(name, value.expose(), &others, &caller.plan())?;
            let (id, created_at, revision) = match others.iter().find(|other| other.name == *name) {
                Some(old) => (old.id, old.created_at, old.revision + 1),
                None => (self.new_id(now)?, now, 1),
            };
            let entry = SecretEntry {
                id,
                workspace,
                name: name.clone(),
                sealed: data_key
                    .seal(&place(id, revision), value.expose().as_bytes(), self.random()?)
                    .map_err(|error| fault("secret.seal", error))?,
                bytes: value.expose().len() as u64,
                changed_by: caller.user.id,
                created_at,
                changed_at: now,
                revision,
            };
            let mut change = self.secrets_change(&key, guard, "secret.changed", name, revision);
            change.guards.push(if revision > 1 {
                Guard::Revision(Key::Secret(id), revision - 1)
            } else {
                Guard::Free(Unique::SecretName(name.clone()))
            });
            change.audit.push(caller.audit(
                self,
                "secret.set",
                id,
                json!({ "name": name, "version": revision }),
            ));
            change.puts.push(Put::Secret(entry.clone()));
            Ok((Some(change), entry))
        })
        .await
    }

    /// Deletes a secret; machines that run are told at once.
    ///
    /// # Errors
    /// `NotFound`, `Forbidden`.
    pub async fn delete_secret(&self, caller: &Caller, name: &str) -> Result<()> {
        self.commit_decided(|| async move {
            let entry = self.secret(caller, name).await?;
            let (_, key, guard) = self.next_key(caller.workspace.id).await?;
            let mut change = self.secrets_change(&key, guard, "secret.deleted", &entry.name, entry.revision);
            change.guards.push(Guard::Revision(Key::Secret(entry.id), entry.revision));
            change.audit.push(caller.audit(self, "secret.delete", entry.id, json!({ "name": entry.name })));
            change.deletes.push(Key::Secret(entry.id));
            Ok((Some(change), ()))
        })
        .await
    }

    /// What every change of secrets has in common: one after the other, counted by the key's revision.
    fn secrets_change(
        &self,
        key: &SecretKey,
        guard: Guard,
        kind: &str,
        name: &VariableName,
        version: u64,
    ) -> ChangeSet {
        let now = self.now();
        let mut change = ChangeSet::new(Family::Workspace(key.workspace));
        change.guards.push(guard);
        change.events.push(Notice {
            kind: kind.to_owned(),
            subject: name.to_string(),
            data: json!({ "version": version }),
            at: now,
        });
        change.outbox.push((Effect::PushSecrets { version: key.revision }, now));
        change.puts.push(Put::SecretKey(key.clone()));
        change
    }

    /// The workspace's data key, and its record as the next change of a secret leaves it, sealed by the present
    /// master key.
    async fn next_key(&self, workspace: Id<Workspace>) -> Result<(DataKey, SecretKey, Guard)> {
        let now = self.now();
        let found = self.store().secret_key(workspace).await?;
        let (plain, created_at, revision, guard) = match found {
            Some(found) => {
                let plain = self.unseal(workspace, KEY_PLACE, &found.sealed)?;
                let guard = Guard::Revision(Key::SecretKey, found.revision);
                (plain, found.created_at, found.revision + 1, guard)
            }
            None => (Secret::new(self.random::<32>()?.to_vec()), now, 1, Guard::Absent(Key::SecretKey)),
        };
        let key = SecretKey {
            workspace,
            sealed: self.seal(workspace, KEY_PLACE, plain.expose())?,
            master: self.sealer().master_name(),
            created_at,
            revision,
        };
        let data_key = DataKey::new(plain.expose()).map_err(|error| fault("secret.key", error))?;
        Ok((data_key, key, guard))
    }

    async fn all_secrets(&self, workspace: Id<Workspace>) -> PortResult<Vec<SecretEntry>> {
        // No plan allows more than a page.
        Ok(self.store().secrets(workspace, None, PAGE_LIMIT).await?.items)
    }

    /// What machines of the workspace's sessions are told; nothing before its first secret.
    async fn secrets_of(&self, workspace: Id<Workspace>) -> PortResult<Option<Secrets>> {
        // The version first: values that are newer than it says are told again.
        let Some(key) = self.store().secret_key(workspace).await? else { return Ok(None) };
        let plain = self.unseal(workspace, KEY_PLACE, &key.sealed).map_err(into_port)?;
        let broken = |error: crate::domain::seal::CannotOpen| {
            PortError::new(ErrorKind::Corrupt, "secret.open", error.to_string())
        };
        let data_key = DataKey::new(plain.expose()).map_err(broken)?;
        let mut values = BTreeMap::new();
        for entry in self.all_secrets(workspace).await? {
            let value = data_key.open(&place(entry.id, entry.revision), &entry.sealed).map_err(broken)?;
            let text = String::from_utf8(value.into_inner())
                .map_err(|_| PortError::new(ErrorKind::Corrupt, "secret.open", "a value that is no text"))?;
            values.insert(entry.name.to_string(), Secret::new(text));
        }
        Ok(Some(Secrets { version: key.revision, values }))
    }

    /// Tells a machine that is being started.
    pub(super) async fn deliver_secrets(&self, session: &Session, target: &AgentTarget) -> PortResult<()> {
        match self.secrets_of(session.workspace).await? {
            Some(secrets) if !secrets.values.is_empty() => self.agent_secrets(target, &secrets, TELL).await,
            _ => Ok(()),
        }
    }

    /// Tells all machines of a workspace's sessions. A session that is being started is told by whoever starts it as
    /// well; the higher version counts.
    pub(super) async fn push_secrets(&self, workspace: Id<Workspace>) -> PortResult<()> {
        let Some(secrets) = self.secrets_of(workspace).await? else { return Ok(()) };
        let mut after = None;
        let mut missed = None;
        loop {
            let page = self.store().sessions(workspace, after, 50).await?;
            after = page.items.last().map(|session| session.id);
            let awake = page
                .items
                .iter()
                .filter(|session| matches!(session.state, SessionState::Starting | SessionState::Running));
            let told = join_all(awake.map(|session| self.tell_one(session, &secrets))).await;
            let mut change = ChangeSet::new(Family::Workspace(workspace));
            for outcome in told {
                match outcome {
                    Ok(notice) => change.events.extend(notice),
                    Err(error) => missed = Some(error),
                }
            }
            if !change.events.is_empty()
                && let Err(CommitError::Failed(error)) = self.commit(change).await
            {
                return Err(error);
            }
            if !page.more {
                return missed.map_or(Ok(()), Err);
            }
        }
    }

    async fn tell_one(&self, session: &Session, secrets: &Secrets) -> PortResult<Option<Notice>> {
        let target = self.target(session).map_err(into_port)?;
        match self.agent_secrets(&target, secrets, TELL).await {
            Ok(()) => Ok(Some(Notice {
                kind: "session.secrets".to_owned(),
                subject: session.id.to_string(),
                data: json!({ "name": session.name, "version": secrets.version }),
                at: self.now(),
            })),
            // Another life has begun, which is told at its start; or one of an older server goes on without.
            Err(error) if matches!(error.kind(), ErrorKind::Stale | ErrorKind::Unsupported) => {
                tracing::warn!(session = %session.id, %error, "its machine is not told of changed secrets");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Seals data keys by the present master key that an earlier one sealed. Answers how many.
    pub(super) async fn wrap_anew(&self) -> PortResult<u64> {
        let mut wrapped = 0;
        let master = self.sealer().master_name();
        loop {
            let page = self.store().secret_keys_of_others(&master, PAGE_LIMIT).await?;
            for key in &page.items {
                let plain = match self.unseal(key.workspace, KEY_PLACE, &key.sealed) {
                    Ok(plain) => plain,
                    Err(error) => {
                        tracing::error!(workspace = %key.workspace, %error, "its secrets need another master key");
                        return Ok(wrapped);
                    }
                };
                let mut change = ChangeSet::new(Family::Workspace(key.workspace));
                change.guards.push(Guard::Revision(Key::SecretKey, key.revision));
                change.puts.push(Put::SecretKey(SecretKey {
                    sealed: self.seal(key.workspace, KEY_PLACE, plain.expose()).map_err(into_port)?,
                    master: master.clone(),
                    revision: key.revision + 1,
                    ..key.clone()
                }));
                match self.commit(change).await {
                    Ok(()) => wrapped += 1,
                    // Somebody changed a secret just now, and sealed it anew by that.
                    Err(CommitError::Refused(_)) => {}
                    Err(CommitError::Failed(error)) => return Err(error),
                }
            }
            if !page.more {
                return Ok(wrapped);
            }
        }
    }
}

/// Where a value is sealed for: it is of no use under another name, and an old one not in place of a new one.
fn place(id: Id<SecretEntry>, revision: u64) -> String {
    format!("{id}/{revision}")
}
