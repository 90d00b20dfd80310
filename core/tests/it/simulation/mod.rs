//! Deterministic simulation: the real control plane on the memory backends, in a world that is out to break it.
//!
//! One thread polls every future in an order that a seed decides; time stands still while anything can run and jumps
//! when nothing can. Each call of a port waits at least twice, before and after its effect, and there it may be
//! delayed, fail before the effect, fail after it, or see the whole control plane crash: then all its futures and
//! everything in memory are gone, and only what is durable stays (records, blobs, queue, journal of runs, machines).
//!
//! Simulated users work in this world and remember what was acknowledged to them. When the faults have stopped and
//! everything has come to rest, [`invariants`] compares the world with what they remember.
//!
//! A **step** is one action of one simulated client (upload, promote, write a file, stop, …) from its first request to
//! the last answer or hang-up, with its retries; an action for which there was nothing to do sends no request and is no
//! step. Four clients act in each seed. One step is some hundred polls, for the plane works behind each of them.
//!
//! `SIM_SEEDS=N` runs seeds 0 to N-1 (200), `SIM_SEED=n` one of them, `SIM_STEPS=n` sets each client's steps (25),
//! `SIM_THREADS=n` the threads (all cores); `SIM_TRACE=1` prints what happens in the one seed, and
//! `SIM_DISK=1` runs it on SQLite and a folder of blobs. A million steps:
//!
//! ```sh
//! SIM_SEEDS=10000 cargo test --profile sim -p burstflare-core --test it -- --nocapture nothing_acknowledged
//! ```

mod agent;
mod bundle;
pub(crate) mod disk;
mod every_step;
pub(crate) mod executor;
pub(crate) mod fault;
mod hosts;
mod invariants;
mod keep;
mod kept;
mod ledger;
mod machines;
mod plane;
mod promises;
pub(crate) mod rng;
mod run;
mod seeds;
mod stage;
pub(crate) mod store;
mod tests;
mod user;
mod work;
mod world;
