//! A session's ports: what listens, what the manifest names, and who may look.

use std::collections::BTreeMap;

use burstflare_ports::record::{PortSetting, Session, SessionState, Visibility};
use burstflare_ports::store::{ChangeSet, Family, Guard, Key, Put};
use burstflare_ports::time::Timestamp;
use burstflare_ports::wire::AGENT_PORT;
use serde_json::json;

use super::caller::relation_to;
use super::{Caller, ControlPlane};
use crate::domain::permission::{Action, Relation};
use crate::domain::preview as rules;
use crate::error::{Error, Kind, Result};

/// Settings that one session may have.
const SETTINGS: usize = 100;

/// One port of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortView {
    /// The port.
    pub port: u16,
    /// The manifest's name for it.
    pub name: Option<String>,
    /// Whether something listens now.
    pub open: bool,
    /// What, where that is known.
    pub process: Option<String>,
    /// Who may look at it now.
    pub visibility: Visibility,
    /// Until when, where that ends by itself.
    pub expires_at: Option<Timestamp>,
}

/// A wish for who may look at a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetPort {
    /// Who.
    pub visibility: Visibility,
    /// Until when; then the manifest's word counts again.
    pub expires_at: Option<Timestamp>,
}

impl ControlPlane {
    /// The session, and its ports that are open, in the manifest, or spoken of; the lowest first.
    ///
    /// # Errors
    /// `NotFound`; `not_supported` where the machine was started by an older version; when its agent cannot answer.
    pub async fn ports_of(&self, caller: &Caller, reference: &str) -> Result<(Session, Vec<PortView>)> {
        caller.may(Action::Read, Relation::Own)?;
        let session = self.find_session(caller.workspace.id, reference).await?;
        let version = self.store().version(session.workspace, session.version).await?;
        let declared = version.and_then(|version| version.spec).map(|spec| spec.ports).unwrap_or_default();
        let settings = self.store().port_settings(session.workspace, session.id, None, SETTINGS).await?.items;
        let open = match session.state {
            SessionState::Running => self.agent_ports(&self.target(&session)?).await?.ports,
            _ => Vec::new(),
        };
        let now = self.now();
        let named = declared.iter().map(|spec| spec.port);
        let spoken_of = settings.iter().map(|setting| setting.port);
        let all = named.chain(spoken_of).chain(open.iter().map(|open| open.port));
        let mut views: BTreeMap<u16, PortView> = BTreeMap::new();
        for port in all {
            views.entry(port).or_insert_with(|| {
                let setting = settings.iter().find(|setting| setting.port == port);
                let found = open.iter().find(|open| open.port == port);
                let counts = setting.filter(|said| said.expires_at.is_none_or(|end| end > now));
                PortView {
                    port,
                    name: declared.iter().find(|spec| spec.port == port).and_then(|spec| spec.name.clone()),
                    open: found.is_some(),
                    process: found.and_then(|open| open.process.clone()),
                    visibility: rules::visibility(&declared, setting, port, now),
                    expires_at: counts.and_then(|said| said.expires_at),
                }
            });
        }
        Ok((session, views.into_values().collect()))
    }

    /// Says who may look at a port from now on.
    ///
    /// # Errors
    /// `Forbidden`; a port or a moment that makes no sense; too many settings.
    pub async fn set_port(
        &self,
        caller: &Caller,
        reference: &str,
        port: u16,
        wish: SetPort,
    ) -> Result<(Session, PortSetting)> {
        if matches!(port, 0 | AGENT_PORT) {
            return Err(Error::invalid("port", "port is a number from 1 to 65535"));
        }
        self.commit_decided(|| self.decide_port(caller, reference, port, wish)).await
    }

    async fn decide_port(
        &self,
        caller: &Caller,
        reference: &str,
        port: u16,
        wish: SetPort,
    ) -> Result<(Option<ChangeSet>, (Session, PortSetting))> {
        let session = self.find_session(caller.workspace.id, reference).await?;
        caller.may_session(Action::SessionManage, &session)?;
        if !rules::may_set(caller.role, relation_to(&session, caller.user.id), wish.visibility) {
            return Err(Error::new(
                Kind::Forbidden,
                "forbidden",
                "Only who may get into a session lets others look into it.",
                "Ask the session's owner.",
            ));
        }
        let now = self.now();
        if wish.expires_at.is_some_and(|end| end <= now) {
            return Err(Error::invalid("expires_at", "expires_at lies in the past"));
        }
        let key = Key::Port(session.id, port);
        let before = self.store().port_setting(session.workspace, session.id, port).await?;
        let next = PortSetting {
            workspace: session.workspace,
            session: session.id,
            port,
            visibility: wish.visibility,
            expires_at: wish.expires_at,
            changed_at: now,
            revision: before.as_ref().map_or(1, |before| before.revision + 1),
        };
        let said = before.as_ref().map(|before| (before.visibility, before.expires_at));
        if said == Some((wish.visibility, wish.expires_at)) {
            return Ok((None, (session, before.unwrap_or(next))));
        }
        let mut change = ChangeSet::new(Family::Workspace(session.workspace));
        match &before {
            Some(before) => change.guards.push(Guard::Revision(key, before.revision)),
            None => {
                let page = self.store().port_settings(session.workspace, session.id, None, SETTINGS).await?;
                if page.items.len() >= SETTINGS {
                    return Err(Error::new(
                        Kind::Limited,
                        "quota_exceeded",
                        format!("A session has settings for at most {SETTINGS} ports."),
                        "Make fewer ports visible, or make a new session.",
                    ));
                }
                change.guards.push(Guard::Absent(key));
            }
        }
        let words = |visibility: Visibility, expires_at: Option<Timestamp>| json!({ "visibility": visibility, "expires_at": expires_at });
        let after = words(next.visibility, next.expires_at);
        change.audit.push(caller.audit(
            self,
            "port.visibility",
            session.id,
            json!({
                "port": port,
                "before": before.as_ref().map(|before| words(before.visibility, before.expires_at)),
                "after": after,
            }),
        ));
        change.events.push(burstflare_ports::record::Event {
            kind: "port.visibility".to_owned(),
            subject: session.id.to_string(),
            data: json!({ "port": port, "visibility": next.visibility, "expires_at": next.expires_at }),
            at: now,
        });
        change.puts.push(Put::Port(next.clone()));
        Ok((Some(change), (session, next)))
    }
}
