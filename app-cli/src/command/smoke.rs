//! `flare smoke`: the main job, once, against any server.

#![expect(
    clippy::future_not_send,
    reason = "the client runs on one thread, and what runs any line is boxed without Send"
)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use tokio::time::timeout;

use super::exec::span;
use super::server::Signals;
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::interrupt;
use crate::smoke::{Report, Smoke as Run};

/// After Ctrl-C: how long a step may take to hear what it has asked for, so that it is known what to remove; and how long
/// the removing may take. Together less than the program is given, see [`interrupt::settled`].
const ARRIVAL: Duration = Duration::from_secs(1);
const REMOVAL: Duration = Duration::from_secs(15);

/// How to try it.
#[derive(Debug, Args)]
#[command(after_help = "\
Signed in there, it works in your workspace; otherwise it makes an account, where the server lets anybody do so. It makes a
template, builds it, starts a session of it, works in it by each way in, puts it to sleep and wakes it. What it makes is
called smoke- and eight digits, and it is removed in the end, also after a failure or Ctrl-C; an account and an archived
template stay. The exit code is that of the step that failed; `--json` prints an object per step.")]
pub struct Smoke {
    /// Make an account with this address, instead of using your sign-in.
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,
    /// The most that one step may take (`90`, `90s`, `10m`, `500ms`).
    #[arg(long, value_name = "TIME", value_parser = span, default_value = "5m")]
    timeout: Duration,
}

/// Runs `flare smoke`.
///
/// # Errors
/// What the first failing step answers.
pub async fn run(context: &Context, args: Smoke) -> Outcome {
    // The program does not end under the removing.
    let _guard = interrupt::guard();
    let mut signals = Signals::listen()?;
    let report = Report::new(context);
    let stop = AtomicBool::new(false);
    let mut smoke = Run::new(context, args.email, args.timeout)?;
    let done = {
        let mut work = std::pin::pin!(smoke.run(&report, &stop));
        tokio::select! {
            done = &mut work => Some(done),
            () = signals.next() => {
                stop.store(true, Ordering::Relaxed);
                let _ = timeout(ARRIVAL, &mut work).await;
                None
            }
        }
    };
    let within = if done.is_some() { args.timeout.max(REMOVAL) } else { REMOVAL };
    let cleaned = smoke.clean(within, &report).await;
    match done {
        Some(done) => done.and(cleaned).map(|()| 0),
        None => Err(Failure {
            hint: cleaned.err().and_then(|failure| failure.hint),
            ..Failure::new(Exit::Interrupted, "interrupted")
        }),
    }
}
