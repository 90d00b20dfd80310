use axum::extract::State;
use axum::response::Response;
use burstflare_core::ControlPlane;
use burstflare_core::domain::permission::Action;

use crate::cursor::Listing;
use crate::extract::{Authenticated, Json, Params, ok};
use crate::problem::Answer;
use crate::query::Query;
use crate::resource::{ListQuery, Page, PromoteRequest, Release};
use crate::table::{Accepts, Access, Table};

pub(super) fn table(table: Table) -> Table {
    let manage = Access::Bearer(Action::TemplateManage);
    table
        .add(__path_list, Access::Bearer(Action::Read), Accepts::Nothing, list)
        .add(__path_promote, manage, Accepts::Json, promote)
        .add(__path_rollback, manage, Accepts::Nothing, rollback)
}

/// The releases of the workspace, or of one template.
#[utoipa::path(get, path = "/api/v1/releases", tag = "releases",
    params(ListQuery, ("template" = Option<String>, Query, description = "Id or name of a template")),
    responses((status = 200, body = Page<Release>)))]
async fn list(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    mut query: Query,
) -> Answer<Response> {
    let template = query.text("template")?;
    let listing = Listing::new(&caller, &format!("releases/{}", template.as_deref().unwrap_or_default()));
    let page = listing.query(&mut query)?;
    query.finish()?;
    ok(&listing.page::<_, Release, _>(plane.releases(&caller, template.as_deref(), page).await?))
}

/// Make a built version the template's current release. Promoting what is current changes nothing.
#[utoipa::path(post, path = "/api/v1/templates/{template}/promote", tag = "releases",
    params(("template" = String, Path, description = "Id or name of the template")),
    request_body = PromoteRequest, responses((status = 200, body = Release)))]
async fn promote(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    Params(template): Params<String>,
    Json(wish): Json<PromoteRequest>,
) -> Answer<Response> {
    ok(&Release::from(plane.promote(&caller, &template, &wish.version).await?))
}

/// Activate the release before the current one.
#[utoipa::path(post, path = "/api/v1/templates/{template}/rollback", tag = "releases",
    params(("template" = String, Path, description = "Id or name of the template")),
    responses((status = 200, body = Release)))]
async fn rollback(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    Params(template): Params<String>,
) -> Answer<Response> {
    ok(&Release::from(plane.roll_back(&caller, &template).await?))
}
