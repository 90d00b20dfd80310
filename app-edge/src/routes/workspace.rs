use axum::extract::State;
use axum::response::Response;
use burstflare_core::ControlPlane;
use burstflare_core::domain::permission::Action;
use burstflare_ports::record;

use crate::cursor::Listing;
use crate::extract::{Authenticated, Json, Params, created, ok};
use crate::problem::Answer;
use crate::query::Query;
use crate::resource::{
    CreateInvite, CreatedInvite, Invite, ListQuery, Member, Page, SignedIn, WorkspaceMembership,
};
use crate::table::{Accepts, Access, Table};

pub(super) fn table(table: Table) -> Table {
    let read = Access::Bearer(Action::Read);
    let manage = Access::Bearer(Action::MemberManage);
    table
        .add(__path_workspaces, read, Accepts::Nothing, workspaces)
        .add(__path_switch, Access::Bearer(Action::TokenManage), Accepts::OptionalJson, switch)
        .add(__path_members, read, Accepts::Nothing, members)
        .add(__path_invites, manage, Accepts::Nothing, invites)
        .add(__path_invite, manage, Accepts::Json, invite)
}

/// The workspaces the caller belongs to.
#[utoipa::path(get, path = "/api/v1/workspaces", tag = "workspaces", params(ListQuery),
    responses((status = 200, body = Page<WorkspaceMembership>)))]
async fn workspaces(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    mut query: Query,
) -> Answer<Response> {
    let listing = Listing::new(&caller, "workspaces");
    let page = listing.query(&mut query)?;
    query.finish()?;
    ok(&listing.page::<_, WorkspaceMembership, _>(plane.workspaces(&caller, page).await?))
}

/// Get tokens for another workspace of the caller's.
#[utoipa::path(post, path = "/api/v1/workspaces/{workspace}/use", tag = "workspaces",
    params(("workspace" = String, Path, description = "Id or name of the workspace")),
    responses((status = 200, body = SignedIn)))]
async fn switch(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    Params(workspace): Params<String>,
) -> Answer<Response> {
    ok(&SignedIn::from(plane.use_workspace(&caller, &workspace).await?))
}

/// The members of the workspace.
#[utoipa::path(get, path = "/api/v1/members", tag = "workspaces", params(ListQuery),
    responses((status = 200, body = Page<Member>)))]
async fn members(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    mut query: Query,
) -> Answer<Response> {
    let listing = Listing::new(&caller, "members");
    let page = listing.query(&mut query)?;
    query.finish()?;
    ok(&listing.page::<_, Member, _>(plane.members(&caller, page).await?))
}

/// The unspent invites of the workspace, without their codes.
#[utoipa::path(get, path = "/api/v1/invites", tag = "workspaces", params(ListQuery),
    responses((status = 200, body = Page<Invite>)))]
async fn invites(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    mut query: Query,
) -> Answer<Response> {
    let listing = Listing::new(&caller, "invites");
    let page = listing.query(&mut query)?;
    query.finish()?;
    ok(&listing.page::<_, Invite, _>(plane.invites(&caller, page).await?))
}

/// Make an invite. Its code is in this answer and never again.
#[utoipa::path(post, path = "/api/v1/invites", tag = "workspaces", request_body = CreateInvite,
    responses((status = 201, body = CreatedInvite)))]
async fn invite(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    Json(wish): Json<CreateInvite>,
) -> Answer<Response> {
    let (code, grant) = plane.invite(&caller, wish.role).await?;
    created(&CreatedInvite { about: grant.into(), code })
}

impl From<(record::Workspace, record::Membership)> for WorkspaceMembership {
    fn from((workspace, membership): (record::Workspace, record::Membership)) -> Self {
        Self { workspace: workspace.into(), role: membership.role }
    }
}
