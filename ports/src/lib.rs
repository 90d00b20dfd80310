//! The narrow waist of BurstFlare: typed ids, plain records, small async traits and the agent's wire messages.
//!
//! An author of an adapter reads this crate and no other. Nothing here names a technology, reads a clock or the
//! environment, or decides anything: deciding is `burstflare-core`'s, doing is the adapters'.
#![forbid(unsafe_code)]

pub mod blob;
pub mod error;
pub mod id;
pub mod machine;
pub mod record;
pub mod secret;
pub mod stream;
pub mod text;
pub mod time;
pub mod wire;
