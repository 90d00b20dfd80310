use axum::extract::State;
use axum::response::Response;
use burstflare_core::ControlPlane;
use burstflare_core::domain::permission::Action;

use crate::cursor::Listing;
use crate::extract::{Authenticated, Params, ok};
use crate::problem::Answer;
use crate::query::Query;
use crate::resource::{ListQuery, Page, Snapshot};
use crate::table::{Accepts, Access, Table};

pub(super) fn table(table: Table) -> Table {
    table.add(__path_list, Access::Bearer(Action::Read), Accepts::Nothing, list)
}

/// The snapshots of a session.
#[utoipa::path(get, path = "/api/v1/sessions/{session}/snapshots", tag = "snapshots",
    params(("session" = String, Path, description = "Id or name of the session"), ListQuery),
    responses((status = 200, body = Page<Snapshot>)))]
async fn list(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    Params(session): Params<String>,
    mut query: Query,
) -> Answer<Response> {
    let listing = Listing::new(&caller, &format!("snapshots/{session}"));
    let page = listing.query(&mut query)?;
    query.finish()?;
    ok(&listing.page::<_, Snapshot, _>(plane.snapshots(&caller, &session, page).await?))
}
