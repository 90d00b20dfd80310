//! What is only looked at: `flare workspace`, `flare release`, `flare audit`.

use clap::Subcommand;
use serde_json::Value;

use crate::client::Call;
use crate::context::Context;
use crate::exit::Outcome;
use crate::page::{self, PageArgs};
use crate::table::field;

/// What can be done about workspaces.
#[derive(Debug, Subcommand)]
pub enum Workspace {
    /// List those you belong to.
    List(PageArgs),
}

/// What can be done about releases.
#[derive(Debug, Subcommand)]
pub enum Release {
    /// List them, newest first.
    List {
        /// Of this template alone.
        #[arg(long, value_name = "TEMPLATE")]
        template: Option<String>,
        /// How much of it.
        #[command(flatten)]
        page: PageArgs,
    },
}

fn row(names: &'static [&'static str]) -> impl Fn(&Value) -> Vec<String> + Send + Sync {
    |item| names.iter().map(|name| field(item, name)).collect()
}

/// Runs `flare workspace`.
///
/// # Errors
/// When the server refuses.
pub async fn workspace(context: &Context, Workspace::List(args): Workspace) -> Outcome {
    let client = context.client()?;
    let cells = row(&["id", "name", "role", "plan", "created_at"]);
    let titles = ["ID", "NAME", "ROLE", "PLAN", "CREATED"];
    page::list(context, &client, &Call::get(&["workspaces"]), &args, &titles, cells, "No workspaces.").await
}

/// Runs `flare release`.
///
/// # Errors
/// When the server refuses.
pub async fn release(context: &Context, Release::List { template, page }: Release) -> Outcome {
    let client = context.client()?;
    let mut call = Call::get(&["releases"]);
    if let Some(template) = &template {
        call = call.query("template", template);
    }
    let cells = row(&["id", "template", "number", "version", "cause", "created_at"]);
    let titles = ["ID", "TEMPLATE", "NUMBER", "VERSION", "CAUSE", "CREATED"];
    page::list(
        context,
        &client,
        &call,
        &page,
        &titles,
        cells,
        "No releases yet: `flare template promote` makes one.",
    )
    .await
}

/// Runs `flare audit`.
///
/// # Errors
/// When the server refuses.
pub async fn audit(context: &Context, args: PageArgs) -> Outcome {
    let client = context.client()?;
    let cells = row(&["at", "user", "action", "target", "ip"]);
    let titles = ["AT", "USER", "ACTION", "TARGET", "FROM"];
    page::list(context, &client, &Call::get(&["audit"]), &args, &titles, cells, "Nothing happened yet.").await
}
