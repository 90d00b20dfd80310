//! `flare cloudflare provision`: what the deployment needs at the account.

use std::path::PathBuf;

use burstflare_adapters_cloudflare::deployment::{Kind, Resource};
use burstflare_ports::secret::Secret;
use clap::Args;
use serde_json::{Value, json};

use super::{Common, Desk, confirm};
use crate::cloudflare::{
    Found, Ids, MASTER_KEY, TURNSTILE_SECRET, clash, find, is_in_use, make, master_key, put_secret, secrets,
};
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::table::table;

/// `flare cloudflare provision`.
#[derive(Debug, Args)]
pub struct Provision {
    #[command(flatten)]
    common: Common,
    /// Make it without asking.
    #[arg(long, short)]
    yes: bool,
    /// Only show what is there and what would be made.
    #[arg(long)]
    dry_run: bool,
    /// The deployment's master key (32 bytes, or those in base64; mode 0600), where you keep one yourself. Otherwise a new
    /// one is made and given to Cloudflare alone, which never tells it again.
    #[arg(long, value_name = "FILE")]
    master_key_file: Option<PathBuf>,
}

/// What there is and what is not.
struct Plan {
    resources: Vec<(Resource, Found)>,
    /// Names of secrets, and whether the Worker has them.
    secrets: Vec<(&'static str, bool)>,
}

pub(super) async fn run(context: &Context, args: &Provision) -> Outcome {
    let desk = args.common.desk()?;
    let plan = look(context, &desk).await?;
    for (resource, found) in &plan.resources {
        if let Found::Clash(name) = found {
            return Err(clash(resource, name));
        }
    }
    let missing = plan.missing();
    if missing == 0 || args.dry_run {
        context.output.result(&plan.document(&desk, "missing"), || plan.show("missing", missing));
        if missing == 0 {
            context.output.note("Everything is there. Next: `flare cloudflare generate`.");
        }
        return Ok(0);
    }
    // Read before anything is made: a file that is not right has to stop us here.
    let key = match plan.lacks(MASTER_KEY) {
        true => Some(new_key(args, &desk, &plan).await?),
        false => None,
    };
    if !args.yes {
        context.output.note(plan.show("missing", missing).trim_end());
        let question = format!("Make these {missing} at the account {}?", desk.keys.account);
        confirm(context, false, &question).await?;
    }
    for (resource, found) in &plan.resources {
        if *found == Found::Missing {
            context.output.progress(&format!("making the {} {}", resource.kind.title(), resource.name));
            make(&desk.api, desk.account(), resource).await?;
        }
    }
    let turnstile = desk.keys.turnstile.as_ref().map(|(_, secret)| secret.clone());
    for (name, value) in [(MASTER_KEY, &key), (TURNSTILE_SECRET, &turnstile)] {
        if let Some(value) = value.as_ref().filter(|_| plan.lacks(name)) {
            context.output.progress(&format!("setting the secret {name}"));
            put_secret(&desk.api, &desk.keys.account, &desk.target.name, name, value).await?;
        }
    }
    context.output.result(&plan.document(&desk, "made"), || plan.show("made", 0));
    if key.is_some() && args.master_key_file.is_none() {
        context.output.warn(&format!(
            "the Worker `{}` holds the only copy of the master key, and Cloudflare never shows it: without that Worker what it sealed cannot be read. To keep a copy yourself, bring your own key with --master-key-file before the first deployment.",
            desk.target.name
        ));
    }
    context.output.note("Next: `flare cloudflare generate`.");
    Ok(0)
}

async fn look(context: &Context, desk: &Desk) -> Result<Plan, Failure> {
    let zone = desk.preview_zone().await?;
    let deployment = desk.target.deployment(&desk.keys, Ids::default(), zone.as_ref());
    let mut wanted = deployment.resources();
    if let (Some(zone), Some(domain)) = (&zone, &desk.target.preview_domain) {
        wanted.push(Resource::wildcard(domain, &zone.id));
    }
    let mut resources = Vec::new();
    for resource in wanted {
        context.output.progress(&format!("looking for the {} {}", resource.kind.title(), resource.name));
        let found = find(&desk.api, desk.account(), &resource).await?;
        resources.push((resource, found));
    }
    let there = secrets(&desk.api, &desk.keys.account, &desk.target.name).await?;
    let names = std::iter::once(MASTER_KEY).chain(desk.keys.turnstile.is_some().then_some(TURNSTILE_SECRET));
    Ok(Plan { resources, secrets: names.map(|name| (name, there.contains(name))).collect() })
}

/// A key for a Worker that has none. Where the records are in use already, it has to be the one that sealed them.
async fn new_key(args: &Provision, desk: &Desk, plan: &Plan) -> Result<Secret<String>, Failure> {
    if args.master_key_file.is_none() {
        for (resource, found) in &plan.resources {
            if let (Kind::Database, Found::There(id)) = (&resource.kind, found)
                && is_in_use(&desk.api, &desk.keys.account, id).await?
            {
                let message = format!(
                    "the Worker `{}` has no master key, but its database holds accounts: a new key could not read what the old one sealed",
                    desk.target.name
                );
                return Err(Failure::new(Exit::Conflict, message)
                    .hint("Give the key of before: `flare cloudflare provision --master-key-file FILE`."));
            }
        }
    }
    master_key(args.master_key_file.as_deref())
}

impl Plan {
    fn missing(&self) -> usize {
        let resources = self.resources.iter().filter(|(_, found)| *found == Found::Missing).count();
        resources + self.secrets.iter().filter(|(_, there)| !there).count()
    }

    fn lacks(&self, secret: &str) -> bool {
        self.secrets.iter().any(|(name, there)| *name == secret && !there)
    }

    /// Kind, name, and how it stands; what is missing is called what became of it.
    fn lines<'a>(&'a self, missing: &'a str) -> impl Iterator<Item = (&'a str, &'a str, &'a str)> {
        let resources = self.resources.iter().map(move |(resource, found)| {
            let state = match found {
                Found::There(_) => "there",
                Found::Missing => missing,
                Found::Clash(_) => "clash",
            };
            (resource.kind.title(), resource.name.as_str(), state)
        });
        let secrets = self
            .secrets
            .iter()
            .map(move |(name, there)| ("secret", *name, if *there { "there" } else { missing }));
        resources.chain(secrets)
    }

    fn document(&self, desk: &Desk, missing: &str) -> Value {
        let items: Vec<Value> = self
            .lines(missing)
            .map(|(kind, name, state)| json!({ "kind": kind, "name": name, "state": state }))
            .collect();
        json!({ "environment": desk.target.environment.name(), "name": desk.target.name, "items": items })
    }

    fn show(&self, missing: &str, count: usize) -> String {
        let rows: Vec<Vec<String>> = self
            .lines(missing)
            .map(|(kind, name, state)| vec![state.to_owned(), kind.to_owned(), name.to_owned()])
            .collect();
        let text = table(&["STATE", "KIND", "NAME"], &rows);
        if count == 0 { text } else { format!("{text}\n{count} to make.\n") }
    }
}
