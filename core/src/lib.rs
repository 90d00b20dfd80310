//! The control plane's rules and use cases.
//!
//! `domain` decides: pure, synchronous functions of (state, command, now). `service` reads through ports, decides
//! in `domain` and commits once; it is the only async layer. Nothing here names an adapter, reads a clock, draws
//! randomness, looks at the environment, or speaks HTTP or SQL.
#![forbid(unsafe_code)]

pub mod domain;
pub mod error;
pub mod service;

pub use error::{Error, Kind, Result};
pub use service::{Caller, Config, ControlPlane, Ports, Registration};
