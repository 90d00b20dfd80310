//! The machines of `domain` against models that are written a second time, as plainly as possible.

mod build;
mod permission;
mod record;
mod release;
mod session;
mod snapshot;
