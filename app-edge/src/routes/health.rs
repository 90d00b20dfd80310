use std::collections::BTreeMap;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use burstflare_ports::blob::BlobKey;
use burstflare_ports::error::PortResult;
use futures_util::future::{Either, join3, select};
use futures_util::pin_mut;

use crate::config::ClientAddress;
use crate::extract::{json, ok};
use crate::guard::Site;
use crate::openapi;
use crate::problem::Answer;
use crate::resource::{Health, Probe, Ready, Runtime, Server};
use crate::state::EdgeState;
use crate::table::{Accepts, Access, Table};

/// A dependency that takes longer is not ready.
const DEADLINE: Duration = Duration::from_secs(5);

pub(super) fn table(table: Table) -> Table {
    table
        .add(__path_healthz, Access::Public, Accepts::Nothing, healthz)
        .add(__path_readyz, Access::Public, Accepts::Nothing, readyz)
        .add(__path_metrics, Access::Public, Accepts::Nothing, metrics)
        .add(__path_server, Access::Public, Accepts::Nothing, server)
        .add(__path_document, Access::Public, Accepts::Nothing, document)
}

/// The server answers.
#[utoipa::path(get, path = "/healthz", tag = "server", responses((status = 200, body = Health)))]
async fn healthz(State(state): State<EdgeState>) -> Answer<Response> {
    ok(&Health { status: "ok".to_owned(), version: state.config.version.clone() })
}

/// The server can work: each dependency was asked just now.
#[utoipa::path(get, path = "/readyz", tag = "server",
    responses((status = 200, body = Ready), (status = 503, body = Ready)))]
async fn readyz(State(state): State<EdgeState>) -> Answer<Response> {
    let ports = state.plane.ports();
    let blobs = async {
        match "readyz/probe".parse::<BlobKey>() {
            Ok(key) => ports.blobs.head(&key).await.map(drop),
            Err(_) => Ok(()),
        }
    };
    let machines = async { ports.runtime.list(None, 1).await.map(drop) };
    let (store, blobs, machines) = join3(
        probe(&state, "store", ports.store.ping()),
        probe(&state, "blobs", blobs),
        probe(&state, "machines", machines),
    )
    .await;
    let probes = BTreeMap::from([store, blobs, machines]);
    let ready = probes.values().all(|probe| probe.ok);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok(json(status, &Ready { ready, probes }))
}

async fn probe(
    state: &EdgeState,
    name: &'static str,
    ask: impl Future<Output = PortResult<()>> + Send,
) -> (String, Probe) {
    let late = state.plane.ports().clock.sleep(DEADLINE);
    pin_mut!(ask);
    let problem = match select(ask, late).await {
        Either::Left((Ok(()), _)) => None,
        Either::Left((Err(error), _)) => {
            tracing::warn!(name, ?error, "a dependency is not ready");
            Some(format!("{:?}", error.kind()).to_lowercase())
        }
        Either::Right(_) => Some("timeout".to_owned()),
    };
    (name.to_owned(), Probe { ok: problem.is_none(), problem })
}

/// Counters for Prometheus. Answered to this machine alone.
#[utoipa::path(get, path = "/metrics", tag = "server",
    responses((status = 200, body = String, content_type = "text/plain")))]
async fn metrics(
    State(state): State<EdgeState>,
    Extension(site): Extension<Site>,
    request: Request,
) -> Answer<Response> {
    let address = request.extensions().get::<ClientAddress>().map(|address| address.0);
    let local = matches!(site, Site::Loopback { .. }) && address.is_none_or(|address| address.is_loopback());
    if !local {
        // As if it were not there: what is counted is nobody else's business.
        return Err(super::no_route().await);
    }
    let text = state.metrics.render(&state.config.version);
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}

/// What a visitor may know of this server.
#[utoipa::path(get, path = "/api/v1/server", tag = "server", responses((status = 200, body = Server)))]
async fn server(State(state): State<EdgeState>) -> Answer<Response> {
    ok(&Server {
        version: state.config.version.clone(),
        registration: state.plane.config().registration.name().to_owned(),
        runtime: Runtime::from(state.plane.ports().runtime.profile()),
    })
}

/// This document.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "server",
    responses((status = 200, body = serde_json::Value)))]
async fn document() -> Response {
    ([(CONTENT_TYPE, "application/json")], openapi::text()).into_response()
}
