use axum::extract::{Request, State};
use axum::response::Response;
use burstflare_core::ControlPlane;
use burstflare_core::domain::permission::Action;

use crate::attached::{Attached, connect};
use crate::extract::{Authenticated, OptionalJson, Params, created, nothing, ok};
use crate::problem::{Answer, Refusal};
use crate::query::Query;
use crate::resource::{CreateTerminal, Page, Terminal};
use crate::state::EdgeState;
use crate::table::{Accepts, Access, Table};

pub(super) fn table(table: Table) -> Table {
    let attach = Access::Bearer(Action::SessionAttach);
    table
        .add(__path_list, attach, Accepts::Nothing, list)
        .add(__path_create, attach, Accepts::OptionalJson, create)
        .add(__path_close, attach, Accepts::Nothing, close)
        // The ticket is the permission, as for SSH.
        .add(__path_view, Access::Counted(10), Accepts::Nothing, view)
}

/// The terminals of a running session, the oldest first, in one page.
#[utoipa::path(get, path = "/api/v1/sessions/{session}/terminals", tag = "terminals",
    params(("session" = String, Path, description = "Id or name of the session")),
    responses((status = 200, body = Page<Terminal>)))]
async fn list(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    Params(session): Params<String>,
) -> Answer<Response> {
    let found = plane.terminals(&caller, &session).await?;
    let now = plane.ports().clock.now();
    let items = found.into_iter().map(|one| Terminal::new(one, now)).collect();
    ok(&Page { items, next_cursor: None })
}

/// Make a terminal: a login shell, or a program. It lives until its program ends, with or without viewers.
#[utoipa::path(post, path = "/api/v1/sessions/{session}/terminals", tag = "terminals",
    params(("session" = String, Path, description = "Id or name of the session")),
    request_body(content = Option<CreateTerminal>), responses((status = 201, body = Terminal)))]
async fn create(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    Params(session): Params<String>,
    OptionalJson(wish): OptionalJson<CreateTerminal>,
) -> Answer<Response> {
    let made = plane.create_terminal(&caller, &session, &wish.into()).await?;
    created(&Terminal::new(made, plane.ports().clock.now()))
}

/// Hang up a terminal's programs and forget it.
#[utoipa::path(delete, path = "/api/v1/sessions/{session}/terminals/{terminal}", tag = "terminals",
    params(
        ("session" = String, Path, description = "Id or name of the session"),
        ("terminal" = u32, Path, description = "The terminal")
    ),
    responses((status = 204)))]
async fn close(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    Params((session, terminal)): Params<(String, String)>,
) -> Answer<Response> {
    plane.close_terminal(&caller, &session, number(&terminal)?).await?;
    nothing()
}

/// Look at a terminal over a WebSocket, and type. Binary messages are bytes, text messages JSON: say `hello` first.
#[utoipa::path(get, path = "/api/v1/sessions/{session}/terminals/{terminal}", tag = "terminals",
    params(
        ("session" = String, Path, description = "Id or name of the session"),
        ("terminal" = u32, Path, description = "The terminal"),
        ("ticket" = String, Query, description = "A ticket from `attach` with the purpose `terminal`")
    ),
    responses((status = 101, description = "The view is open")))]
async fn view(
    State(state): State<EdgeState>,
    Params((session, terminal)): Params<(String, String)>,
    query: Query,
    request: Request,
) -> Answer<Response> {
    connect(&state, &session, Attached::Terminal(number(&terminal)?), query, request).await
}

fn number(terminal: &str) -> Answer<u32> {
    terminal.parse().map_err(|_| Refusal::invalid("terminal", "a terminal is named by a number"))
}
