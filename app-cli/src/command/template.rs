//! `flare template`: folders, versions, releases.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::bundle;
use crate::client::Call;
use crate::command::{build, upload};
use crate::context::Context;
use crate::exit::{Failure, Outcome};
use crate::page::{self, PageArgs};
use crate::table::{card, field};

/// What can be done about templates.
#[derive(Debug, Subcommand)]
pub enum Template {
    /// Write a starter template into a folder; files that are there stay as they are.
    Init {
        /// The folder; the current one by default.
        #[arg(default_value = ".")]
        dir: PathBuf,
    },
    /// Make a template.
    Create {
        /// Its name: 1 to 63 of a-z, 0-9 and -.
        name: String,
    },
    /// List them.
    List(PageArgs),
    /// Show one.
    Show(One),
    /// Upload a folder as a new version and have it built.
    Upload(upload::Upload),
    /// Make a built version the one that new sessions get; waits for its build.
    Promote {
        /// The template, by id or name.
        template: String,
        /// The version, by id or label.
        version: String,
        /// Do not wait for a build that runs.
        #[arg(long)]
        no_wait: bool,
    },
    /// Make the release before the current one current again.
    Rollback(One),
    /// Put it away: no new versions or sessions.
    Archive(One),
    /// Take it out again.
    Restore(One),
    /// List its versions.
    Versions {
        /// The template, by id or name.
        template: String,
        /// How much of it.
        #[command(flatten)]
        page: PageArgs,
    },
}

/// Names one template.
#[derive(Debug, Args)]
pub struct One {
    /// The template, by id or name.
    template: String,
}

/// Runs `flare template`.
///
/// # Errors
/// When the input is not acceptable or the server refuses.
pub async fn run(context: &Context, command: Template) -> Outcome {
    match command {
        Template::Init { dir } => init(context, &dir),
        Template::Create { name } => {
            let body = json!({ "name": name });
            let document = context.client()?.json(&Call::post(&["templates"]).json(&body)).await?;
            context.output.result(&document, || {
                let id = field(&document, "id");
                format!("Made template {name}: {id}\nNext: flare template upload {id} --version 1")
            });
            Ok(0)
        }
        Template::List(args) => list(context, &args).await,
        Template::Show(One { template }) => {
            let document = context.client()?.json(&Call::get(&["templates", &template])).await?;
            context.output.result(&document, || show(&document));
            Ok(0)
        }
        Template::Upload(args) => upload::run(context, args).await,
        Template::Promote { template, version, no_wait } => {
            promote(context, &template, &version, !no_wait).await
        }
        Template::Rollback(One { template }) => {
            let document = context.client()?.json(&Call::post(&["templates", &template, "rollback"])).await?;
            context.output.result(&document, || released(&document));
            Ok(0)
        }
        Template::Archive(One { template }) => put_away(context, &template, "archive", "Archived").await,
        Template::Restore(One { template }) => put_away(context, &template, "restore", "Restored").await,
        Template::Versions { template, page } => versions(context, &template, &page).await,
    }
}

fn init(context: &Context, dir: &std::path::Path) -> Outcome {
    let had = bundle::is_template(dir);
    let written = bundle::write_starter(dir)?;
    let document = json!({ "dir": dir, "written": written });
    context.output.result(&document, || {
        if written.is_empty() {
            return format!("{} holds a template already.", dir.display());
        }
        let next = if had { "" } else { "\nNext: flare template upload TEMPLATE --version 1" };
        format!("Wrote {} into {}.{next}", written.join(", "), dir.display())
    });
    Ok(0)
}

async fn list(context: &Context, args: &PageArgs) -> Outcome {
    let client = context.client()?;
    let row = |item: &Value| {
        let state = if item["archived_at"].is_null() { "" } else { "archived" };
        vec![field(item, "id"), field(item, "name"), field(item, "current_release"), state.to_owned()]
    };
    let titles = ["ID", "NAME", "RELEASE", ""];
    let empty = "No templates yet: `flare template create NAME` makes one.";
    page::list(context, &client, &Call::get(&["templates"]), args, &titles, row, empty).await
}

async fn versions(context: &Context, template: &str, args: &PageArgs) -> Outcome {
    let client = context.client()?;
    let row = |item: &Value| {
        ["id", "label", "state", "build_id", "created_at"].map(|name| field(item, name)).to_vec()
    };
    let titles = ["ID", "LABEL", "STATE", "BUILD", "CREATED"];
    let call = Call::get(&["templates", template, "versions"]);
    page::list(
        context,
        &client,
        &call,
        args,
        &titles,
        row,
        "No versions yet: `flare template upload` makes one.",
    )
    .await
}

fn show(document: &Value) -> String {
    card(&[
        ("id", field(document, "id")),
        ("name", field(document, "name")),
        ("release", field(document, "current_release")),
        ("version", field(document, "current_version")),
        ("archived", field(document, "archived_at")),
        ("created", field(document, "created_at")),
    ])
}

fn released(document: &Value) -> String {
    format!("Release {} is current: version {}.", field(document, "number"), field(document, "version"))
}

async fn put_away(context: &Context, template: &str, verb: &str, done: &str) -> Outcome {
    let document = context.client()?.json(&Call::post(&["templates", template, verb])).await?;
    context.output.result(&document, || format!("{done} {template}."));
    Ok(0)
}

/// The server refuses while the version is built; the waiting is ours.
async fn promote(context: &Context, template: &str, version: &str, wait: bool) -> Outcome {
    let client = context.client()?;
    let call = Call::post(&["templates", template, "promote"]).json(&json!({ "version": version }));
    let document = match client.json(&call).await {
        Err(failure) if failure.is("build_running") && wait => {
            let about = client.json(&Call::get(&["templates", template, "versions", version])).await?;
            let build_id = about["build_id"].as_str().ok_or(failure)?;
            build::follow(context, &client, build_id).await?;
            client.json(&call).await?
        }
        Err(failure) if failure.is("build_failed") => {
            let about = client.json(&Call::get(&["templates", template, "versions", version])).await;
            if let Some(build_id) = about.as_ref().ok().and_then(|about| about["build_id"].as_str()) {
                build::show_tail(context, &client, build_id).await;
            }
            return Err(Failure { exit: crate::exit::Exit::Failed, ..failure });
        }
        other => other?,
    };
    context.output.result(&document, || {
        format!("{}\nNext: flare session up NAME --template {template}", released(&document))
    });
    Ok(0)
}
