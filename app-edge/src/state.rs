use std::sync::Arc;

use burstflare_core::ControlPlane;

use crate::config::EdgeConfig;
use crate::metrics::Metrics;

/// What every handler has at hand. Cheap to clone.
#[derive(Clone)]
pub(crate) struct EdgeState {
    /// The use cases.
    pub(crate) plane: ControlPlane,
    /// How the edge is set up.
    pub(crate) config: Arc<EdgeConfig>,
    /// What is counted.
    pub(crate) metrics: Arc<Metrics>,
    /// Requests to previews.
    pub(crate) preview_places: crate::preview::Places,
    /// Connections that were upgraded.
    #[cfg(feature = "native")]
    pub(crate) tunnels: crate::tunnel::Tunnels,
}

impl axum::extract::FromRef<EdgeState> for ControlPlane {
    fn from_ref(state: &EdgeState) -> Self {
        state.plane.clone()
    }
}
