use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{Html, IntoResponse, Response};

use crate::home;
use crate::state::EdgeState;
use crate::table::{Accepts, Access, Table};

/// A browser asks again after so long; assets have no other name for every version.
const FRESH: &str = "public, max-age=300";

pub(super) fn table(table: Table) -> Table {
    table
        .add(__path_index, Access::Public, Accepts::Nothing, index)
        .add(__path_style, Access::Public, Accepts::Nothing, style)
        .add(__path_script, Access::Public, Accepts::Nothing, script)
        .add(__path_icon, Access::Public, Accepts::Nothing, icon)
}

/// The home page.
#[utoipa::path(get, path = "/", tag = "pages",
    responses((status = 200, body = String, content_type = "text/html")))]
async fn index(State(state): State<EdgeState>) -> Html<String> {
    let runtime = state.plane.ports().runtime.profile();
    Html(home::page(&state.config, state.plane.config().registration, &runtime))
}

/// The pages' style.
#[utoipa::path(get, path = "/assets/app.css", tag = "pages",
    responses((status = 200, body = String, content_type = "text/css")))]
async fn style() -> Response {
    stylesheet()
}

/// The pages' script.
#[utoipa::path(get, path = "/assets/app.js", tag = "pages",
    responses((status = 200, body = String, content_type = "text/javascript")))]
async fn script() -> Response {
    asset("text/javascript; charset=utf-8", include_str!("../../assets/app.js"))
}

/// The pages' icon.
#[utoipa::path(get, path = "/assets/flare.svg", tag = "pages",
    responses((status = 200, body = String, content_type = "image/svg+xml")))]
async fn icon() -> Response {
    emblem()
}

/// [`style`], for our pages on other hosts, too.
pub(crate) fn stylesheet() -> Response {
    asset("text/css; charset=utf-8", include_str!("../../assets/app.css"))
}

/// [`icon`], likewise.
pub(crate) fn emblem() -> Response {
    asset("image/svg+xml", include_str!("../../assets/flare.svg"))
}

fn asset(media_type: &'static str, text: &'static str) -> Response {
    ([(CONTENT_TYPE, media_type), (CACHE_CONTROL, FRESH)], text).into_response()
}
