//! BurstFlare's ports on Cloudflare. Records on D1, blobs in R2, jobs on Queues, runs on Workflows, machines
//! on Containers, live hints through Durable Objects, a cache in KV, rate limits by their
//! binding.
//!
//! Binding handles are `Send`, only the futures of JavaScript promises are not: each method's body goes through
//! `js`, so that the same traits and the same router serve both homes.
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
pub mod feed;
#[cfg(feature = "runtime")]
mod js;
#[cfg(feature = "runtime")]
mod kv;
#[cfg(feature = "runtime")]
mod limit;
#[cfg(feature = "runtime")]
pub mod log;
#[cfg(feature = "runtime")]
mod machine;
#[cfg(feature = "runtime")]
pub mod queue;
#[cfg(feature = "runtime")]
mod r2;
#[cfg(feature = "runtime")]
pub mod workflow;

#[cfg(feature = "runtime")]
pub use absent::Absent;
#[cfg(feature = "runtime")]
pub use background::IsolateBackground;
#[cfg(feature = "runtime")]
pub use clock::{WorkerClock, WorkerEntropy};
#[cfg(feature = "runtime")]
pub use d1::{Counted, D1, D1Store};
#[cfg(feature = "runtime")]
pub use feed::CloudFeed;
#[cfg(feature = "runtime")]
pub use js::js;
#[cfg(feature = "runtime")]
pub use kv::CloudCache;
#[cfg(feature = "runtime")]
pub use limit::CloudLimiter;
#[cfg(feature = "runtime")]
pub use machine::{Internet, MachineHost, Machines};
#[cfg(feature = "runtime")]
pub use queue::CloudQueue;
#[cfg(feature = "runtime")]
pub use r2::R2Blobs;
#[cfg(feature = "runtime")]
pub use workflow::CloudWorkflows;
