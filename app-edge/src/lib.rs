//! The edge: one HTTP router for both homes, and the API's resources.
//!
//! [`resource`] is what goes over the wire; programs that speak the API use the same types.
#![forbid(unsafe_code)]

pub mod resource;
