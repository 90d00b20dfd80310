//! `flare cloudflare`: verify, provision, generate, migrate, deploy, in this order.

mod deploy;
mod generate;
mod migrate;
mod provision;
mod verify;

use std::io::{self, BufRead, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use burstflare_adapters_cloudflare::deployment::{Account, Kind, Resource};
use clap::{Args, Subcommand};

use crate::cloudflare::{Api, Found, Keys, Settings, Target, Zone, find, zone_of};
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Cloudflare {
    /// Look whether token, account, permissions, domains and tools are in order; changes nothing.
    Verify(Common),
    /// Make what the deployment needs at the account: shows what is missing, asks, makes it.
    Provision(provision::Provision),
    /// Write the file for wrangler, out of cloudflare.toml and the ids found at the account.
    Generate(generate::Generate),
    /// Bring the D1 database's schema up to date: shows what is missing, asks, applies it.
    Migrate(migrate::Migrate),
    /// Check that everything is ready, then let wrangler deploy the Worker.
    Deploy(deploy::Deploy),
}

/// What all of them take.
#[derive(Debug, Args)]
pub struct Common {
    /// The environment: `staging` or `production`; not needed where only one is described.
    #[arg(long = "env", value_name = "NAME", env = "FLARE_ENVIRONMENT", hide_env_values = true)]
    environment: Option<String>,
    /// What is to be deployed.
    #[arg(long, value_name = "FILE", default_value = "cloudflare.toml")]
    config: PathBuf,
    /// Account id and token, where the environment does not hold them: CLOUDFLARE_ACCOUNT_ID, CLOUDFLARE_API_TOKEN and perhaps
    /// TURNSTILE_SITE_KEY, TURNSTILE_SECRET_KEY. Only its owner may read it (0600).
    #[arg(long, value_name = "FILE", default_value = ".env")]
    env_file: PathBuf,
    /// How long all of it may take (`90`, `10m`, `1h`).
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = super::exec::span)]
    timeout: Duration,
}

/// Runs a command.
///
/// # Errors
/// What is not in order, and what Cloudflare refuses.
pub async fn run(context: &Context, command: Cloudflare) -> Outcome {
    match command {
        Cloudflare::Verify(args) => verify::run(context, &args).await,
        Cloudflare::Provision(args) => provision::run(context, &args).await,
        Cloudflare::Generate(args) => generate::run(context, &args).await,
        Cloudflare::Migrate(args) => migrate::run(context, &args).await,
        Cloudflare::Deploy(args) => deploy::run(context, &args).await,
    }
}

impl Common {
    /// The environment as it is described.
    fn target(&self) -> Result<Target, Failure> {
        Settings::read(&self.config)?.target(self.environment.as_deref())
    }

    /// Where the description lies.
    fn folder(&self) -> Result<PathBuf, Failure> {
        Ok(crate::place::absolute(&self.config)?.parent().unwrap_or(Path::new("/")).to_owned())
    }

    fn desk(&self) -> Result<Desk, Failure> {
        let target = self.target()?;
        let keys = Keys::read(&self.env_file)?;
        let api = Arc::new(Api::new(&keys.token, self.timeout)?);
        Ok(Desk { target, keys, api })
    }
}

/// What every command works with.
struct Desk {
    target: Target,
    keys: Keys,
    api: Arc<Api>,
}

impl Desk {
    fn account(&self) -> Account<'_> {
        Account { id: &self.keys.account, location: self.target.location.as_deref() }
    }

    /// The zone of the previews, where previews are wanted.
    async fn preview_zone(&self) -> Result<Option<Zone>, Failure> {
        let Some(domain) = &self.target.preview_domain else { return Ok(None) };
        let zone = zone_of(&self.api, &self.keys.account, domain).await?;
        zone.map(Some).ok_or_else(|| no_zone(domain))
    }

    /// The id of the deployment's thing of this kind.
    async fn id_of(&self, kind: Kind) -> Result<String, Failure> {
        let resource = Resource { kind, name: self.target.name.clone() };
        match find(&self.api, self.account(), &resource).await? {
            Found::There(id) => Ok(id),
            Found::Missing | Found::Clash(_) => Err(not_provisioned(&resource)),
        }
    }
}

fn not_provisioned(resource: &Resource) -> Failure {
    let what = format!("there is no {} `{}` at the account", resource.kind.title(), resource.name);
    Failure::new(Exit::NotFound, what).hint("Run `flare cloudflare provision` first.")
}

fn no_zone(domain: &str) -> Failure {
    Failure::new(Exit::NotFound, format!("no zone of this account holds `{domain}`"))
        .hint("Add the domain in the dashboard (\"Add a domain\"), and give the token Zone: Read for it.")
}

/// Asks at a terminal; where nobody can answer, `--yes` has to be said. Reads on a thread of its own, so that Ctrl-C ends the
/// question, too.
async fn confirm(context: &Context, yes: bool, question: &str) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::usage("nobody can be asked here").hint("Say `--yes`."));
    }
    context.output.note(&format!("{question} [y/N]"));
    let failed = |error: io::Error| Failure::local("cannot read the answer", error);
    let read = || {
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer).map(|_| answer)
    };
    let answer = tokio::task::spawn_blocking(read).await.map_err(io::Error::other).and_then(|read| read);
    let answer = answer.map_err(failed)?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::new(Exit::Interrupted, "nothing was changed").hint("Answer y, or say `--yes`.")),
    }
}
