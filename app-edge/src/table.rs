//! The table of routes. Whoever adds an endpoint says in one place what it is: method and path (from its OpenAPI
//! description), who may call it, and what body it takes. Router, OpenAPI document, metrics and the tests that go over
//! every route are made of it.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::http::Method;
use axum::routing::{MethodFilter, on};
use burstflare_core::domain::permission::Action;
use utoipa::openapi::path::{HttpMethod, Operation};
use utoipa::openapi::{Ref, RefOr, Schema};

use crate::gate;
use crate::state::EdgeState;

/// Who may call an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody, uncounted: pages and probes.
    Public,
    /// Everybody, so many times the deployment's rate a minute from one address.
    Counted(u32),
    /// Who carries a token that allows this action.
    Bearer(Action),
}

/// What body an endpoint takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepts {
    /// None; one that comes is not read.
    Nothing,
    /// JSON.
    Json,
    /// JSON, or nothing.
    OptionalJson,
    /// A bundle.
    Archive,
    /// Bytes of any kind.
    Bytes,
}

/// One endpoint.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The method.
    pub method: Method,
    /// The path, with parameters in braces.
    pub path: String,
    /// Who may call it.
    pub access: Access,
    /// What body it takes.
    pub accepts: Accepts,
    /// Its place in the table.
    pub(crate) index: usize,
}

type Schemas = Vec<(String, RefOr<Schema>)>;

/// Collects endpoints.
#[derive(Default)]
pub(crate) struct Table {
    pub(crate) router: Router<EdgeState>,
    pub(crate) endpoints: Vec<Arc<Endpoint>>,
    pub(crate) operations: Vec<(HttpMethod, Operation)>,
    pub(crate) schemas: Schemas,
}

impl Table {
    /// Adds an endpoint; `_description` is what `#[utoipa::path]` made beside the handler.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a handler is cloned for each method, and given away like any other"
    )]
    pub(crate) fn add<P, H, T>(
        mut self,
        _description: P,
        access: Access,
        accepts: Accepts,
        handler: H,
    ) -> Self
    where
        P: utoipa::Path + utoipa::__dev::SchemaReferences,
        H: Handler<T, EdgeState> + Sync,
        T: 'static,
    {
        let path = P::path();
        for documented in P::methods() {
            let Some((method, filter)) = method_of(&documented) else { continue };
            let index = self.endpoints.len();
            let endpoint = Arc::new(Endpoint { method, path: path.clone(), access, accepts, index });
            self.endpoints.push(Arc::clone(&endpoint));
            self.operations.push((documented, P::operation()));
            let handler = handler.clone();
            let run = move |State(state): State<EdgeState>, request: Request| {
                gate::pass(state, Arc::clone(&endpoint), request, handler.clone())
            };
            self.router = self.router.route(&path, on(filter, run));
        }
        P::schemas(&mut self.schemas);
        self
    }

    /// Adds everything of another table.
    pub(crate) fn with(self, add: fn(Self) -> Self) -> Self {
        add(self)
    }
}

fn method_of(method: &HttpMethod) -> Option<(Method, MethodFilter)> {
    match method {
        HttpMethod::Get => Some((Method::GET, MethodFilter::GET)),
        HttpMethod::Post => Some((Method::POST, MethodFilter::POST)),
        HttpMethod::Put => Some((Method::PUT, MethodFilter::PUT)),
        HttpMethod::Patch => Some((Method::PATCH, MethodFilter::PATCH)),
        HttpMethod::Delete => Some((Method::DELETE, MethodFilter::DELETE)),
        _ => None,
    }
}

/// The reference to a schema of the document.
pub(crate) fn schema_ref(name: &str) -> RefOr<Schema> {
    RefOr::Ref(Ref::from_schema_name(name))
}
