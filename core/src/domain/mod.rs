//! Pure rules: no I/O, no time of their own, no randomness.

pub mod build;
pub mod bundle;
pub mod diff;
pub(crate) mod id_order;
pub mod idle;
pub mod leftover;
pub mod manifest;
pub mod permission;
pub mod plan;
pub mod preview;
pub mod release;
pub mod seal;
pub mod secret;
pub mod session;
pub mod snapshot;
pub mod ssh_key;
pub mod token_text;
