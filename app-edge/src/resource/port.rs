use burstflare_core::service::PortView;
use burstflare_ports::record::Visibility;
use burstflare_ports::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::schema::VisibilityWord;

/// A port of a session: one that is open, in the manifest, or spoken of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Port {
    /// The port.
    pub port: u16,
    /// The manifest's name for it.
    pub name: Option<String>,
    /// Whether something listens now.
    pub open: bool,
    /// What, where that is known.
    pub process: Option<String>,
    /// Who may look at it now.
    #[schema(value_type = VisibilityWord)]
    pub visibility: Visibility,
    /// When that ends by itself; then the manifest's word counts, else `private`.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// Where browsers find its preview; null where this deployment has no previews.
    pub url: Option<String>,
}

impl Port {
    /// The resource of a view.
    #[must_use]
    pub fn new(view: PortView, url: Option<String>) -> Self {
        let PortView { port, name, open, process, visibility, expires_at } = view;
        Self { port, name, open, process, visibility, expires_at, url }
    }
}

/// The ports of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PortList {
    /// The lowest port first.
    pub items: Vec<Port>,
    /// Always null: a session has few ports.
    pub next_cursor: Option<String>,
}

/// Says who may look at a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetPortRequest {
    /// Who.
    #[schema(value_type = VisibilityWord)]
    pub visibility: Visibility,
    /// Until when; for good where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
}

/// Who may look at a port from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PortVisibility {
    /// The port.
    pub port: u16,
    /// Who.
    #[schema(value_type = VisibilityWord)]
    pub visibility: Visibility,
    /// Until when.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// Where browsers find its preview.
    pub url: Option<String>,
}
