use axum::extract::State;
use axum::response::Response;
use burstflare_core::ControlPlane;
use burstflare_core::domain::permission::Action;

use crate::cursor::Listing;
use crate::extract::{Authenticated, ok};
use crate::problem::Answer;
use crate::query::Query;
use crate::resource::{AuditLine, ListQuery, Page};
use crate::table::{Accepts, Access, Table};

pub(super) fn table(table: Table) -> Table {
    table.add(__path_list, Access::Bearer(Action::AuditRead), Accepts::Nothing, list)
}

/// The audit log of the workspace, newest first. Reading it writes nothing.
#[utoipa::path(get, path = "/api/v1/audit", tag = "audit", params(ListQuery),
    responses((status = 200, body = Page<AuditLine>)))]
async fn list(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    mut query: Query,
) -> Answer<Response> {
    let listing = Listing::new(&caller, "audit");
    let page = listing.query(&mut query)?;
    query.finish()?;
    ok(&listing.page::<_, AuditLine, _>(plane.audit(&caller, page).await?))
}
