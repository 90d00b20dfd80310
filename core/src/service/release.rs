//! Releases: promote and roll back.

use burstflare_ports::id::Id;
use burstflare_ports::record::{Release, Template, Version};
use burstflare_ports::store::{ChangeSet, Family, Guard, Key, Put};
use serde_json::json;

use super::paging::list;
use super::template::template_event;
use super::{Caller, ControlPlane, List, PageQuery};
use crate::domain::permission::{Action, Relation};
use crate::domain::release::{self as rules, By, Promotion, Refusal};
use crate::error::{Error, Result};

impl ControlPlane {
    /// Makes a built version the template's current release. Promoting what is current answers the current release.
    ///
    /// # Errors
    /// `build_running`, `build_failed`, `no_bundle`, `archived`.
    pub async fn promote(&self, caller: &Caller, template: &str, version: &str) -> Result<Release> {
        caller.may(Action::TemplateManage, Relation::Own)?;
        self.commit_decided(|| async move {
            let template = self.find_template(caller.workspace.id, template).await?;
            let version = self.find_version(&template, version).await?;
            let (current, last) = self.current_and_last(&template).await?;
            let by = self.by(caller)?;
            match rules::promote(&template, &version, current.as_ref(), last, by)
                .map_err(|reason| refused(reason, &version))?
            {
                Promotion::Unchanged => {
                    let current = current.ok_or_else(|| Error::not_found("release"))?;
                    Ok((None, current))
                }
                Promotion::New(release) => {
                    let change = self.activate(caller, &template, &release, "release.promote");
                    Ok((Some(change), *release))
                }
            }
        })
        .await
    }

    /// Makes the release before the current one, in the promoted line, current again.
    ///
    /// # Errors
    /// `nothing_to_roll_back`, `archived`.
    pub async fn roll_back(&self, caller: &Caller, template: &str) -> Result<Release> {
        caller.may(Action::TemplateManage, Relation::Own)?;
        self.commit_decided(|| async move {
            let template = self.find_template(caller.workspace.id, template).await?;
            let (current, last) = self.current_and_last(&template).await?;
            let previous = match current.and_then(|release| release.previous) {
                Some(id) => self.release_of(template.workspace, id).await?,
                None => None,
            };
            let release =
                rules::roll_back(&template, previous.as_ref(), last, self.by(caller)?).map_err(|reason| {
                    match reason {
                        Refusal::Archived => super::version::archived(),
                        reason => Error::conflict(
                            "nothing_to_roll_back",
                            format!("There is {reason}."),
                            "See `flare release list`.",
                        ),
                    }
                })?;
            let change = self.activate(caller, &template, &release, "release.rollback");
            Ok((Some(change), release))
        })
        .await
    }

    /// The releases of the workspace, or of one template.
    ///
    /// # Errors
    /// `NotFound` for a template that is not there.
    pub async fn releases(
        &self,
        caller: &Caller,
        template: Option<&str>,
        page: PageQuery<Id<Release>>,
    ) -> Result<List<Release, Id<Release>>> {
        caller.may(Action::Read, Relation::Own)?;
        let template = match template {
            Some(reference) => Some(self.find_template(caller.workspace.id, reference).await?.id),
            None => None,
        };
        let found = self.store().releases(caller.workspace.id, template, page.after, page.limit).await?;
        Ok(list(found, |release| release.id))
    }

    /// The current release and the number of the newest one. The newest in the history is always the current one.
    async fn current_and_last(&self, template: &Template) -> Result<(Option<Release>, u64)> {
        let current = match template.current_release {
            Some(id) => self.release_of(template.workspace, id).await?,
            None => None,
        };
        let last = current.as_ref().map_or(0, |release| release.number);
        Ok((current, last))
    }

    fn by(&self, caller: &Caller) -> Result<By> {
        let at = self.now();
        Ok(By { id: self.new_id(at)?, user: caller.user.id, at })
    }

    fn activate(&self, caller: &Caller, template: &Template, release: &Release, action: &str) -> ChangeSet {
        let next = Template {
            current_release: Some(release.id),
            revision: template.revision + 1,
            ..template.clone()
        };
        let mut change = ChangeSet::new(Family::Workspace(template.workspace));
        change.guards = vec![
            Guard::Revision(Key::Template(template.id), template.revision),
            Guard::Absent(Key::Release(release.id)),
        ];
        change.events = vec![template_event("template.release", &next, release.created_at)];
        change.puts = vec![Put::Release(release.clone()), Put::Template(next)];
        change.audit.push(caller.audit(
            self,
            action,
            template.id,
            json!({ "release": release.id, "version": release.version, "before": template.current_release }),
        ));
        change
    }
}

fn refused(reason: Refusal, version: &Version) -> Error {
    let message = format!("Version `{}` cannot be promoted: {reason}.", version.label);
    match reason {
        Refusal::Building => Error::conflict(
            "build_running",
            message,
            "Wait for the build to end; `flare template promote` does that by itself.",
        ),
        Refusal::FailedBuild => Error::conflict(
            "build_failed",
            message,
            "Read `flare build log`, correct the template, and upload a new version.",
        ),
        Refusal::Draft => Error::conflict("no_bundle", message, "Upload it first: `flare template upload`."),
        Refusal::Archived => super::version::archived(),
        Refusal::NothingBefore => {
            Error::conflict("nothing_to_roll_back", message, "See `flare release list`.")
        }
    }
}
