//! The narrow waist of BurstFlare: typed ids, plain records, small async traits and the agent's wire messages.
//!
//! An author of an adapter reads this crate and no other. Nothing here names a technology, reads a clock or the
//! environment, or decides anything: deciding is `burstflare-core`'s, doing is the adapters'.
#![forbid(unsafe_code)]

pub mod actor;
pub mod blob;
pub mod cache;
pub mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod drive;
pub mod error;
pub mod feed;
pub mod id;
pub mod limit;
pub mod machine;
pub mod mail;
#[cfg(feature = "memory")]
pub mod memory;
pub mod queue;
pub mod record;
pub mod secret;
pub mod store;
pub mod stream;
pub mod text;
pub mod time;
pub mod wire;
pub mod workflow;
