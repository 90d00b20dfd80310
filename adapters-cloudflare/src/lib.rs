//! BurstFlare's ports on Cloudflare. So far: records on D1, machines on Containers, the Worker's clock,
//! randomness and background work.
//!
//! Binding handles are `Send`, only the futures of JavaScript promises are not: each method's body goes through
//! [`js`], so that the same traits and the same router serve both homes.
#![forbid(unsafe_code)]

#[cfg(feature = "runtime")]
mod absent;
#[cfg(feature = "runtime")]
mod background;
#[cfg(feature = "runtime")]
mod clock;
#[cfg(feature = "runtime")]
mod d1;
pub mod deployment;
#[cfg(feature = "runtime")]
mod js;
#[cfg(feature = "runtime")]
mod machine;
#[cfg(feature = "runtime")]
mod r2;

#[cfg(feature = "runtime")]
pub use absent::Absent;
#[cfg(feature = "runtime")]
pub use background::IsolateBackground;
#[cfg(feature = "runtime")]
pub use clock::{WorkerClock, WorkerEntropy};
#[cfg(feature = "runtime")]
pub use d1::{Counted, D1, D1Store};
#[cfg(feature = "runtime")]
pub use js::js;
#[cfg(feature = "runtime")]
pub use machine::{Internet, MachineHost, Machines};
#[cfg(feature = "runtime")]
pub use r2::R2Blobs;
