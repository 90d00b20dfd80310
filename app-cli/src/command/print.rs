//! `flare completions` and `flare man`: made from the same description as the commands.

use std::path::PathBuf;

use clap::{Args, Command};
use clap_complete::Shell;

use crate::context::Context;
use crate::exit::{Failure, Outcome};

/// For which shell.
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// Where to.
#[derive(Debug, Args)]
pub struct Man {
    /// Write one page per command into this folder, instead of the first one to standard output.
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

/// Runs `flare completions`.
///
/// # Errors
/// Never.
pub fn completions(context: &Context, mut command: Command, args: &Completions) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "flare", &mut script);
    context.output.out_bytes(&script);
    Ok(0)
}

/// Runs `flare man`.
///
/// # Errors
/// When the folder cannot be written to.
pub fn man(context: &Context, command: Command, args: &Man) -> Outcome {
    let Some(dir) = &args.dir else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command)
            .render(&mut page)
            .map_err(|error| Failure::local("cannot make the page", error))?;
        context.output.out_bytes(&page);
        return Ok(0);
    };
    std::fs::create_dir_all(dir)
        .and_then(|()| clap_mangen::generate_to(command, dir))
        .map_err(|error| Failure::local(format_args!("cannot write to {}", dir.display()), error))?;
    context.output.note(&format!("Wrote the pages into {}.", dir.display()));
    Ok(0)
}
