//! `flare cloudflare deploy`: looks whether everything is ready, and lets wrangler deploy.

use std::sync::Arc;

use burstflare_ports::secret::Secret;
use clap::Args;
use serde_json::json;

use super::generate::{described, drifted};
use super::{Common, Desk, not_provisioned};
use crate::cloudflare::{
    Found, Keys, MASTER_KEY, TURNSTILE_SECRET, Target, Wrangler, bootstrap_code, find, local, pending,
    secrets,
};
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};

/// `flare cloudflare deploy`.
#[derive(Debug, Args)]
pub struct Deploy {
    #[command(flatten)]
    common: Common,
    /// Let wrangler do everything but send it: needs no token and changes nothing.
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(context: &Context, args: &Deploy) -> Outcome {
    let common = &args.common;
    let target = common.target()?;
    not_local(&target)?;
    built(&target)?;
    let wrangler = Wrangler::new(&common.folder()?)?;
    let file = target.file.path().display().to_string();
    let origin = format!("https://{}", target.domain);
    let name = target.environment.name();
    if args.dry_run {
        wrangler.run(&["deploy", "--dry-run", "-c", &file], None, common.timeout).await?;
        let document = json!({ "environment": name, "deployed": false, "origin": origin });
        context.output.result(&document, || format!("wrangler accepts {file}."));
        return Ok(0);
    }
    let desk = common.desk()?;
    context.output.progress("deploy: looking whether everything is ready");
    let database = ready(&desk).await?;
    context.output.progress("deploy: wrangler");
    wrangler.run(&["deploy", "-c", &file], Some(&desk.keys), common.timeout).await?;
    // What was deployed stays deployed, also where this does not work.
    let code = match bootstrap_code(Arc::clone(&desk.api), &desk.keys.account, &database).await {
        Ok(code) => code.map(Secret::into_inner),
        Err(failure) => {
            context.output.failure(&failure);
            None
        }
    };
    let document = json!({ "environment": name, "deployed": true, "origin": origin, "bootstrap_code": code });
    context.output.result(&document, || {
        let first = code.as_ref().map(|code| format!(
            "\n\nThe first operator registers with this code, which works once:\n\n  flare auth register --email you@example.com --code {code} --url {origin}"
        ));
        format!(
            "Deployed to {origin}. To go back to what was before: `wrangler rollback -c {file}`.{}",
            first.unwrap_or_default()
        )
    });
    Ok(0)
}

/// The file itself may be somebody's: what says that it is for this machine does not leave it.
fn not_local(target: &Target) -> Result<(), Failure> {
    let Some(file) = target.file.read()? else {
        let path = target.file.path().display().to_string();
        return Err(Failure::new(Exit::NotFound, format!("{path} is not there, or is not ours"))
            .hint("Run `flare cloudflare generate`."));
    };
    if file["vars"]["FLARE_ENVIRONMENT"] == "local" { Err(local()) } else { Ok(()) }
}

/// What wrangler puts together has been built.
fn built(target: &Target) -> Result<(), Failure> {
    for name in ["entry.mjs", "build/index.js", "build/index_bg.wasm"] {
        let path = target.worker.join(name);
        if !path.is_file() {
            let folder = target.worker.display();
            return Err(Failure::new(
                Exit::NotFound,
                format!("the Worker is not built: {} is missing", path.display()),
            )
            .hint(format!("Build it: (cd {folder} && worker-build --profile worker)")));
        }
    }
    Ok(())
}

/// Everything that the Worker is going to ask for is there. Answers the database's id.
async fn ready(desk: &Desk) -> Result<String, Failure> {
    let deployment = described(desk).await?;
    for resource in deployment.resources() {
        if !matches!(find(&desk.api, desk.account(), &resource).await?, Found::There(_)) {
            return Err(not_provisioned(&resource));
        }
    }
    let drift = desk.target.file.drift(&deployment)?;
    if !drift.is_empty() {
        return Err(drifted(&desk.target.file.path().display().to_string(), &drift));
    }
    let Keys { account, turnstile, .. } = &desk.keys;
    let there = secrets(&desk.api, account, &desk.target.name).await?;
    let wanted = std::iter::once(MASTER_KEY).chain(turnstile.is_some().then_some(TURNSTILE_SECRET));
    for name in wanted {
        if !there.contains(name) {
            return Err(Failure::new(Exit::NotFound, format!("the Worker has no secret {name}"))
                .hint("Run `flare cloudflare provision`."));
        }
    }
    let missing = pending(&desk.api, account, &deployment.database).await?.missing;
    match missing.first() {
        None => Ok(deployment.database),
        Some(first) => {
            let what = format!("the database lacks {} migrations, {} first", missing.len(), first.name);
            Err(Failure::new(Exit::Conflict, what)
                .hint("Run `flare cloudflare migrate`: the new Worker needs the new schema."))
        }
    }
}
