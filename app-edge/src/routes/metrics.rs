use axum::extract::State;
use axum::response::Response;
use burstflare_core::ControlPlane;
use burstflare_core::domain::permission::Action;

use crate::extract::{Authenticated, Params, ok};
use crate::problem::Answer;
use crate::resource::SessionMetrics;
use crate::table::{Accepts, Access, Table};

pub(super) fn table(table: Table) -> Table {
    table.add(__path_show, Access::Bearer(Action::SessionAttach), Accepts::Nothing, show)
}

/// What a running session's machine uses right now. Asking is no activity.
#[utoipa::path(get, path = "/api/v1/sessions/{session}/metrics", tag = "sessions",
    params(("session" = String, Path, description = "Id or name of the session")),
    responses((status = 200, body = SessionMetrics)))]
async fn show(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    Params(session): Params<String>,
) -> Answer<Response> {
    let (metrics, spec) = plane.metrics(&caller, &session).await?;
    ok(&SessionMetrics::new(&metrics, spec.as_ref(), &plane.ports().runtime.profile()))
}
