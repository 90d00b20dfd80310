//! The way out of a machine: an HTTP proxy of the server, one socket per machine.

#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod policy;
mod proxy;

pub use policy::{Cidr, InvalidCidr};
pub(super) use proxy::{Egress, serve};
