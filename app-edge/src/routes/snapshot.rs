use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use burstflare_core::ControlPlane;
use burstflare_core::domain::permission::Action;
use burstflare_core::service::{DiffQuery, Fork};
use burstflare_ports::record::{Sharing, SnapshotState};

use crate::cursor::Listing;
use crate::extract::{Authenticated, Json, OptionalJson, Params, created, json, nothing, ok};
use crate::problem::Answer;
use crate::query::Query;
use crate::resource::{
    ChangeSnapshot, CreateSnapshot, Diff, ForkSession, ListQuery, Page, RestoreSnapshot, Session, Snapshot,
};
use crate::table::{Accepts, Access, Table};

/// How long a request waits for its snapshot before it answers what there is.
const PATIENCE: Duration = Duration::from_secs(5);
/// Differences of a page unless asked otherwise.
const DIFFERENCES: usize = 200;

pub(super) fn table(table: Table) -> Table {
    let (read, control) = (Access::Bearer(Action::Read), Access::Bearer(Action::SessionControl));
    // A snapshot's contents are the machine's: who may not get in may not see them.
    let enter = Access::Bearer(Action::SessionAttach);
    table
        .add(__path_list, read, Accepts::Nothing, list)
        .add(__path_create, control, Accepts::OptionalJson, create)
        .add(__path_show, read, Accepts::Nothing, show)
        .add(__path_change, control, Accepts::Json, change)
        .add(__path_delete, Access::Bearer(Action::SessionManage), Accepts::Nothing, delete)
        .add(__path_restore, control, Accepts::OptionalJson, restore)
        .add(__path_diff, enter, Accepts::Nothing, diff)
        .add(__path_fork, enter, Accepts::Json, fork)
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

/// Take a snapshot of a running session. 202 when it takes longer than some seconds; events tell its end.
#[utoipa::path(post, path = "/api/v1/sessions/{session}/snapshots", tag = "snapshots",
    params(("session" = String, Path, description = "Id or name of the session")),
    request_body(content = Option<CreateSnapshot>),
    responses((status = 201, body = Snapshot), (status = 202, body = Snapshot)))]
async fn create(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    Params(session): Params<String>,
    OptionalJson(wish): OptionalJson<CreateSnapshot>,
) -> Answer<Response> {
    let wanted = plane.create_snapshot(&caller, &session, wish.label).await?;
    let found = plane.await_snapshot(&caller, wanted.id, PATIENCE).await?;
    let status =
        if found.state == SnapshotState::Pending { StatusCode::ACCEPTED } else { StatusCode::CREATED };
    Ok(json(status, &Snapshot::from(found)))
}

/// A snapshot.
#[utoipa::path(get, path = "/api/v1/snapshots/{snapshot}", tag = "snapshots",
    params(("snapshot" = String, Path, description = "Id of the snapshot, or its label where it alone has it")),
    responses((status = 200, body = Snapshot)))]
async fn show(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    Params(snapshot): Params<String>,
) -> Answer<Response> {
    ok(&Snapshot::from(plane.snapshot(&caller, &snapshot).await?))
}

/// Name a snapshot, or take its name away.
#[utoipa::path(patch, path = "/api/v1/snapshots/{snapshot}", tag = "snapshots",
    params(("snapshot" = String, Path, description = "Id or label of the snapshot")),
    request_body = ChangeSnapshot, responses((status = 200, body = Snapshot)))]
async fn change(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    Params(snapshot): Params<String>,
    Json(wish): Json<ChangeSnapshot>,
) -> Answer<Response> {
    ok(&Snapshot::from(plane.label_snapshot(&caller, &snapshot, wish.label).await?))
}

/// Delete a snapshot. What others share with it stays.
#[utoipa::path(delete, path = "/api/v1/snapshots/{snapshot}", tag = "snapshots",
    params(("snapshot" = String, Path, description = "Id or label of the snapshot")),
    responses((status = 204)))]
async fn delete(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    Params(snapshot): Params<String>,
) -> Answer<Response> {
    plane.delete_snapshot(&caller, &snapshot).await?;
    nothing()
}

/// Give a session the files of one of its snapshots. A running one is snapshotted and ended first; then it starts.
#[utoipa::path(post, path = "/api/v1/snapshots/{snapshot}/restore", tag = "snapshots",
    params(("snapshot" = String, Path, description = "Id or label of the snapshot")),
    request_body(content = Option<RestoreSnapshot>), responses((status = 202, body = Session)))]
async fn restore(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    Params(snapshot): Params<String>,
    OptionalJson(wish): OptionalJson<RestoreSnapshot>,
) -> Answer<Response> {
    let session = plane.restore_snapshot(&caller, &snapshot, wish.discard_unsaved).await?;
    Ok(json(StatusCode::ACCEPTED, &super::session::resource(&plane, session)))
}

/// What a snapshot has that an earlier one has not, and the other way round.
#[utoipa::path(get, path = "/api/v1/snapshots/{snapshot}/diff", tag = "snapshots",
    params(("snapshot" = String, Path, description = "Id or label of the snapshot"),
        ("against" = Option<String>, Query, description = "Id or label of the earlier one; its parent unless asked otherwise"),
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 1000, description = "How many at most; 200 unless asked otherwise"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before")),
    responses((status = 200, body = Diff)))]
async fn diff(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    Params(snapshot): Params<String>,
    mut query: Query,
) -> Answer<Response> {
    let against = query.text("against")?;
    let limit = query.number("limit")?.unwrap_or(DIFFERENCES);
    // What is compared cannot change, so a number of differences is a place in their list.
    let listing =
        Listing::new(&caller, &format!("diff/{snapshot}/{}", against.as_deref().unwrap_or_default()));
    let skip = query.text("cursor")?.map(|text| listing.read(&text)).transpose()?.unwrap_or(0);
    query.finish()?;
    let found = plane.diff_snapshots(&caller, &snapshot, DiffQuery { against, skip, limit }).await?;
    let page = listing.page(found.list.clone());
    ok(&Diff::new(&found, page))
}

/// Make a session with the files of a snapshot of another one, and begin its start. Nothing is copied.
#[utoipa::path(post, path = "/api/v1/sessions/{session}/fork", tag = "sessions",
    params(("session" = String, Path, description = "Id or name of the origin")),
    request_body = ForkSession, responses((status = 201, body = Session)))]
async fn fork(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    Params(session): Params<String>,
    Json(wish): Json<ForkSession>,
) -> Answer<Response> {
    let sharing = wish.sharing.unwrap_or(Sharing::Private);
    let wish = Fork { name: wish.name, snapshot: wish.snapshot, sharing };
    let forked = plane.fork_session(&caller, &session, wish).await?;
    created(&super::session::resource(&plane, forked))
}
