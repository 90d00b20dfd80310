#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod attach;
pub mod bundle;
pub mod cli;
pub mod client;
pub mod cloudflare;
pub mod command;
pub mod context;
pub mod copy;
pub mod credential;
pub mod exit;
pub mod handover;
pub mod interrupt;
pub mod output;
pub mod page;
pub mod place;
pub mod run;
pub mod serve;
pub mod smoke;
pub mod ssh;
pub mod table;
pub mod text;
pub mod wait;

use std::process::ExitCode;

use clap::Parser;

/// The whole program, after it is known not to be an agent.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(
                if error.use_stderr() { exit::Exit::Usage } else { exit::Exit::Success }.code(),
            );
        }
    };
    let context = cli.context(cli.output());
    let code = match cli.run(&context) {
        Ok(code) => code,
        Err(failure) => {
            context.output.failure(&failure);
            failure.exit.code()
        }
    };
    context.output.end_progress();
    ExitCode::from(code)
}
