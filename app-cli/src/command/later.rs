//! Commands whose time has not come: they say so instead of being unknown.

use clap::{Args, Subcommand};

use crate::exit::{Exit, Failure, Outcome};

/// Whatever follows; none of it is looked at.
#[derive(Debug, Args)]
pub struct Anything {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    _words: Vec<String>,
}

/// The commands of later versions.
#[derive(Debug, Subcommand)]
pub enum Later {
    /// What the workspace uses (not supported yet).
    #[command(hide = true)]
    Usage(Anything),
    /// Open the dashboard (not supported yet).
    #[command(hide = true)]
    Dashboard(Anything),
    /// Take a workspace's data out (not supported yet).
    #[command(hide = true)]
    Export(Anything),
    /// Bring a workspace's data in (not supported yet).
    #[command(hide = true)]
    Import(Anything),
    /// Report on the deployment (not supported yet).
    #[command(hide = true)]
    Report(Anything),
    /// Make good what was left behind (not supported yet).
    #[command(hide = true)]
    Reconcile(Anything),
}

/// Says that it is not there yet, and what can be done instead.
///
/// # Errors
/// Always `Unsupported`.
pub fn run(command: &Later) -> Outcome {
    let (name, hint) = match command {
        Later::Usage(_) => ("usage", "See `flare session list`."),
        Later::Dashboard(_) => ("dashboard", "Open the server's URL in a browser: it shows the first steps."),
        Later::Export(_) | Later::Import(_) => {
            ("export and import", "Use `scp` or `rsync` by `flare config-ssh`.")
        }
        Later::Report(_) => ("report", "Use `flare doctor`."),
        Later::Reconcile(_) => {
            ("reconcile", "The server reconciles by itself; `flare doctor` shows what is stuck.")
        }
    };
    Err(Failure::new(Exit::Unsupported, format!("`flare {name}` is not supported yet")).hint(hint))
}
