use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use burstflare_core::ControlPlane;
use burstflare_core::domain::permission::Action;

use crate::cursor::Listing;
use crate::extract::{Authenticated, Params, ok};
use crate::problem::Answer;
use crate::query::Query;
use crate::resource::{Build, ListQuery, Page};
use crate::table::{Accepts, Access, Table};

/// Where the next read of a log begins.
pub const LOG_NEXT: &str = "flare-log-next";
/// Which attempt's log it is.
pub const LOG_ATTEMPT: &str = "flare-log-attempt";
/// `true` when nothing will follow.
pub const LOG_COMPLETE: &str = "flare-log-complete";

pub(super) fn table(table: Table) -> Table {
    let (read, manage) = (Access::Bearer(Action::Read), Access::Bearer(Action::TemplateManage));
    table
        .add(__path_list, read, Accepts::Nothing, list)
        .add(__path_show, read, Accepts::Nothing, show)
        .add(__path_log, read, Accepts::Nothing, log)
        .add(__path_retry, manage, Accepts::Nothing, retry)
        .add(__path_cancel, manage, Accepts::Nothing, cancel)
}

/// The builds of the workspace.
#[utoipa::path(get, path = "/api/v1/builds", tag = "builds", params(ListQuery),
    responses((status = 200, body = Page<Build>)))]
async fn list(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    mut query: Query,
) -> Answer<Response> {
    let listing = Listing::new(&caller, "builds");
    let page = listing.query(&mut query)?;
    query.finish()?;
    ok(&listing.page::<_, Build, _>(plane.builds(&caller, page).await?))
}

/// A build.
#[utoipa::path(get, path = "/api/v1/builds/{build}", tag = "builds",
    params(("build" = String, Path, description = "Id of the build")), responses((status = 200, body = Build)))]
async fn show(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    Params(build): Params<String>,
) -> Answer<Response> {
    ok(&Build::from(plane.build(&caller, &build).await?))
}

/// A part of a build's log. Read on from the offset in `Flare-Log-Next` until `Flare-Log-Complete` is `true`.
#[utoipa::path(get, path = "/api/v1/builds/{build}/log", tag = "builds",
    params(
        ("build" = String, Path, description = "Id of the build"),
        ("offset" = Option<u64>, Query, description = "Where to begin, in bytes"),
        ("attempt" = Option<u32>, Query, description = "Which attempt's log; the newest unless asked otherwise")
    ),
    responses((status = 200, body = String, content_type = "text/plain", headers(
        ("flare-log-next" = u64, description = "Where to read on"),
        ("flare-log-attempt" = u32, description = "Whose log it is"),
        ("flare-log-complete" = bool, description = "Whether nothing will follow")
    ))))]
async fn log(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    Params(build): Params<String>,
    mut query: Query,
) -> Answer<Response> {
    let offset = query.number("offset")?.unwrap_or(0);
    let attempt = query.number("attempt")?;
    query.finish()?;
    let part = plane.build_log(&caller, &build, attempt, offset).await?;
    let headers = [
        (CONTENT_TYPE.as_str(), "text/plain; charset=utf-8".to_owned()),
        (LOG_NEXT, part.next.to_string()),
        (LOG_ATTEMPT, part.attempt.to_string()),
        (LOG_COMPLETE, part.complete.to_string()),
    ];
    Ok((headers, part.bytes).into_response())
}

/// Try a failed or cancelled build again.
#[utoipa::path(post, path = "/api/v1/builds/{build}/retry", tag = "builds",
    params(("build" = String, Path, description = "Id of the build")), responses((status = 200, body = Build)))]
async fn retry(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    Params(build): Params<String>,
) -> Answer<Response> {
    ok(&Build::from(plane.retry_build(&caller, &build).await?))
}

/// End a build that waits or runs.
#[utoipa::path(post, path = "/api/v1/builds/{build}/cancel", tag = "builds",
    params(("build" = String, Path, description = "Id of the build")), responses((status = 200, body = Build)))]
async fn cancel(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    Params(build): Params<String>,
) -> Answer<Response> {
    ok(&Build::from(plane.cancel_build(&caller, &build).await?))
}
