//! `flare`.

use std::process::ExitCode;

fn main() -> ExitCode {
    // A session's agent is this same program: nothing may run before it knows which of the two it is.
    burstflare_agent::main_if_reexecuted();
    flare::main()
}
