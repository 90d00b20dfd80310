use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use burstflare_core::ControlPlane;
use burstflare_core::domain::permission::Action;
use burstflare_core::service::{List, NewSession, SessionChange};
use burstflare_ports::record::{self, Sharing};

use crate::cursor::Listing;
use crate::extract::{Authenticated, Json, OptionalJson, Params, created, json, ok};
use crate::problem::{Answer, Refusal};
use crate::query::Query;
use crate::resource::{
    ChangeSession, CreateSession, Idle, ListQuery, Page, RestartRequest, Runtime, Session, Warning,
};
use crate::table::{Accepts, Access, Table};

pub(super) fn table(table: Table) -> Table {
    let (read, control) = (Access::Bearer(Action::Read), Access::Bearer(Action::SessionControl));
    table
        .add(__path_list, read, Accepts::Nothing, list)
        .add(__path_create, Access::Bearer(Action::SessionCreate), Accepts::Json, create)
        .add(__path_show, read, Accepts::Nothing, show)
        .add(__path_change, Access::Bearer(Action::SessionManage), Accepts::Json, change)
        .add(__path_delete, Access::Bearer(Action::SessionManage), Accepts::Nothing, delete)
        .add(__path_start, control, Accepts::Nothing, start)
        .add(__path_stop, control, Accepts::Nothing, stop)
        .add(__path_force_stop, control, Accepts::Nothing, force_stop)
        .add(__path_restart, control, Accepts::OptionalJson, restart)
}

/// The resource of a record.
pub(super) fn resource(plane: &ControlPlane, session: record::Session) -> Session {
    Session::new(session, Runtime::from(plane.ports().runtime.profile()), Vec::new())
}

/// The sessions of the workspace. Warnings are on the single session.
#[utoipa::path(get, path = "/api/v1/sessions", tag = "sessions", params(ListQuery),
    responses((status = 200, body = Page<Session>)))]
async fn list(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    mut query: Query,
) -> Answer<Response> {
    let listing = Listing::new(&caller, "sessions");
    let page = listing.query(&mut query)?;
    query.finish()?;
    let found = plane.sessions(&caller, page).await?;
    let runtime = Runtime::from(plane.ports().runtime.profile());
    let items = found.items.into_iter().map(|one| Session::new(one, runtime.clone(), Vec::new())).collect();
    ok(&listing.page::<_, Session, _>(List { items, next: found.next }))
}

/// Make a session of a template's current release and begin its start.
#[utoipa::path(post, path = "/api/v1/sessions", tag = "sessions", request_body = CreateSession,
    responses((status = 201, body = Session)))]
async fn create(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    Json(wish): Json<CreateSession>,
) -> Answer<Response> {
    let sharing = wish.sharing.unwrap_or(Sharing::Private);
    let wish = NewSession { name: wish.name, template: wish.template, sharing };
    let session = plane.create_session(&caller, wish).await?;
    created(&resource(&plane, session))
}

/// A session, with what its user should know.
#[utoipa::path(get, path = "/api/v1/sessions/{session}", tag = "sessions",
    params(("session" = String, Path, description = "Id or name of the session")),
    responses((status = 200, body = Session)))]
async fn show(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    Params(session): Params<String>,
) -> Answer<Response> {
    let view = plane.session(&caller, &session).await?;
    let mut session = resource(&plane, view.session);
    session.idle = view.idle.map(Idle::from);
    session.warnings = view.not_supported_yet.into_iter().map(Warning::not_supported_yet).collect();
    ok(&session)
}

/// Change a session's name, sharing or idle time.
#[utoipa::path(patch, path = "/api/v1/sessions/{session}", tag = "sessions",
    params(("session" = String, Path, description = "Id or name of the session")),
    request_body = ChangeSession, responses((status = 200, body = Session)))]
async fn change(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    Params(session): Params<String>,
    Json(wish): Json<ChangeSession>,
) -> Answer<Response> {
    let wish = SessionChange { name: wish.name, sharing: wish.sharing, sleep_after: wish.sleep_after };
    let session = plane.change_session(&caller, &session, wish).await?;
    ok(&resource(&plane, session))
}

/// Delete a session with its files and snapshots. The answer shows it on its way; then it is not found any more.
#[utoipa::path(delete, path = "/api/v1/sessions/{session}", tag = "sessions",
    params(("session" = String, Path, description = "Id or name of the session")),
    responses((status = 202, body = Session)))]
async fn delete(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    Params(session): Params<String>,
) -> Answer<Response> {
    let session = plane.delete_session(&caller, &session).await?;
    Ok(json(StatusCode::ACCEPTED, &resource(&plane, session)))
}

/// Start a session, or wake it. A stop that is under way is waited for.
#[utoipa::path(post, path = "/api/v1/sessions/{session}/start", tag = "sessions",
    params(("session" = String, Path, description = "Id or name of the session")),
    responses((status = 200, body = Session)))]
async fn start(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    Params(session): Params<String>,
) -> Answer<Response> {
    let session = plane.start_session(&caller, &session).await?;
    ok(&resource(&plane, session))
}

/// Put a session to sleep; its files are kept.
#[utoipa::path(post, path = "/api/v1/sessions/{session}/stop", tag = "sessions",
    params(("session" = String, Path, description = "Id or name of the session")),
    responses((status = 200, body = Session)))]
async fn stop(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    Params(session): Params<String>,
) -> Answer<Response> {
    let session = plane.stop_session(&caller, &session).await?;
    ok(&resource(&plane, session))
}

/// End a session's machine at once, without a snapshot: the way out when a start or stop hangs.
#[utoipa::path(post, path = "/api/v1/sessions/{session}/force-stop", tag = "sessions",
    params(("session" = String, Path, description = "Id or name of the session")),
    responses((status = 200, body = Session)))]
async fn force_stop(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    Params(session): Params<String>,
) -> Answer<Response> {
    let session = plane.force_stop_session(&caller, &session).await?;
    ok(&resource(&plane, session))
}

/// Begin a new life of a session's machine, with its files.
#[utoipa::path(post, path = "/api/v1/sessions/{session}/restart", tag = "sessions",
    params(("session" = String, Path, description = "Id or name of the session")),
    request_body(content = Option<RestartRequest>), responses((status = 200, body = Session)))]
async fn restart(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    Params(session): Params<String>,
    OptionalJson(wish): OptionalJson<RestartRequest>,
) -> Answer<Response> {
    if wish.upgrade {
        return Err(Refusal::not_supported("Restarting on a newer release"));
    }
    let session = plane.restart_session(&caller, &session).await?;
    ok(&resource(&plane, session))
}
