//! `flare build`: the making of versions.

use std::io::IsTerminal;
use std::time::Duration;

use burstflare_app_edge::LOG_ATTEMPT;
use bytes::Bytes;
use clap::Subcommand;
use serde_json::Value;

use crate::client::{Call, Client};
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::clean_log;
use crate::page::{self, PageArgs};
use crate::table::{card, field};
use crate::wait::{AsyncLook, By, Look, Wait};

/// A build that runs longer than this is not waited for.
const DEADLINE: Duration = Duration::from_secs(4 * 3600);
/// Lines of a failed build's log that are shown without being asked for.
const TAIL: usize = 40;

/// What can be done about builds.
#[derive(Debug, Subcommand)]
pub enum Build {
    /// List them, newest first.
    List(PageArgs),
    /// Show one.
    Show {
        /// Its id.
        build: String,
    },
    /// Print its log.
    Log {
        /// Its id.
        build: String,
        /// Go on until the build is over.
        #[arg(long, short)]
        follow: bool,
    },
    /// Try a failed or cancelled one again.
    Retry {
        /// Its id.
        build: String,
    },
    /// End one that waits or runs.
    Cancel {
        /// Its id.
        build: String,
    },
}

/// Runs `flare build`.
///
/// # Errors
/// When the server refuses.
pub async fn run(context: &Context, command: Build) -> Outcome {
    let client = context.client()?;
    match command {
        Build::List(args) => {
            let row = |item: &Value| {
                ["id", "state", "step", "attempt", "version", "created_at"]
                    .map(|name| field(item, name))
                    .to_vec()
            };
            let titles = ["ID", "STATE", "STEP", "ATTEMPT", "VERSION", "CREATED"];
            let empty = "No builds yet: `flare template upload` begins one.";
            return page::list(context, &client, &Call::get(&["builds"]), &args, &titles, row, empty).await;
        }
        Build::Show { build } => {
            let document = client.json(&Call::get(&["builds", &build])).await?;
            context.output.result(&document, || show(&document));
        }
        Build::Log { build, follow } => return log(context, &client, &build, follow).await,
        Build::Retry { build } => {
            let document = client.json(&Call::post(&["builds", &build, "retry"])).await?;
            context.output.result(&document, || format!("Build {build} is queued again."));
        }
        Build::Cancel { build } => {
            let document = client.json(&Call::post(&["builds", &build, "cancel"])).await?;
            context.output.result(&document, || format!("Cancelled build {build}."));
        }
    }
    Ok(0)
}

fn show(document: &Value) -> String {
    let mut pairs = vec![
        ("id", field(document, "id")),
        ("state", field(document, "state")),
        ("step", field(document, "step")),
        ("attempt", field(document, "attempt")),
        ("template", field(document, "template")),
        ("version", field(document, "version")),
        ("created", field(document, "created_at")),
        ("finished", field(document, "finished_at")),
    ];
    if !document["failure"].is_null() {
        pairs.push(("failure", field(document, "failure.message")));
        pairs.push(("hint", field(document, "failure.hint")));
    }
    card(&pairs)
}

/// Waits until a build is over, showing its steps.
///
/// # Errors
/// `Failed` with the end of its log shown, when it did not succeed.
pub async fn follow(context: &Context, client: &Client, build: &str) -> Result<(), Failure> {
    let call = Call::get(&["builds", build]);
    let what = format!("build {build}");
    let wait = Wait { client, call, subject: build, until_gone: false, deadline: DEADLINE, what };
    let ended = wait.run(context, By(|document: &Value| judge(document))).await;
    if ended.as_ref().is_err_and(|failure| failure.exit == Exit::Failed) {
        show_tail(context, client, build).await;
    }
    ended.map(drop)
}

fn judge(document: &Value) -> Look {
    match document["state"].as_str().unwrap_or_default() {
        "succeeded" => Look::Done,
        "failed" => {
            let hint = document["failure"]["hint"].as_str().map(str::to_owned);
            let message = format!("the build failed: {}", field(document, "failure.message"));
            let code = document["failure"]["code"].as_str().map(str::to_owned);
            Look::Never(Failure { exit: Exit::Failed, code, message, hint, request_id: None })
        }
        "cancelled" => Look::Never(
            Failure::new(Exit::Failed, "the build was cancelled")
                .hint(format!("Try it again with `flare build retry {}`.", field(document, "id"))),
        ),
        "queued" if document["attempt"].as_u64().unwrap_or(1) > 1 => {
            Look::Pending(format!("build: waiting for attempt {}", document["attempt"]))
        }
        "queued" => Look::Pending("build: waiting".to_owned()),
        _ => Look::Pending(format!(
            "build: {} (of {} steps)",
            field(document, "step"),
            field(document, "steps")
        )),
    }
}

/// Shows the end of a build's log on standard error.
pub async fn show_tail(context: &Context, client: &Client, build: &str) {
    let mut log = Log::new(client, build);
    let mut kept: Vec<u8> = Vec::new();
    while let Ok(Some(piece)) = log.next().await {
        kept.extend_from_slice(&piece);
        let surplus = kept.len().saturating_sub(64 << 10);
        kept.drain(..surplus);
    }
    let text = String::from_utf8_lossy(&kept);
    let lines: Vec<&str> = text.lines().collect();
    let tail = &lines[lines.len().saturating_sub(TAIL)..];
    if tail.is_empty() {
        return;
    }
    context.output.note(&format!("The end of its log (all of it: flare build log {build}):"));
    for line in tail {
        context.output.err_bytes(format!("  {}\n", clean_log(line)).as_bytes());
    }
}

async fn log(context: &Context, client: &Client, build: &str, follow: bool) -> Outcome {
    let mut printer = Printer { context, log: Log::new(client, build) };
    if !follow {
        printer.print().await?;
        return Ok(0);
    }
    let call = Call::get(&["builds", build]);
    let wait = Wait {
        client,
        call,
        subject: build,
        until_gone: false,
        deadline: DEADLINE,
        what: format!("build {build}"),
    };
    wait.run(context, printer).await?;
    Ok(0)
}

/// Prints what is new of the log at each look.
struct Printer<'a> {
    context: &'a Context,
    log: Log<'a>,
}

impl Printer<'_> {
    async fn print(&mut self) -> Result<(), Failure> {
        let terminal = std::io::stdout().is_terminal();
        while let Some(piece) = self.log.next().await? {
            if terminal {
                self.context.output.out(&clean_log(&String::from_utf8_lossy(&piece)));
            } else {
                self.context.output.out_bytes(&piece);
            }
        }
        Ok(())
    }
}

impl AsyncLook for Printer<'_> {
    async fn look(&mut self, document: &Value) -> Result<Look, Failure> {
        self.print().await?;
        Ok(match judge(document) {
            // The log itself shows where it is.
            Look::Pending(state) => Look::Pending(if self.log.offset > 0 { String::new() } else { state }),
            look => look,
        })
    }
}

/// Reads a log piece by piece; each attempt has one of its own.
struct Log<'a> {
    client: &'a Client,
    build: &'a str,
    attempt: Option<String>,
    offset: u64,
}

impl<'a> Log<'a> {
    fn new(client: &'a Client, build: &'a str) -> Self {
        Self { client, build, attempt: None, offset: 0 }
    }

    /// What is there behind the last piece; `None` when there is nothing yet.
    async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        let (attempt, piece) = self.read().await?;
        if self.attempt.is_some() && self.attempt != attempt && self.offset > 0 {
            // Another attempt has begun: its log is read from the start.
            self.offset = 0;
            self.attempt = attempt;
            let (_, piece) = self.read().await?;
            return Ok(self.take(piece));
        }
        self.attempt = attempt;
        Ok(self.take(piece))
    }

    fn take(&mut self, piece: Bytes) -> Option<Bytes> {
        self.offset += piece.len() as u64;
        (!piece.is_empty()).then_some(piece)
    }

    async fn read(&self) -> Result<(Option<String>, Bytes), Failure> {
        let call = Call::get(&["builds", self.build, "log"])
            .query("offset", &self.offset.to_string())
            .accept("text/plain, application/problem+json");
        let reply = self.client.send(&call).await?;
        let attempt = reply.header(LOG_ATTEMPT).map(str::to_owned);
        Ok((attempt, reply.bytes().await?))
    }
}
