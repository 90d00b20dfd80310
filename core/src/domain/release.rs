//! Releases: what is current, and the line that rollbacks walk back.

use burstflare_ports::id::Id;
use burstflare_ports::record::{Release, ReleaseCause, Template, User, Version, VersionState};
use burstflare_ports::time::Timestamp;

/// Why a release is not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The version has no bundle yet.
    #[error("nothing was uploaded for this version yet")]
    Draft,
    /// The version is being built.
    #[error("the version is still being built")]
    Building,
    /// The version's build failed.
    #[error("the version's build failed")]
    FailedBuild,
    /// The template was put away.
    #[error("the template is archived")]
    Archived,
    /// There is no release before the current one.
    #[error("nothing to roll back to")]
    NothingBefore,
}

/// What a promotion leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Promotion {
    /// The version is current already; nothing changes.
    Unchanged,
    /// This release is to be recorded and made current.
    New(Box<Release>),
}

/// Who and when, and the new release's id.
#[derive(Debug, Clone, Copy)]
pub struct By {
    /// The new release's id.
    pub id: Id<Release>,
    /// Who.
    pub user: Id<User>,
    /// When.
    pub at: Timestamp,
}

/// Decides a promotion. `current` is the template's current release.
///
/// # Errors
/// When the version cannot be promoted, or the template takes no releases.
pub fn promote(
    template: &Template,
    version: &Version,
    current: Option<&Release>,
    last_number: u64,
    by: By,
) -> Result<Promotion, Refusal> {
    if template.archived_at.is_some() {
        return Err(Refusal::Archived);
    }
    match version.state {
        VersionState::Draft => return Err(Refusal::Draft),
        VersionState::Building => return Err(Refusal::Building),
        VersionState::Failed => return Err(Refusal::FailedBuild),
        VersionState::Ready => {}
    }
    if current.is_some_and(|release| release.version == version.id) {
        return Ok(Promotion::Unchanged);
    }
    Ok(Promotion::New(Box::new(Release {
        id: by.id,
        workspace: template.workspace,
        template: template.id,
        version: version.id,
        number: last_number + 1,
        cause: ReleaseCause::Promote,
        previous: current.map(|release| release.id),
        created_by: by.user,
        created_at: by.at,
    })))
}

/// Decides a rollback: the release before the current one in the promoted line becomes current again, as a new entry
/// of the history. `previous` is the one that [`Release::previous`] of `current` names.
///
/// # Errors
/// When there is nothing before.
pub fn roll_back(
    template: &Template,
    previous: Option<&Release>,
    last_number: u64,
    by: By,
) -> Result<Release, Refusal> {
    if template.archived_at.is_some() {
        return Err(Refusal::Archived);
    }
    let previous = previous.ok_or(Refusal::NothingBefore)?;
    Ok(Release {
        id: by.id,
        workspace: template.workspace,
        template: template.id,
        version: previous.version,
        number: last_number + 1,
        cause: ReleaseCause::Rollback,
        previous: previous.previous,
        created_by: by.user,
        created_at: by.at,
    })
}
