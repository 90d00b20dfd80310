//! Runtimes: one thread for a command, all cores for a server; and what Ctrl-C means to a command.

use tokio::signal::unix::{SignalKind, signal};

use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::interrupt;

/// Runs a command that talks to a server.
///
/// # Errors
/// What the command answers; `Interrupted` after Ctrl-C.
pub fn client(_context: &Context, work: impl Future<Output = Outcome>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::local("cannot start", error))?;
    let outcome = runtime.block_on(async {
        let failed = |error| Failure::local("cannot listen to signals", error);
        let mut interrupted = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut terminated = signal(SignalKind::terminate()).map_err(failed)?;
        let mut work = std::pin::pin!(work);
        tokio::select! {
            outcome = &mut work => return outcome,
            _ = interrupted.recv() => {}
            _ = terminated.recv() => {}
        }
        // What must not be cut in half goes on until it is whole.
        tokio::select! {
            biased;
            () = interrupt::settled() => Err(stopped()),
            outcome = &mut work => outcome,
        }
    });
    // Threads that still read a folder are not waited for.
    runtime.shutdown_background();
    outcome
}

fn stopped() -> Failure {
    Failure::new(Exit::Interrupted, "interrupted")
        .hint("What the server has begun goes on there; running the command again picks it up.")
}

/// A runtime for a server.
///
/// # Errors
/// When threads cannot be made.
pub fn server() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::local("cannot start", error))
}
