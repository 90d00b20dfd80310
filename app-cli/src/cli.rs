//! The command line: what there is, and which file runs it.

use std::path::PathBuf;
use std::pin::Pin;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::command::{
    attach, auth, build, cloudflare, config_ssh, cp, dev, doctor, exec, history, later, open, port_forward,
    print, secret, serve, session, smoke, snapshot, ssh, template, token,
};
use crate::context::Context;
use crate::exit::{Failure, Outcome};
use crate::output::{Format, Output};
use crate::page::PageArgs;
use crate::run;

/// Disposable development workspaces.
#[derive(Debug, Parser)]
#[command(
    name = "flare",
    version,
    propagate_version = false,
    max_term_width = 100,
    after_help = "\
Environment:
  FLARE_URL         the server, where --url does not name it
  FLARE_TOKEN       a token for FLARE_URL, instead of a stored sign-in
  FLARE_CONFIG_DIR  the folder of credentials and keys
  NO_COLOR          no colours

Exit codes:
  0 done              4 not signed in, not allowed   8 took too long
  1 something else    5 conflict                     9 not supported
  2 usage             6 limit reached               10 build or session failed
  3 not found         7 server unavailable         130 interrupted
  `flare ssh`, `flare attach` and `flare exec` answer the remote command's own code."
)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
struct Global {
    /// The server; by default FLARE_URL, else the one you signed in to last.
    #[arg(long, global = true, value_name = "URL", help_heading = "Global options")]
    url: Option<String>,
    /// Print the API's resource as JSON, and nothing else, on standard output.
    #[arg(long, global = true, help_heading = "Global options")]
    json: bool,
    /// No progress and no remarks.
    #[arg(long, short, global = true, help_heading = "Global options")]
    quiet: bool,
    /// No colours.
    #[arg(long, global = true, help_heading = "Global options")]
    no_color: bool,
    /// The folder of credentials and keys; how OpenSSH hands ours back to us.
    #[arg(long, global = true, value_name = "FOLDER", hide = true)]
    config_dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Accounts and signing in.
    #[command(subcommand)]
    Auth(auth::Auth),
    /// Personal API tokens.
    #[command(subcommand)]
    Token(token::Token),
    /// Workspaces you belong to.
    #[command(subcommand)]
    Workspace(history::Workspace),
    /// What sessions are made from.
    #[command(subcommand)]
    Template(template::Template),
    /// The making of versions.
    #[command(subcommand)]
    Build(build::Build),
    /// What was current, and when.
    #[command(subcommand)]
    Release(history::Release),
    /// Live machines.
    #[command(subcommand)]
    Session(session::Session),
    /// Run a command in a session: `echo x | flare exec S -- cat`.
    Exec(exec::Exec),
    /// Copy files and folders to, from and between sessions.
    Cp(cp::Cp),
    /// Kept states of sessions.
    #[command(subcommand)]
    Snapshot(snapshot::Snapshot),
    /// Values that sessions get and nobody reads again.
    #[command(subcommand)]
    Secret(secret::Secret),
    /// Who did what.
    Audit(PageArgs),
    /// Open a port of a session in a browser.
    Open(open::Open),
    /// Bring ports of a session to this machine.
    PortForward(port_forward::PortForward),
    /// Open a shell in a session, or run OpenSSH with it.
    Ssh(ssh::Ssh),
    /// Carry an SSH stream; OpenSSH calls this.
    #[command(hide = true)]
    SshProxy(ssh::SshProxy),
    /// Join a terminal of a session; several people may.
    Attach(attach::Attach),
    /// Let ssh, scp, sftp and editors reach sessions as NAME.flare.
    ConfigSsh(config_ssh::ConfigSsh),
    /// Run the server on this machine, for yourself.
    Dev(dev::Dev),
    /// Run the server for others.
    Serve(serve::Serve),
    /// Deploy to Cloudflare: verify, provision, generate, migrate, deploy.
    #[command(subcommand)]
    Cloudflare(cloudflare::Cloudflare),
    /// Look for what is wrong, and say how to cure it.
    Doctor(doctor::Doctor),
    /// Do the main job once against a server, and say how it went.
    Smoke(smoke::Smoke),
    /// Print completions for a shell.
    Completions(print::Completions),
    /// Print the manual.
    Man(print::Man),
    #[command(flatten)]
    Later(later::Later),
}

impl Cli {
    /// Where and how this command prints.
    #[must_use]
    pub fn output(&self) -> Output {
        let format = if self.global.json { Format::Json } else { Format::Human };
        Output::new(format, self.global.quiet, self.global.no_color)
    }

    /// Runs the command.
    ///
    /// # Errors
    /// Whatever goes wrong, with an exit code of its kind.
    pub fn run(self, context: &Context) -> Outcome {
        let command = match self.command {
            Command::Completions(args) => return print::completions(context, Self::command(), &args),
            Command::Man(args) => return print::man(context, Self::command(), &args),
            Command::Later(later) => return later::run(&later),
            Command::ConfigSsh(args) => return config_ssh::run(context, &args),
            Command::Dev(args) => return dev::dev(context, &args),
            Command::Serve(args) => return serve::serve(context, &args),
            other => other,
        };
        run::client(context, command.run(context))
    }

    /// The surroundings that the global options describe.
    #[must_use]
    pub fn context(&self, output: Output) -> Context {
        Context::new(output, self.global.url.clone(), self.global.config_dir.clone())
    }
}

impl Command {
    #[expect(
        clippy::future_not_send,
        reason = "the client runs on one thread; `smoke` runs any line, boxed without Send"
    )]
    async fn run(self, context: &Context) -> Outcome {
        match self {
            Self::Auth(command) => auth::run(context, command).await,
            Self::Token(command) => token::run(context, command).await,
            Self::Workspace(command) => history::workspace(context, command).await,
            Self::Template(command) => template::run(context, command).await,
            Self::Build(command) => build::run(context, command).await,
            Self::Release(command) => history::release(context, command).await,
            Self::Session(command) => session::run(context, command).await,
            Self::Exec(args) => exec::run(context, args).await,
            Self::Cp(args) => cp::run(context, &args).await,
            Self::Snapshot(command) => snapshot::run(context, command).await,
            Self::Secret(command) => secret::run(context, command).await,
            Self::Audit(args) => history::audit(context, args).await,
            Self::Open(args) => open::run(context, args).await,
            Self::PortForward(args) => port_forward::run(context, args).await,
            Self::Ssh(args) => ssh::run(context, args).await,
            Self::Attach(args) => attach::run(context, args).await,
            Self::SshProxy(args) => ssh::proxy(context, args).await,
            Self::Cloudflare(command) => cloudflare::run(context, command).await,
            Self::Doctor(args) => doctor::run(context, args).await,
            Self::Smoke(args) => smoke::run(context, args).await,
            // The others run without a client, see `Cli::run`.
            Self::Completions(_)
            | Self::Man(_)
            | Self::Later(_)
            | Self::ConfigSsh(_)
            | Self::Dev(_)
            | Self::Serve(_) => Ok(0),
        }
    }
}

/// What a line will answer. Boxed by name: one of the commands runs others.
pub(crate) type Running<'a> = Pin<Box<dyn Future<Output = Outcome> + 'a>>;

/// Runs a line as if it had been typed, in surroundings of the caller's choice: its global options do not count.
/// It answers as [`Cli::run`] does.
pub(crate) fn line<'a>(context: &'a Context, words: &[&str]) -> Running<'a> {
    match Cli::try_parse_from(std::iter::once("flare").chain(words.iter().copied())) {
        Ok(cli) => Box::pin(cli.command.run(context)),
        Err(error) => Box::pin(std::future::ready(Err(Failure::usage(error.to_string())))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_seed_lines_are_understood_as_written() {
        for line in [
            "flare auth register --email E --url http://127.0.0.1:8787",
            "flare template create NAME",
            "flare template upload ID --version 1.0.0 --dir D",
            "flare template promote ID VERSION_ID",
            "flare session up NAME --template ID",
            "flare ssh ID",
            "flare ssh ID -- -N -L 1:localhost:2",
            "flare session exec ID --json -- sh -c true",
            "flare exec ID --timeout 5s --env A=b -t -- sh -c true",
            "flare cp -r folder s:",
            "flare cp s:a -",
            "flare session top s --watch",
            "flare usage --any thing",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
    }
}
