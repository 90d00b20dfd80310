use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use burstflare_core::ControlPlane;
use burstflare_core::domain::permission::Action;

use crate::body;
use crate::cursor::Listing;
use crate::extract::{Authenticated, Json, Params, created, ok};
use crate::problem::Answer;
use crate::query::Query;
use crate::resource::{CreateVersion, ListQuery, Page, Uploaded, Version};
use crate::table::{Accepts, Access, Table};

pub(super) fn table(table: Table) -> Table {
    let (read, manage) = (Access::Bearer(Action::Read), Access::Bearer(Action::TemplateManage));
    table
        .add(__path_list, read, Accepts::Nothing, list)
        .add(__path_create, manage, Accepts::Json, create)
        .add(__path_show, read, Accepts::Nothing, show)
        .add(__path_upload, manage, Accepts::Archive, upload)
}

/// The versions of a template.
#[utoipa::path(get, path = "/api/v1/templates/{template}/versions", tag = "versions",
    params(("template" = String, Path, description = "Id or name of the template"), ListQuery),
    responses((status = 200, body = Page<Version>)))]
async fn list(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    Params(template): Params<String>,
    mut query: Query,
) -> Answer<Response> {
    let listing = Listing::new(&caller, &format!("versions/{template}"));
    let page = listing.query(&mut query)?;
    query.finish()?;
    ok(&listing.page::<_, Version, _>(plane.versions(&caller, &template, page).await?))
}

/// Make a draft of a version; a draft with this label that is there already is answered again.
#[utoipa::path(post, path = "/api/v1/templates/{template}/versions", tag = "versions",
    params(("template" = String, Path, description = "Id or name of the template")),
    request_body = CreateVersion, responses((status = 201, body = Version)))]
async fn create(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    Params(template): Params<String>,
    Json(wish): Json<CreateVersion>,
) -> Answer<Response> {
    created(&Version::from(plane.create_version(&caller, &template, wish.label).await?))
}

/// A version.
#[utoipa::path(get, path = "/api/v1/templates/{template}/versions/{version}", tag = "versions",
    params(
        ("template" = String, Path, description = "Id or name of the template"),
        ("version" = String, Path, description = "Id or label of the version")
    ),
    responses((status = 200, body = Version)))]
async fn show(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    Params((template, version)): Params<(String, String)>,
) -> Answer<Response> {
    ok(&Version::from(plane.version(&caller, &template, &version).await?))
}

/// Upload a version's bundle, once, and begin its build.
#[utoipa::path(put, path = "/api/v1/templates/{template}/versions/{version}/bundle", tag = "versions",
    params(
        ("template" = String, Path, description = "Id or name of the template"),
        ("version" = String, Path, description = "Id or label of the version")
    ),
    request_body(content = Vec<u8>, content_type = "application/zstd", description = "A tar.zst or tar.gz"),
    responses((status = 201, body = Uploaded)))]
async fn upload(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    Params((template, version)): Params<(String, String)>,
    bundle: Body,
) -> Answer<Response> {
    let bundle = body::inbound(bundle, plane.ports().clock.clone());
    let (version, build) = plane.upload_bundle(&caller, &template, &version, bundle).await?;
    created(&Uploaded { version: version.into(), build: build.into() })
}
