//! The ports on one machine: SQLite, folders, tokio, and a sandbox of processes or a container engine.
//!
//! | port | here |
//! |---|---|
//! | records | [`sqlite::SqliteStore`] |
//! | blobs | [`blobs::FsBlobs`]; with feature `s3` also `s3::S3Blobs` |
//! | jobs, workflows | [`queue::SqliteQueue`], [`workflow::SqliteWorkflows`] |
//! | session actors | [`actors::LocalActors`] |
//! | events, limits | [`feed::LocalFeed`], [`limit::MemoryRateLimiter`] |
//! | machines and their agents | [`sandbox::SandboxRuntime`], [`docker::DockerRuntime`] |
//! | clock, entropy, background, mail | [`clock`], [`background`], [`mail`] |
//!
//! What calls back into core is made first and given its counterpart by `run`, because core needs the port to be
//! made at all. Everything that runs tasks has a `shutdown` with a deadline; what it cuts off, the next process
//! continues from the store.

pub mod actors;
pub mod background;
pub mod blobs;
pub mod cache;
pub mod clock;
#[cfg(target_os = "linux")]
pub mod docker;
pub mod feed;
pub mod limit;
#[cfg(target_os = "linux")]
mod machine;
pub mod mail;
pub mod queue;
#[cfg(feature = "s3")]
pub mod s3;
#[cfg(target_os = "linux")]
pub mod sandbox;
pub mod sqlite;
mod tasks;
#[cfg(target_os = "linux")]
mod tree;
pub mod workflow;
