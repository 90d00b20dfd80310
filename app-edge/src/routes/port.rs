use axum::extract::{Request, State};
use axum::response::Response;
use burstflare_core::domain::permission::Action;
use burstflare_core::service::{PreviewPlace, SetPort};
use burstflare_ports::id::Id;
use burstflare_ports::record::Session;

use crate::attached::{Attached, connect};
use crate::config::EdgeConfig;
use crate::extract::{Authenticated, Json, Params, ok};
use crate::preview::{self, PreviewHost};
use crate::problem::{Answer, Refusal};
use crate::query::Query;
use crate::resource::{Port, PortList, PortVisibility, SetPortRequest};
use crate::state::EdgeState;
use crate::table::{Accepts, Access, Table};

pub(super) fn table(table: Table) -> Table {
    table
        .add(__path_list, Access::Bearer(Action::Read), Accepts::Nothing, list)
        .add(__path_set, Access::Bearer(Action::SessionManage), Accepts::Json, set)
        // The ticket is the permission.
        .add(__path_forward, Access::Counted(10), Accepts::Nothing, forward)
        .add(__path_entrance, Access::Public, Accepts::Nothing, entrance)
}

/// Where browsers find a preview.
pub(super) fn url(config: &EdgeConfig, session: Id<Session>, port: u16) -> Option<String> {
    PreviewHost::of(config, PreviewPlace { session, port }).map(|host| format!("{}/", host.origin()))
}

/// The ports of a session: open ones, those of the manifest, and those whose visibility was set.
#[utoipa::path(get, path = "/api/v1/sessions/{session}/ports", tag = "sessions",
    params(("session" = String, Path, description = "Id or name of the session")),
    responses((status = 200, body = PortList)))]
async fn list(
    State(state): State<EdgeState>,
    Authenticated(caller): Authenticated,
    Params(session): Params<String>,
    query: Query,
) -> Answer<Response> {
    query.finish()?;
    let (session, views) = state.plane.ports_of(&caller, &session).await?;
    let resource = |view: burstflare_core::service::PortView| {
        let url = url(&state.config, session.id, view.port);
        Port::new(view, url)
    };
    ok(&PortList { items: views.into_iter().map(resource).collect(), next_cursor: None })
}

/// Say who may look at a port of a session, for good or until a moment.
#[utoipa::path(put, path = "/api/v1/sessions/{session}/ports/{port}", tag = "sessions",
    params(
        ("session" = String, Path, description = "Id or name of the session"),
        ("port" = u16, Path, description = "The port")
    ),
    request_body = SetPortRequest, responses((status = 200, body = PortVisibility)))]
async fn set(
    State(state): State<EdgeState>,
    Authenticated(caller): Authenticated,
    Params((session, port)): Params<(String, u16)>,
    Json(wish): Json<SetPortRequest>,
) -> Answer<Response> {
    let wish = SetPort { visibility: wish.visibility, expires_at: wish.expires_at };
    let (session, set) = state.plane.set_port(&caller, &session, port, wish).await?;
    ok(&PortVisibility {
        port,
        visibility: set.visibility,
        expires_at: set.expires_at,
        url: url(&state.config, session.id, port),
    })
}

/// One TCP connection to a port, over a WebSocket: binary messages carry the bytes, an empty one ends its direction.
#[utoipa::path(get, path = "/api/v1/sessions/{session}/ports/{port}/tcp", tag = "sessions",
    params(
        ("session" = String, Path, description = "Id or name of the session"),
        ("port" = u16, Path, description = "The port"),
        ("ticket" = String, Query, description = "A ticket from `attach`")
    ),
    responses((status = 101, description = "The connection is open")))]
async fn forward(
    State(state): State<EdgeState>,
    Params((session, port)): Params<(String, u16)>,
    query: Query,
    request: Request,
) -> Answer<Response> {
    connect(&state, &session, Attached::Port(port), query, request).await
}

/// How to come into a preview: where browsers without its cookie are sent, whether or not there is such a session.
#[utoipa::path(get, path = "/previews/{session}/{port}", tag = "pages",
    params(
        ("session" = String, Path, description = "Id of the session"),
        ("port" = u16, Path, description = "The port")
    ),
    responses((status = 200, body = String, content_type = "text/html")))]
async fn entrance(Params((session, port)): Params<(String, u16)>) -> Answer<Response> {
    let session = session.parse().map_err(|_| Refusal::invalid("session", "that is no id of a session"))?;
    Ok(preview::entrance(PreviewPlace { session, port }))
}
