//! The router, and what goes over its table.

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::middleware::from_fn_with_state;
use burstflare_core::ControlPlane;

use crate::config::EdgeConfig;
use crate::metrics::Metrics;
use crate::state::EdgeState;
use crate::table::{Endpoint, Table};
use crate::{envelope, guard, routes};

/// Made once: a Worker makes a router for each request, and the descriptions of all endpoints take their time.
static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let mut table = routes::table();
    table.router = routes::add_planned(table.router)
        .fallback(routes::no_route)
        .method_not_allowed_fallback(routes::no_method);
    table
});

/// The whole API and the pages, for either host.
pub fn router(plane: ControlPlane, config: EdgeConfig) -> Router {
    let metrics = Arc::new(Metrics::new(&TABLE.endpoints));
    let state = EdgeState {
        plane,
        config: Arc::new(config),
        metrics,
        preview_places: crate::preview::Places::default(),
        #[cfg(feature = "native")]
        tunnels: crate::tunnel::Tunnels::default(),
    };
    let router = TABLE.router.clone();
    router
        .layer(from_fn_with_state(state.clone(), guard::guard))
        .layer(from_fn_with_state(state.clone(), envelope::envelop))
        .with_state(state)
}

/// Every endpoint: for documents, and for tests that go over all of them.
#[must_use]
pub fn endpoints() -> Vec<Endpoint> {
    TABLE.endpoints.iter().map(|endpoint| Endpoint::clone(endpoint)).collect()
}
