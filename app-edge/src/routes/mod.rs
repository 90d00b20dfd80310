//! Endpoints, one file per aggregate. Each handler parses, calls one use case, and answers a resource.

mod account;
mod attach;
mod audit;
mod build;
mod event;
mod exec;
mod file;
mod health;
mod metrics;
mod page;
mod planned;
mod port;
mod release;
mod secret;
mod session;
mod snapshot;
mod template;
mod terminal;
mod token;
mod version;
mod workspace;

use axum::http::StatusCode;

pub(crate) use self::page::{emblem, stylesheet};
use crate::problem::Refusal;
use crate::table::Table;

/// The table of all endpoints.
pub(crate) fn table() -> Table {
    Table::default()
        .with(page::table)
        .with(health::table)
        .with(account::table)
        .with(token::table)
        .with(workspace::table)
        .with(template::table)
        .with(version::table)
        .with(build::table)
        .with(release::table)
        .with(session::table)
        .with(attach::table)
        .with(exec::table)
        .with(terminal::table)
        .with(file::table)
        .with(metrics::table)
        .with(port::table)
        .with(snapshot::table)
        .with(secret::table)
        .with(event::table)
        .with(audit::table)
}

pub use build::{LOG_ATTEMPT, LOG_COMPLETE, LOG_NEXT};

/// Routes that are planned and answer so.
pub(crate) use planned::add as add_planned;

/// No such route.
pub(crate) async fn no_route() -> Refusal {
    Refusal::http(
        StatusCode::NOT_FOUND,
        "no_route",
        "There is nothing at this path.",
        "The routes are listed at /api/v1/openapi.json.",
    )
}

/// A route, but not with this method.
pub(crate) async fn no_method() -> Refusal {
    Refusal::http(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "This route does not know that method.",
        "The header Allow names the methods; /api/v1/openapi.json describes them.",
    )
}
