#![expect(clippy::expect_used, clippy::panic, reason = "a target fails by panicking")]
#![doc = include_str!("../README.md")]

mod corpus;
mod mutation;
mod target;

pub use corpus::{Corpus, pack, unpack};
pub use mutation::Mutator;
pub use target::{TARGETS, Target, target};
