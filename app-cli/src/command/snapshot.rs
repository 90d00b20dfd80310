//! `flare snapshot`: kept states of sessions.

use std::time::Duration;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use crate::client::{Call, Client};
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::page::{self, PageArgs};
use crate::table::{card, field};
use crate::wait::{By, Look, Wait};

use super::session_wait::running;

/// A little longer than the server's own deadline of a snapshot, so that its reason is the one that is shown.
const TAKE: Duration = Duration::from_secs(960);

/// What can be done about snapshots.
#[derive(Debug, Subcommand)]
pub enum Snapshot {
    /// Take one of a running session.
    Create {
        /// The session, by id or name.
        session: String,
        /// What to call it; a named one is kept until you delete it.
        #[arg(long)]
        label: Option<String>,
        /// Whether to wait.
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// List those of a session, newest first.
    List {
        /// The session, by id or name.
        session: String,
        /// How much of it.
        #[command(flatten)]
        page: PageArgs,
    },
    /// Show one.
    Show {
        /// The snapshot, by id or label.
        snapshot: String,
    },
    /// Name one, or take its name away.
    Label {
        /// The snapshot, by id or label.
        snapshot: String,
        /// What to call it; without it, its name goes.
        label: Option<String>,
    },
    /// Show what differs from an earlier one.
    Diff {
        /// The snapshot, by id or label.
        snapshot: String,
        /// The earlier one; by default the one it was taken on top of.
        #[arg(long, value_name = "SNAPSHOT")]
        against: Option<String>,
        /// How much of it.
        #[command(flatten)]
        page: PageArgs,
    },
    /// Give its session these files again. What a running one has is snapshotted first.
    Restore {
        /// The snapshot, by id or label.
        snapshot: String,
        /// Lose what is on the session's disk and in no snapshot.
        #[arg(long)]
        discard: bool,
        /// Whether to wait.
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Make a new session with these files.
    Fork {
        /// The snapshot, by id or label.
        snapshot: String,
        /// The new session's name: 1 to 63 of a-z, 0-9 and -.
        name: String,
        /// Who else may work in it.
        #[arg(long, value_parser = ["private", "workspace"])]
        sharing: Option<String>,
        /// Whether to wait.
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Delete one.
    Delete {
        /// The snapshot, by id or label.
        snapshot: String,
    },
}

/// Whether to wait.
#[derive(Debug, Args)]
pub struct WaitArgs {
    /// Return as soon as the server knows, without waiting for the end.
    #[arg(long)]
    no_wait: bool,
}

/// Runs `flare snapshot`.
///
/// # Errors
/// When the server refuses, the snapshot or session fails, or it takes too long.
pub async fn run(context: &Context, command: Snapshot) -> Outcome {
    let client = context.client()?;
    match command {
        Snapshot::Create { session, label, wait } => {
            create(context, &client, &session, label, !wait.no_wait).await
        }
        Snapshot::List { session, page } => list(context, &client, &session, &page).await,
        Snapshot::Show { snapshot } => {
            let document = client.json(&Call::get(&["snapshots", &snapshot])).await?;
            context.output.result(&document, || show(&document));
            Ok(0)
        }
        Snapshot::Label { snapshot, label } => {
            let call = Call::new(Method::PATCH, &["snapshots", &snapshot]).json(&json!({ "label": label }));
            let document = client.json(&call).await?;
            context.output.result(&document, || show(&document));
            Ok(0)
        }
        Snapshot::Diff { snapshot, against, page } => {
            diff(context, &client, &snapshot, against.as_deref(), &page).await
        }
        Snapshot::Restore { snapshot, discard, wait } => {
            restore(context, &client, &snapshot, discard, !wait.no_wait).await
        }
        Snapshot::Fork { snapshot, name, sharing, wait } => {
            fork(context, &client, &snapshot, &name, sharing, !wait.no_wait).await
        }
        Snapshot::Delete { snapshot } => {
            // Shown afterwards, so it is read before.
            let document = client.json(&Call::get(&["snapshots", &snapshot])).await?;
            let id = field(&document, "id");
            client.json(&Call::new(Method::DELETE, &["snapshots", &id])).await?;
            context.output.result(&document, || format!("Deleted snapshot {id}."));
            Ok(0)
        }
    }
}

async fn create(
    context: &Context,
    client: &Client,
    session: &str,
    label: Option<String>,
    wait: bool,
) -> Outcome {
    let body = label.map_or_else(|| json!({}), |label| json!({ "label": label }));
    let call = Call::post(&["sessions", session, "snapshots"]).once().json(&body);
    let mut document = client.json(&call).await?;
    if wait {
        document = taken(context, client, document).await?;
    }
    context.output.result(&document, || {
        format!("Snapshot {} is {}.", field(&document, "id"), field(&document, "state"))
    });
    Ok(0)
}

/// Waits until a snapshot is complete.
async fn taken(context: &Context, client: &Client, document: Value) -> Result<Value, Failure> {
    let id = field(&document, "id");
    let wait = Wait {
        client,
        call: Call::get(&["snapshots", &id]),
        subject: &id,
        until_gone: false,
        deadline: TAKE,
        what: format!("taking {id}"),
    };
    wait.run(
        context,
        By(|document: &Value| match document["state"].as_str() {
            Some("complete") => Look::Done,
            Some("failed") => Look::Never(failed(document, "the snapshot could not be taken")),
            _ => Look::Pending("snapshot: being taken".to_owned()),
        }),
    )
    .await
}

fn failed(document: &Value, what: &str) -> Failure {
    let failure = &document["failure"];
    let text = |name: &str| failure[name].as_str().map(str::to_owned);
    let message = text("message").map_or_else(|| what.to_owned(), |why| format!("{what}: {why}"));
    Failure { exit: Exit::Failed, code: text("code"), message, hint: text("hint"), request_id: None }
}

async fn list(context: &Context, client: &Client, session: &str, page: &PageArgs) -> Outcome {
    let call = Call::get(&["sessions", session, "snapshots"]);
    let names = ["id", "label", "kind", "state", "files", "bytes", "created_at"];
    let row = |item: &Value| names.map(|name| field(item, name)).to_vec();
    let titles = ["ID", "LABEL", "KIND", "STATE", "FILES", "BYTES", "CREATED"];
    let empty = "No snapshots yet: `flare snapshot create` and stopping make one.";
    page::list(context, client, &call, page, &titles, row, empty).await
}

async fn diff(
    context: &Context,
    client: &Client,
    snapshot: &str,
    against: Option<&str>,
    page: &PageArgs,
) -> Outcome {
    let mut call = Call::get(&["snapshots", snapshot, "diff"]);
    if let Some(against) = against {
        call = call.query("against", against);
    }
    let row = |item: &Value| {
        let mut how = Vec::new();
        for (flag, word) in
            [("type_changed", "type"), ("content_changed", "content"), ("mode_changed", "mode")]
        {
            if item[flag] == true {
                how.push(word);
            }
        }
        let mut cells = ["change", "kind"].map(|name| field(item, name)).to_vec();
        cells.push(how.join(","));
        cells.extend(["size_before", "size_after", "path"].map(|name| field(item, name)));
        cells
    };
    let titles = ["CHANGE", "KIND", "HOW", "BEFORE", "AFTER", "PATH"];
    page::list(context, client, &call, page, &titles, row, "Nothing differs.").await
}

async fn restore(context: &Context, client: &Client, snapshot: &str, discard: bool, wait: bool) -> Outcome {
    let body = json!({ "discard_unsaved": discard });
    let call = Call::post(&["snapshots", snapshot, "restore"]).json(&body);
    let mut document = client.json(&call).await?;
    if wait {
        // A machine that ran is ended first: running means its next life.
        let old = document["epoch"].as_u64().unwrap_or(0);
        let least = if document["state"] == "stopping" { old + 1 } else { old };
        let wanted = field(&document, "restore");
        document = running(context, client, &field(&document, "id"), least).await?;
        if document["restore"].is_null() && field(&document, "snapshot") != wanted {
            return Err(failed(&document, "the session runs, but with the files it had"));
        }
    }
    context.output.result(&document, || {
        let (name, state) = (field(&document, "name"), field(&document, "state"));
        if wait {
            format!("Session {name} runs with these files.")
        } else {
            format!("Session {name} is {state}.")
        }
    });
    Ok(0)
}

async fn fork(
    context: &Context,
    client: &Client,
    snapshot: &str,
    name: &str,
    sharing: Option<String>,
    wait: bool,
) -> Outcome {
    let origin = client.json(&Call::get(&["snapshots", snapshot])).await?;
    let mut body = json!({ "name": name, "snapshot": field(&origin, "id") });
    if let Some(sharing) = sharing {
        body["sharing"] = sharing.into();
    }
    let call = Call::post(&["sessions", &field(&origin, "session"), "fork"]).once().json(&body);
    let mut document = client.json(&call).await?;
    if wait {
        document = running(context, client, &field(&document, "id"), 0).await?;
    }
    context.output.result(&document, || {
        let id = field(&document, "id");
        if wait {
            format!("Session {name} ({id}) runs.\nNext: flare ssh {name}")
        } else {
            format!("Session {name} ({id}) is {}.", field(&document, "state"))
        }
    });
    Ok(0)
}

fn show(document: &Value) -> String {
    let mut pairs: Vec<(&str, String)> = [
        ("id", "id"),
        ("label", "label"),
        ("session", "session"),
        ("kind", "kind"),
        ("state", "state"),
        ("files", "files"),
        ("bytes", "bytes"),
        ("stored", "stored"),
        ("packed", "packed"),
        ("format", "format"),
        ("digest", "digest"),
        ("parent", "parent"),
        ("created", "created_at"),
        ("verified", "verified_at"),
        ("expires", "expires_at"),
    ]
    .map(|(title, name)| (title, field(document, name)))
    .to_vec();
    if !document["failure"].is_null() {
        pairs.push(("failure", field(document, "failure.message")));
        pairs.push(("hint", field(document, "failure.hint")));
    }
    card(&pairs)
}
