//! The router, and what goes over its table.

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use burstflare_core::ControlPlane;

use crate::config::EdgeConfig;
use crate::metrics::Metrics;
use crate::state::EdgeState;
use crate::table::Endpoint;
use crate::{envelope, guard, routes};

/// The whole API and the pages, for either host.
pub fn router(plane: ControlPlane, config: EdgeConfig) -> Router {
    let table = routes::table();
    let metrics = Arc::new(Metrics::new(&table.endpoints));
    let state = EdgeState {
        plane,
        config: Arc::new(config),
        metrics,
        #[cfg(feature = "native")]
        tunnels: crate::tunnel::Tunnels::default(),
    };
    routes::add_planned(table.router)
        .fallback(routes::no_route)
        .method_not_allowed_fallback(routes::no_method)
        .layer(from_fn_with_state(state.clone(), guard::guard))
        .layer(from_fn_with_state(state.clone(), envelope::envelop))
        .with_state(state)
}

/// Every endpoint: for documents, and for tests that go over all of them.
#[must_use]
pub fn endpoints() -> Vec<Endpoint> {
    routes::table().endpoints.iter().map(|endpoint| Endpoint::clone(endpoint)).collect()
}
