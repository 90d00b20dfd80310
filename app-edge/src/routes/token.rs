use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use burstflare_core::domain::permission::Action;
use burstflare_core::service::NewToken;
use burstflare_core::{ControlPlane, Error};

use crate::cursor::Listing;
use crate::extract::{Authenticated, Json, Params, created, nothing, ok};
use crate::problem::Answer;
use crate::query::Query;
use crate::resource::{CreateToken, CreatedToken, ListQuery, Page, Token};
use crate::table::{Accepts, Access, Table};

/// Life of a token unless asked otherwise.
const LIFE: Duration = Duration::from_secs(90 * 86_400);

pub(super) fn table(table: Table) -> Table {
    let manage = Access::Bearer(Action::TokenManage);
    table
        .add(__path_list, Access::Bearer(Action::Read), Accepts::Nothing, list)
        .add(__path_create, manage, Accepts::Json, create)
        .add(__path_revoke, manage, Accepts::Nothing, revoke)
}

/// The caller's personal tokens for this workspace.
#[utoipa::path(get, path = "/api/v1/tokens", tag = "tokens", params(ListQuery),
    responses((status = 200, body = Page<Token>)))]
async fn list(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    mut query: Query,
) -> Answer<Response> {
    let listing = Listing::new(&caller, "tokens");
    let page = listing.query(&mut query)?;
    query.finish()?;
    ok(&listing.page::<_, Token, _>(plane.tokens(&caller, page).await?))
}

/// Make a personal token. Its text is in this answer and never again.
#[utoipa::path(post, path = "/api/v1/tokens", tag = "tokens", request_body = CreateToken,
    responses((status = 201, body = CreatedToken)))]
async fn create(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    Json(wish): Json<CreateToken>,
) -> Answer<Response> {
    let life = wish.expires_in_s.map_or(LIFE, Duration::from_secs);
    let wish = NewToken { name: wish.name, scopes: wish.scopes, life };
    let (token, about) = plane.create_token(&caller, wish).await?;
    created(&CreatedToken { about: about.into(), token })
}

/// Revoke a personal token, at once.
#[utoipa::path(delete, path = "/api/v1/tokens/{token}", tag = "tokens",
    params(("token" = String, Path, description = "Id of the token")), responses((status = 204)))]
async fn revoke(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    Params(token): Params<String>,
) -> Answer<Response> {
    let token = token.parse().map_err(|_| Error::not_found("token"))?;
    plane.revoke_token(&caller, token).await?;
    nothing()
}
