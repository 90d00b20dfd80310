//! `flare cloudflare migrate`: the schema on D1.

use burstflare_adapters_cloudflare::deployment::Kind;
use clap::Args;
use serde_json::json;

use super::{Common, confirm};
use crate::cloudflare::{apply, pending};
use crate::context::Context;
use crate::exit::Outcome;

/// `flare cloudflare migrate`.
#[derive(Debug, Args)]
pub struct Migrate {
    #[command(flatten)]
    common: Common,
    /// Apply without asking.
    #[arg(long, short)]
    yes: bool,
    /// Only show what is missing.
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(context: &Context, args: &Migrate) -> Outcome {
    let desk = args.common.desk()?;
    let database = desk.id_of(Kind::Database).await?;
    let plan = pending(&desk.api, &desk.keys.account, &database).await?;
    let names: Vec<&str> = plan.missing.iter().map(|migration| migration.name).collect();
    let document = |applied: &[&str]| {
        json!({
            "environment": desk.target.environment.name(), "database": desk.target.name,
            "before": plan.applied, "missing": names, "applied": applied,
        })
    };
    if names.is_empty() || args.dry_run {
        context.output.result(&document(&[]), || match names.is_empty() {
            true => format!("The schema is up to date ({} migrations).", plan.applied),
            false => format!("Missing, in this order:\n  {}", names.join("\n  ")),
        });
        if names.is_empty() {
            context.output.note("Next: `flare cloudflare deploy`.");
        }
        return Ok(0);
    }
    let question = format!("Apply to the database {}:\n  {}\nGo on?", desk.target.name, names.join("\n  "));
    confirm(context, args.yes, &question).await?;
    for migration in &plan.missing {
        context.output.progress(&format!("applying {}", migration.name));
        apply(&desk.api, &desk.keys.account, &database, migration).await?;
    }
    context.output.result(&document(&names), || format!("Applied {} migrations.", names.len()));
    context.output.note("Next: `flare cloudflare deploy`.");
    Ok(0)
}
