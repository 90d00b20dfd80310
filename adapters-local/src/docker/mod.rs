//! Machines as containers of a Docker engine on this host: any image, with the agent put in from outside.
//!
//! A machine is one container per life. Its entry point is the static agent, bound in read-only; the image may lack
//! everything else. Its two persisted roots are volumes of the engine (one pair for each disk), the rest of it goes with the
//! life. It has a network of its own with nothing in it but loopback: the server reaches its agent by a unix socket in a
//! folder of the machine's, and the way out is the egress proxy, as in the sandbox.
//!
//! Everything of ours in the engine carries the deployment's label, so that what nobody knows any more is found and
//! removed (`engine`). What has to outlive the engine's objects stands in the machine's folder (`record`).
//!
//! Not here yet: images that are pulled or built, checkpoints, a bound on the disk.

mod agent;
mod config;
mod container;
mod engine;
mod labels;
mod layer;
mod operations;
mod probe;
mod record;
mod runtime;

pub use config::DockerConfig;
pub use runtime::DockerRuntime;

/// How one comes by an agent that runs in any image.
pub const AGENT_CURE: &str = "put the static `flare-agent` of the release beside `flare` or name it with --agent; from the sources: RUSTFLAGS='-C target-feature=+crt-static' cargo build --release --target x86_64-unknown-linux-gnu -p burstflare-agent --bin flare-agent";
