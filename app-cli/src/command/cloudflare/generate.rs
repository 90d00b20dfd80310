//! `flare cloudflare generate`: the file for wrangler.

use burstflare_adapters_cloudflare::deployment::{Deployment, Kind};
use clap::Args;
use serde_json::json;

use super::{Common, Desk};
use crate::cloudflare::Ids;
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};

/// `flare cloudflare generate`.
#[derive(Debug, Args)]
pub struct Generate {
    #[command(flatten)]
    common: Common,
    /// Write nothing; fail (5) when the file is not what it would be.
    #[arg(long)]
    check: bool,
}

pub(super) async fn run(context: &Context, args: &Generate) -> Outcome {
    let desk = args.common.desk()?;
    let deployment = described(&desk).await?;
    let file = &desk.target.file;
    let drift = file.drift(&deployment)?;
    let path = file.path().display().to_string();
    if args.check && !drift.is_empty() {
        return Err(drifted(&path, &drift));
    }
    if !drift.is_empty() {
        file.write(&deployment)?;
    }
    let document = json!({ "environment": desk.target.environment.name(), "file": path, "changed": drift });
    context.output.result(&document, || match drift.is_empty() {
        true => format!("{path} is up to date."),
        false => format!("Wrote {path} ({}).", drift.join(", ")),
    });
    context.output.note("Next: `flare cloudflare migrate`.");
    Ok(0)
}

/// The description with what is found at the account.
pub(super) async fn described(desk: &Desk) -> Result<Deployment, Failure> {
    let database = desk.id_of(Kind::Database).await?;
    let zone = desk.preview_zone().await?;
    let ids = Ids { database, cache: desk.id_of(Kind::Namespace).await? };
    Ok(desk.target.deployment(&desk.keys, ids, zone.as_ref()))
}

pub(super) fn drifted(path: &str, drift: &[String]) -> Failure {
    Failure::new(Exit::Conflict, format!("{path} is not up to date: {}", drift.join(", ")))
        .hint("Run `flare cloudflare generate`.")
}
