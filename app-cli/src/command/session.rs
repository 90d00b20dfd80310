//! `flare session`: machines, and bringing them up and down.

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use crate::client::{Call, Client};
use crate::command::{exec, metrics, ports};
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::page::{self, PageArgs};
use crate::table::{card, field};
use crate::wait::{By, Look, Wait};

use super::session_wait::{STOP, judge_stop, running};

/// What can be done about sessions.
#[derive(Debug, Subcommand)]
pub enum Session {
    /// Make a session, or wake the one of that name.
    Up {
        /// Its name: 1 to 63 of a-z, 0-9 and -.
        name: String,
        /// The template, by id or name; only a new session needs it.
        #[arg(long, value_name = "TEMPLATE")]
        template: Option<String>,
        /// Whether to wait.
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// List them.
    List(PageArgs),
    /// Show one.
    Show {
        /// The session, by id or name.
        session: String,
    },
    /// Change its name, its sharing, or when it sleeps by itself.
    Set {
        /// The session, by id or name.
        session: String,
        /// Another name.
        #[arg(long)]
        name: Option<String>,
        /// Who else may work in it.
        #[arg(long, value_parser = ["private", "workspace"])]
        sharing: Option<String>,
        /// Idle time before it sleeps: 10s, 30m, 2h, 1d, never, or template for what its template says.
        #[arg(long, value_name = "TIME")]
        sleep_after: Option<String>,
    },
    /// Start one. If it is just stopping, that is waited for.
    Start(Steer),
    /// Put one to sleep; its files are kept.
    Stop {
        /// Which.
        #[command(flatten)]
        steer: Steer,
        /// End it at once, without a snapshot: the way out when it hangs.
        #[arg(long)]
        force: bool,
    },
    /// Begin a new life of its machine; its files are kept.
    Restart(Steer),
    /// Remove one, with its files and snapshots.
    Delete(Steer),
    /// Show its ports, or say who may look at one.
    Ports(ports::Ports),
    /// Run a command in it.
    Exec(exec::Exec),
    /// What its machine uses right now.
    #[command(visible_alias = "top")]
    Metrics(metrics::Metrics),
}

/// Names one session.
#[derive(Debug, Args)]
pub struct Steer {
    /// The session, by id or name.
    session: String,
    /// Whether to wait.
    #[command(flatten)]
    wait: WaitArgs,
}

/// Whether to wait.
#[derive(Debug, Args)]
pub struct WaitArgs {
    /// Return as soon as the server knows, without waiting for the end.
    #[arg(long)]
    no_wait: bool,
}

/// Runs `flare session`.
///
/// # Errors
/// When the server refuses, the session fails, or it takes too long.
pub async fn run(context: &Context, command: Session) -> Outcome {
    match command {
        Session::Up { name, template, wait } => up(context, &name, template.as_deref(), !wait.no_wait).await,
        Session::List(args) => list(context, &args).await,
        Session::Show { session } => {
            let document = context.client()?.json(&Call::get(&["sessions", &session])).await?;
            context.output.result(&document, || show(&document));
            Ok(0)
        }
        Session::Set { session, name, sharing, sleep_after } => {
            let wishes = [("name", name), ("sharing", sharing), ("sleep_after", sleep_after)];
            let body: serde_json::Map<String, Value> =
                wishes.into_iter().filter_map(|(key, wish)| Some((key.to_owned(), wish?.into()))).collect();
            if body.is_empty() {
                return Err(Failure::new(Exit::Usage, "there is nothing to change")
                    .hint("Name what to change: --name, --sharing or --sleep-after."));
            }
            let call = Call::new(Method::PATCH, &["sessions", &session]).json(&Value::Object(body));
            let document = context.client()?.json(&call).await?;
            context.output.result(&document, || show(&document));
            Ok(0)
        }
        Session::Start(steer) => {
            let client = context.client()?;
            let document = client.json(&Call::post(&["sessions", &steer.session, "start"])).await?;
            bring_up(context, &client, document, !steer.wait.no_wait, 0).await
        }
        Session::Stop { steer, force } => stop(context, &steer, force).await,
        Session::Restart(steer) => {
            let client = context.client()?;
            let document =
                client.json(&Call::post(&["sessions", &steer.session, "restart"]).json(&json!({}))).await?;
            // A machine that ran is ended first: running means its next life.
            let old = document["epoch"].as_u64().unwrap_or(0);
            let least = if document["state"] == "stopping" { old + 1 } else { old };
            bring_up(context, &client, document, !steer.wait.no_wait, least).await
        }
        Session::Delete(steer) => delete(context, &steer).await,
        Session::Ports(args) => ports::run(context, args).await,
        Session::Exec(args) => exec::run(context, args).await,
        Session::Metrics(args) => metrics::run(context, &args).await,
    }
}

async fn up(context: &Context, name: &str, template: Option<&str>, wait: bool) -> Outcome {
    let client = context.client()?;
    let document = match client.json(&Call::get(&["sessions", name])).await {
        Ok(found) => {
            if template.is_some_and(|wanted| wanted.starts_with("tpl_") && found["template"] != wanted) {
                context.output.warn(&format!(
                    "session {name} exists already and keeps its own template, {}.",
                    field(&found, "template")
                ));
            }
            client.json(&Call::post(&["sessions", name, "start"])).await?
        }
        Err(failure) if failure.exit == Exit::NotFound => {
            let Some(template) = template else {
                return Err(Failure {
                    hint: Some(format!("Make it: `flare session up {name} --template TEMPLATE`.")),
                    ..failure
                });
            };
            let body = json!({ "name": name, "template": template });
            match client.json(&Call::post(&["sessions"]).once().json(&body)).await {
                Err(failure) if failure.is("name_taken") => {
                    // Somebody was faster; then it is there to be woken.
                    client.json(&Call::post(&["sessions", name, "start"])).await?
                }
                other => other?,
            }
        }
        Err(failure) => return Err(failure),
    };
    bring_up(context, &client, document, wait, 0).await
}

async fn bring_up(
    context: &Context,
    client: &Client,
    document: Value,
    wait: bool,
    least_epoch: u64,
) -> Outcome {
    let document =
        if wait { running(context, client, &field(&document, "id"), least_epoch).await? } else { document };
    for warning in document["warnings"].as_array().into_iter().flatten() {
        context.output.warn(&format!("{}: {}", field(warning, "code"), field(warning, "message")));
    }
    // What holds of this host in general is doctor's to tell, and the server's at its start; these change what a
    // session may do to the machine.
    if document["runtime"]["isolation"] == "process" || document["runtime"]["network"] == "host" {
        for warning in document["runtime"]["warnings"].as_array().into_iter().flatten() {
            context.output.warn(warning.as_str().unwrap_or_default());
        }
    }
    context.output.result(&document, || {
        let name = field(&document, "name");
        if wait {
            format!("Session {name} ({}) runs.\nNext: flare ssh {name}", field(&document, "id"))
        } else {
            format!("Session {name} ({}) is {}.", field(&document, "id"), field(&document, "state"))
        }
    });
    Ok(0)
}

async fn stop(context: &Context, steer: &Steer, force: bool) -> Outcome {
    let client = context.client()?;
    let verb = if force { "force-stop" } else { "stop" };
    let mut document = client.json(&Call::post(&["sessions", &steer.session, verb])).await?;
    if !steer.wait.no_wait {
        let id = field(&document, "id");
        let call = Call::get(&["sessions", &id]);
        let wait = Wait {
            client: &client,
            call,
            subject: &id,
            until_gone: false,
            deadline: STOP,
            what: format!("stopping {id}"),
        };
        document = wait.run(context, By(judge_stop)).await?;
        if !document["failure"].is_null() {
            context.output.warn(&format!(
                "{}. {}",
                field(&document, "failure.message"),
                field(&document, "failure.hint")
            ));
        }
    }
    context.output.result(&document, || {
        format!("Session {} is {}.", field(&document, "name"), field(&document, "state"))
    });
    Ok(0)
}

async fn delete(context: &Context, steer: &Steer) -> Outcome {
    let client = context.client()?;
    let document = client.json(&Call::new(Method::DELETE, &["sessions", &steer.session])).await?;
    if !steer.wait.no_wait {
        // By id: another session may take the name the moment it is free.
        let id = document["id"].as_str().unwrap_or(&steer.session).to_owned();
        let call = Call::get(&["sessions", &id]);
        let wait = Wait {
            client: &client,
            call,
            subject: &id,
            until_gone: true,
            deadline: STOP,
            what: format!("deleting {id}"),
        };
        wait.run(context, By(|_: &Value| Look::Pending("session: deleting".to_owned()))).await?;
    }
    context.output.result(&document, || format!("Deleted session {}.", steer.session));
    Ok(0)
}

async fn list(context: &Context, args: &PageArgs) -> Outcome {
    let client = context.client()?;
    let row = |item: &Value| {
        ["id", "name", "state", "template", "changed_at"].map(|name| field(item, name)).to_vec()
    };
    let titles = ["ID", "NAME", "STATE", "TEMPLATE", "SINCE"];
    let empty = "No sessions yet: `flare session up NAME --template TEMPLATE` makes one.";
    page::list(context, &client, &Call::get(&["sessions"]), args, &titles, row, empty).await
}

fn show(document: &Value) -> String {
    let limits = document["runtime"]["limits"].as_object();
    let limits = limits.map_or_else(String::new, |limits| {
        limits
            .iter()
            .map(|(name, value)| format!("{name} {}", value.as_str().unwrap_or("?")))
            .collect::<Vec<_>>()
            .join(", ")
    });
    let mut pairs = vec![
        ("id", field(document, "id")),
        ("name", field(document, "name")),
        ("state", field(document, "state")),
        ("template", field(document, "template")),
        ("release", field(document, "release")),
        ("snapshot", field(document, "snapshot")),
        ("isolation", field(document, "runtime.isolation")),
        ("network", field(document, "runtime.network")),
        ("limits", limits),
        ("created", field(document, "created_at")),
        ("changed", field(document, "changed_at")),
    ];
    if !document["stopped_by"].is_null() {
        pairs.push(("stopped by", field(document, "stopped_by")));
    }
    if document["idle"].is_null() {
        pairs.push(("sleeps after", field(document, "sleep_after")));
    } else {
        pairs.push(("sleeps after", field(document, "idle.sleep_after")));
        pairs.push((
            "last active",
            format!("{} ({})", field(document, "idle.since"), field(document, "idle.reason")),
        ));
        let busy = document["idle"]["busy"].as_array().into_iter().flatten();
        let busy: Vec<String> =
            busy.map(|awake| format!("{} {}", field(awake, "count"), field(awake, "reason"))).collect();
        pairs.push(if busy.is_empty() {
            ("sleeps at", field(document, "idle.sleeps_at"))
        } else {
            ("held awake", busy.join(", "))
        });
    }
    if !document["failure"].is_null() {
        pairs.push(("failure", field(document, "failure.message")));
        pairs.push(("hint", field(document, "failure.hint")));
    }
    for warning in document["warnings"].as_array().into_iter().flatten() {
        pairs.push(("warning", field(warning, "message")));
    }
    for warning in document["runtime"]["warnings"].as_array().into_iter().flatten() {
        pairs.push(("warning", crate::output::clean(warning.as_str().unwrap_or_default())));
    }
    card(&pairs)
}
