//! Machines on Containers: one Durable Object for each, the only one who starts, ends and calls its container, and the
//! session's one writer.
//!
//! [`Machines`] is what Workers and workflows have: it asks the object by `stub.fetch`. The object itself is
//! [`MachineHost`], and its own session actor reaches it through [`Machines::within`].
#![expect(
    clippy::future_not_send,
    reason = "a Worker has one thread; where a port asks for Send, the body goes through `js`"
)]

mod carry;
mod container;
mod host;
mod life;
mod machines;
mod message;
mod serve;

pub use host::{Internet, MachineHost};
pub use machines::Machines;
