//! The OpenAPI document, made of the table of routes.

use std::sync::LazyLock;

use bytes::Bytes;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, PathsBuilder,
    RefOr, ResponseBuilder,
};

use crate::problem::PROBLEM_JSON;
use crate::resource::Problem;
use crate::routes;
use crate::table::{Access, Endpoint, Table, schema_ref};

/// The name of the one security scheme.
const BEARER: &str = "bearer";

static TEXT: LazyLock<Bytes> = LazyLock::new(|| {
    let mut text = serde_json::to_vec_pretty(&document()).unwrap_or_default();
    text.push(b'\n');
    text.into()
});

/// The document as JSON, as it is served and committed.
#[must_use]
pub fn text() -> Bytes {
    TEXT.clone()
}

/// The document.
#[must_use]
pub fn document() -> OpenApi {
    let Table { endpoints, operations, mut schemas, .. } = routes::table();
    schemas.push((
        <Problem as utoipa::ToSchema>::name().into_owned(),
        <Problem as utoipa::PartialSchema>::schema(),
    ));
    let mut paths = PathsBuilder::new();
    for ((method, mut operation), endpoint) in operations.into_iter().zip(&endpoints) {
        complete(&mut operation, endpoint);
        paths = paths.path(endpoint.path.clone(), PathItem::new(method, operation));
    }
    let mut components = ComponentsBuilder::new().security_scheme(
        BEARER,
        SecurityScheme::Http(
            HttpBuilder::new()
                .scheme(HttpAuthScheme::Bearer)
                .description(Some("An access token or a personal token."))
                .build(),
        ),
    );
    for (name, schema) in schemas {
        components = components.schema(name, schema);
    }
    OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("BurstFlare")
                .description(Some(
                    "A control plane for disposable development workspaces. Errors are problem documents (RFC 9457) \
                     with a stable `code`. Ids, and names where they exist, are accepted alike.",
                ))
                .version(env!("CARGO_PKG_VERSION"))
                .license(Some(LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build()))
                .build(),
        )
        .paths(paths.build())
        .components(Some(components.build()))
        .build()
}

/// Adds what is the same everywhere: the id, the token, and what errors look like.
fn complete(operation: &mut Operation, endpoint: &Endpoint) {
    // Handlers are called `list` and `show` in every room; ids of operations are unique.
    let words: Vec<&str> = endpoint
        .path
        .trim_start_matches("/api/v1")
        .split(['/', '{', '}', '.', '-'])
        .filter(|word| !word.is_empty())
        .collect();
    let verb = endpoint.method.as_str().to_ascii_lowercase();
    operation.operation_id =
        Some(format!("{verb}_{}", if words.is_empty() { "home".into() } else { words.join("_") }));
    if matches!(endpoint.access, Access::Bearer(_)) {
        operation.security = Some(vec![SecurityRequirement::new(BEARER, Vec::<String>::new())]);
    }
    let problem = ResponseBuilder::new()
        .description("What went wrong, and what to do")
        .content(PROBLEM_JSON, ContentBuilder::new().schema(Some(schema_ref("Problem"))).build())
        .build();
    operation.responses.responses.insert("default".to_owned(), RefOr::T(problem));
}
