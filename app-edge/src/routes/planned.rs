use axum::Router;
use axum::routing::{MethodFilter, on};

use crate::problem::Refusal;
use crate::state::EdgeState;

/// What is planned and not there yet. Each answers 501 `not_supported`.
const PLANNED: [(MethodFilter, &str); 15] = {
    const GET: MethodFilter = MethodFilter::GET;
    const POST: MethodFilter = MethodFilter::POST;
    const PATCH: MethodFilter = MethodFilter::PATCH;
    const DELETE: MethodFilter = MethodFilter::DELETE;
    [
        (POST, "/api/v1/workspaces"),
        (PATCH, "/api/v1/members/{member}"),
        (DELETE, "/api/v1/members/{member}"),
        (DELETE, "/api/v1/invites/{invite}"),
        (POST, "/api/v1/invites/accept"),
        (PATCH, "/api/v1/templates/{template}"),
        (DELETE, "/api/v1/templates/{template}"),
        (GET, "/api/v1/sessions/{session}/events"),
        (GET, "/api/v1/usage"),
        (GET, "/api/v1/export"),
        (POST, "/api/v1/import"),
        (GET, "/api/v1/admin/report"),
        (POST, "/api/v1/admin/reconcile"),
        (POST, "/api/v1/auth/code"),
        (POST, "/api/v1/auth/device"),
    ]
};

/// Adds them to a router.
pub(crate) fn add(router: Router<EdgeState>) -> Router<EdgeState> {
    PLANNED.into_iter().fold(router, |router, (method, path)| router.route(path, on(method, answer)))
}

async fn answer() -> Refusal {
    Refusal::not_supported("This route")
}
