//! Templates.

use burstflare_ports::id::Id;
use burstflare_ports::record::{Event, Release, Template, Version};
use burstflare_ports::store::{Bump, ChangeSet, CommitError, Counter, Family, Guard, Key, Put, Unique};
use burstflare_ports::text::Slug;
use serde_json::json;

use super::paging::list;
use super::{Caller, ControlPlane, List, PageQuery, refusal};
use crate::domain::permission::{Action, Relation};
use crate::error::{Error, Result};

/// A template and what is current.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateView {
    /// The template.
    pub template: Template,
    /// The version of its current release.
    pub current_version: Option<Id<Version>>,
}

impl ControlPlane {
    /// Makes a template.
    ///
    /// # Errors
    /// `name_taken`, `quota_exceeded`.
    pub async fn create_template(&self, caller: &Caller, name: Slug) -> Result<Template> {
        caller.may(Action::TemplateManage, Relation::Own)?;
        let now = self.now();
        let template = Template {
            id: self.new_id(now)?,
            workspace: caller.workspace.id,
            name: name.clone(),
            created_by: caller.user.id,
            current_release: None,
            archived_at: None,
            created_at: now,
            revision: 1,
        };
        let mut change = ChangeSet::new(Family::Workspace(caller.workspace.id));
        change.guards = vec![
            Guard::Free(Unique::TemplateName(name.clone())),
            Guard::Below { counter: Counter::Templates, by: 1, limit: caller.plan().templates },
        ];
        change.bumps = vec![Bump { counter: Counter::Templates, by: 1 }];
        change.puts = vec![Put::Template(template.clone())];
        change.events = vec![template_event("template.created", &template, now)];
        change.audit.push(caller.audit(self, "template.create", template.id, json!({ "name": name })));
        self.commit(change).await.map_err(|error| match error {
            CommitError::Refused(Guard::Free(_)) => Error::conflict(
                "name_taken",
                format!("A template called `{name}` exists already."),
                "Choose another name, or work on that one: `flare template list`.",
            ),
            error => refusal(error),
        })?;
        Ok(template)
    }

    /// The templates of the workspace.
    ///
    /// # Errors
    /// When the store cannot answer.
    pub async fn templates(
        &self,
        caller: &Caller,
        page: PageQuery<Id<Template>>,
    ) -> Result<List<Template, Id<Template>>> {
        caller.may(Action::Read, Relation::Own)?;
        let found = self.store().templates(caller.workspace.id, page.after, page.limit).await?;
        Ok(list(found, |template| template.id))
    }

    /// A template by id or name, and what is current.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn template(&self, caller: &Caller, reference: &str) -> Result<TemplateView> {
        caller.may(Action::Read, Relation::Own)?;
        let template = self.find_template(caller.workspace.id, reference).await?;
        let current_version = match template.current_release {
            Some(id) => self.release_of(template.workspace, id).await?.map(|release| release.version),
            None => None,
        };
        Ok(TemplateView { template, current_version })
    }

    /// Puts a template away: no new versions, releases or sessions; what runs goes on.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn archive_template(&self, caller: &Caller, reference: &str) -> Result<Template> {
        self.set_archived(caller, reference, true).await
    }

    /// Takes an archived template back.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn restore_template(&self, caller: &Caller, reference: &str) -> Result<Template> {
        self.set_archived(caller, reference, false).await
    }

    async fn set_archived(&self, caller: &Caller, reference: &str, archived: bool) -> Result<Template> {
        caller.may(Action::TemplateManage, Relation::Own)?;
        self.commit_decided(|| async move {
            let template = self.find_template(caller.workspace.id, reference).await?;
            if template.archived_at.is_some() == archived {
                return Ok((None, template));
            }
            let now = self.now();
            let next = Template {
                archived_at: archived.then_some(now),
                revision: template.revision + 1,
                ..template.clone()
            };
            let action = if archived { "template.archive" } else { "template.restore" };
            let mut change = ChangeSet::new(Family::Workspace(caller.workspace.id));
            change.guards.push(Guard::Revision(Key::Template(template.id), template.revision));
            change.puts.push(Put::Template(next.clone()));
            change.events.push(template_event(action, &next, now));
            change.audit.push(caller.audit(self, action, template.id, json!({})));
            Ok((Some(change), next))
        })
        .await
    }

    /// A template by id or name, for whoever may know of it.
    pub(super) async fn find_template(
        &self,
        workspace: Id<burstflare_ports::record::Workspace>,
        reference: &str,
    ) -> Result<Template> {
        let found = if let Ok(id) = reference.parse::<Id<Template>>() {
            self.store().template(workspace, id).await?
        } else if let Ok(name) = reference.parse::<Slug>() {
            self.store().template_by_name(workspace, &name).await?
        } else {
            None
        };
        found.ok_or_else(|| Error::not_found("template"))
    }

    pub(super) async fn release_of(
        &self,
        workspace: Id<burstflare_ports::record::Workspace>,
        id: Id<Release>,
    ) -> Result<Option<Release>> {
        Ok(self.store().release(workspace, id).await?)
    }
}

pub(super) fn template_event(
    kind: &str,
    template: &Template,
    at: burstflare_ports::time::Timestamp,
) -> Event {
    Event {
        kind: kind.to_owned(),
        subject: template.id.to_string(),
        data: json!({ "name": template.name, "current_release": template.current_release }),
        at,
    }
}
