use axum::extract::State;
use axum::response::Response;
use burstflare_core::ControlPlane;
use burstflare_core::domain::permission::Action;

use crate::cursor::Listing;
use crate::extract::{Authenticated, Json, Params, nothing, ok};
use crate::problem::Answer;
use crate::query::Query;
use crate::resource::{ListQuery, Page, Secret, SetSecret};
use crate::table::{Accepts, Access, Table};

pub(super) fn table(table: Table) -> Table {
    let manage = Access::Bearer(Action::SecretManage);
    table
        .add(__path_list, manage, Accepts::Nothing, list)
        .add(__path_show, manage, Accepts::Nothing, show)
        .add(__path_set, manage, Accepts::Json, set)
        .add(__path_delete, manage, Accepts::Nothing, delete)
}

/// The workspace's secrets, without their values.
#[utoipa::path(get, path = "/api/v1/secrets", tag = "secrets", params(ListQuery),
    responses((status = 200, body = Page<Secret>)))]
async fn list(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    mut query: Query,
) -> Answer<Response> {
    let listing = Listing::new(&caller, "secrets");
    let page = listing.query(&mut query)?;
    query.finish()?;
    ok(&listing.page::<_, Secret, _>(plane.secrets(&caller, page).await?))
}

/// A secret, without its value.
#[utoipa::path(get, path = "/api/v1/secrets/{secret}", tag = "secrets",
    params(("secret" = String, Path, description = "Name of the secret")),
    responses((status = 200, body = Secret)))]
async fn show(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    Params(secret): Params<String>,
) -> Answer<Response> {
    ok(&Secret::from(plane.secret(&caller, &secret).await?))
}

/// Set a secret, for processes that sessions start from now on; a file in each running one is written anew.
#[utoipa::path(put, path = "/api/v1/secrets/{secret}", tag = "secrets",
    params(("secret" = String, Path, description = "Name of the secret: A-Z, a-z, 0-9 and _")),
    request_body = SetSecret, responses((status = 200, body = Secret)))]
async fn set(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    Params(secret): Params<String>,
    Json(wish): Json<SetSecret>,
) -> Answer<Response> {
    ok(&Secret::from(plane.set_secret(&caller, &secret, &wish.value).await?))
}

/// Delete a secret, from running sessions, too.
#[utoipa::path(delete, path = "/api/v1/secrets/{secret}", tag = "secrets",
    params(("secret" = String, Path, description = "Name of the secret")), responses((status = 204)))]
async fn delete(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    Params(secret): Params<String>,
) -> Answer<Response> {
    plane.delete_secret(&caller, &secret).await?;
    nothing()
}
