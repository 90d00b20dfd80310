//! The edge: one HTTP router for both homes, and the API's resources.
//!
//! [`router()`] answers for a `burstflare_core::ControlPlane`; [`resource`] is what goes over the wire, and programs that
//! speak the API use the same types. From the outside in, a request passes
//!
//! 1. the envelope: its name, panics, problem documents, headers of every answer, counters;
//! 2. the guard: is the host ours, does a page of somebody else's ask;
//! 3. the gate of its route, from the table of routes: rate, token, permission, media type, size;
//! 4. the handler: parse, one use case, a resource.
//!
//! To add an endpoint: write the resource, write the handler with its `#[utoipa::path]` in the aggregate's file below
//! `routes`, add it to that file's `table` with its access and body, and run the tests with `UPDATE_GOLDEN=1` for the
//! OpenAPI document.
#![forbid(unsafe_code)]

mod attached;
mod body;
mod config;
mod cursor;
mod envelope;
mod extract;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod gate;
mod guard;
#[cfg(feature = "harness")]
pub mod harness;
mod home;
mod metrics;
pub mod openapi;
mod preview;
mod problem;
mod query;
pub mod resource;
mod router;
mod routes;
#[cfg(feature = "native")]
pub mod serve;
mod state;
mod table;
mod tunnel;
#[cfg(feature = "worker")]
pub mod worker;

pub use config::{ClientAddress, EdgeConfig, Forwarded, InvalidOrigin, LoopbackRate, Origin};
pub use envelope::REQUEST_ID;
pub use preview::{InvalidPreviewDomain, PreviewDomain};
pub use problem::PROBLEM_JSON;
pub use router::{endpoints, router};
pub use routes::{LOG_ATTEMPT, LOG_COMPLETE, LOG_NEXT};
pub use table::{Accepts, Access, Endpoint};

/// The examples of the root README are compiled and run with the documentation's.
#[cfg(all(doctest, feature = "harness"))]
#[doc = include_str!("../../README.md")]
pub struct Readme;
