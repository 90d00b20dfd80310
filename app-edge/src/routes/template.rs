use axum::extract::State;
use axum::response::Response;
use burstflare_core::ControlPlane;
use burstflare_core::domain::permission::Action;

use crate::cursor::Listing;
use crate::extract::{Authenticated, Json, Params, created, ok};
use crate::problem::Answer;
use crate::query::Query;
use crate::resource::{CreateTemplate, ListQuery, Page, Template};
use crate::table::{Accepts, Access, Table};

pub(super) fn table(table: Table) -> Table {
    let (read, manage) = (Access::Bearer(Action::Read), Access::Bearer(Action::TemplateManage));
    table
        .add(__path_list, read, Accepts::Nothing, list)
        .add(__path_create, manage, Accepts::Json, create)
        .add(__path_show, read, Accepts::Nothing, show)
        .add(__path_archive, manage, Accepts::Nothing, archive)
        .add(__path_restore, manage, Accepts::Nothing, restore)
}

/// The templates of the workspace, archived ones included.
#[utoipa::path(get, path = "/api/v1/templates", tag = "templates", params(ListQuery),
    responses((status = 200, body = Page<Template>)))]
async fn list(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    mut query: Query,
) -> Answer<Response> {
    let listing = Listing::new(&caller, "templates");
    let page = listing.query(&mut query)?;
    query.finish()?;
    ok(&listing.page::<_, Template, _>(plane.templates(&caller, page).await?))
}

/// Make a template.
#[utoipa::path(post, path = "/api/v1/templates", tag = "templates", request_body = CreateTemplate,
    responses((status = 201, body = Template)))]
async fn create(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    Json(wish): Json<CreateTemplate>,
) -> Answer<Response> {
    created(&Template::from(plane.create_template(&caller, wish.name).await?))
}

/// A template and what is current.
#[utoipa::path(get, path = "/api/v1/templates/{template}", tag = "templates",
    params(("template" = String, Path, description = "Id or name of the template")),
    responses((status = 200, body = Template)))]
async fn show(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    Params(template): Params<String>,
) -> Answer<Response> {
    let view = plane.template(&caller, &template).await?;
    ok(&Template { current_version: view.current_version, ..view.template.into() })
}

/// Put a template away: no new versions, releases or sessions.
#[utoipa::path(post, path = "/api/v1/templates/{template}/archive", tag = "templates",
    params(("template" = String, Path, description = "Id or name of the template")),
    responses((status = 200, body = Template)))]
async fn archive(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    Params(template): Params<String>,
) -> Answer<Response> {
    ok(&Template::from(plane.archive_template(&caller, &template).await?))
}

/// Take an archived template back.
#[utoipa::path(post, path = "/api/v1/templates/{template}/restore", tag = "templates",
    params(("template" = String, Path, description = "Id or name of the template")),
    responses((status = 200, body = Template)))]
async fn restore(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    Params(template): Params<String>,
) -> Answer<Response> {
    ok(&Template::from(plane.restore_template(&caller, &template).await?))
}
