use axum::extract::{Request, State};
use axum::response::Response;
use burstflare_core::domain::permission::Action;
use burstflare_core::service::{Attach, PreviewPlace};
use burstflare_ports::record::TicketPurpose;

use crate::attached;
use crate::extract::{Authenticated, Json, Params, created};
use crate::preview::{ENTER, PreviewHost};
use crate::problem::{Answer, Refusal};
use crate::query::Query;
use crate::resource::{AttachRequest, Attached};
use crate::state::EdgeState;
use crate::table::{Accepts, Access, Table};

pub(super) fn table(table: Table) -> Table {
    table
        .add(__path_attach, Access::Bearer(Action::SessionAttach), Accepts::Json, attach)
        // The ticket is the permission. Many people may sit behind one address, and each connection is a call.
        .add(__path_ssh, Access::Counted(10), Accepts::Nothing, ssh)
}

/// Get a single-use ticket into a running session; one that is being started is waited for.
#[utoipa::path(post, path = "/api/v1/sessions/{session}/attach", tag = "sessions",
    params(("session" = String, Path, description = "Id or name of the session")),
    request_body = AttachRequest, responses((status = 201, body = Attached)))]
async fn attach(
    State(state): State<EdgeState>,
    Authenticated(caller): Authenticated,
    Params(session): Params<String>,
    Json(wish): Json<AttachRequest>,
) -> Answer<Response> {
    let (plane, purpose, port) = (&state.plane, wish.purpose, wish.port.unwrap_or_default());
    if purpose == TicketPurpose::Preview && state.config.previews.is_none() {
        return Err(Refusal::no_previews());
    }
    let wish = Attach { purpose, ssh_key: wish.ssh_key, port: wish.port };
    let attachment = plane.attach(&caller, &session, wish).await?;
    let id = attachment.session.id;
    let place = PreviewPlace { session: id, port };
    let host = PreviewHost::of(&state.config, place).filter(|_| purpose == TicketPurpose::Preview);
    let session = super::session::resource(plane, attachment.session);
    created(&Attached {
        ticket: attachment.ticket,
        expires_at: attachment.expires_at,
        url_path: match purpose {
            TicketPurpose::Ssh => format!("/api/v1/sessions/{id}/ssh"),
            TicketPurpose::Terminal => format!("/api/v1/sessions/{id}/terminals"),
            TicketPurpose::Exec => format!("/api/v1/sessions/{id}/exec"),
            TicketPurpose::Preview => ENTER.to_owned(),
            TicketPurpose::Forward => format!("/api/v1/sessions/{id}/ports/{port}/tcp"),
        },
        url: host.map(|host| format!("{}{ENTER}", host.origin())),
        ssh_host_key: session.ssh_host_key.clone(),
        session,
    })
}

/// An SSH connection over a WebSocket: binary messages carry the stream.
#[utoipa::path(get, path = "/api/v1/sessions/{session}/ssh", tag = "sessions",
    params(
        ("session" = String, Path, description = "Id or name of the session"),
        ("ticket" = String, Query, description = "A ticket from `attach`")
    ),
    responses((status = 101, description = "The connection is open")))]
async fn ssh(
    State(state): State<EdgeState>,
    Params(session): Params<String>,
    query: Query,
    request: Request,
) -> Answer<Response> {
    attached::connect(&state, &session, attached::Attached::Ssh, query, request).await
}
