//! `flare session metrics`: what a session's machine uses, once or again and again.

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use crate::client::Call;
use crate::context::Context;
use crate::exit::Outcome;
use crate::output::Paint;
use crate::table::{field, table};
use crate::text::{bytes, span};

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(2);

/// Whose, and how often.
#[derive(Debug, Args)]
pub struct Metrics {
    /// The session, by id or name.
    session: String,
    /// Looks every two seconds until it is interrupted.
    #[arg(long, short)]
    watch: bool,
}

/// Runs `flare session metrics`.
///
/// # Errors
/// When the server refuses, or the session does not run.
pub async fn run(context: &Context, args: &Metrics) -> Outcome {
    let client = context.client()?;
    let call = Call::get(&["sessions", &args.session, "metrics"]);
    loop {
        let document = client.json(&call).await?;
        // A terminal shows the newest in place; anything else gets one after the other.
        if args.watch && !context.output.is_json() && std::io::stdout().is_terminal() {
            context.output.out("\x1b[H\x1b[2J");
        }
        context.output.result(&document, || show(context, &args.session, &document));
        if !args.watch {
            return Ok(0);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn show(context: &Context, session: &str, document: &Value) -> String {
    let number = |path: &str| field(document, path).parse::<u64>().unwrap_or(0);
    let row = |title: &str, name: &str, text: fn(u64) -> String| {
        let (used, limit) = (number(&format!("{name}.used")), document[name]["limit"].as_u64());
        let share = limit
            .filter(|limit| *limit > 0)
            .map_or_else(|| "-".to_owned(), |limit| format!("{} %", used * 100 / limit));
        let limit = limit.map_or_else(|| "-".to_owned(), text);
        vec![title.to_owned(), text(used), limit, share, field(document, &format!("{name}.enforcement"))]
    };
    let rows = [
        row("cpu", "cpu_millicores", |millis| format!("{}.{:02} cores", millis / 1000, millis % 1000 / 10)),
        row("memory", "memory", bytes),
        row("disk", "disk", bytes),
        row("processes", "processes", |count| count.to_string()),
    ];
    let uptime = span(Duration::from_millis(number("uptime_ms")));
    let idle = span(Duration::from_millis(number("idle_ms")));
    let head = format!("{session}: up {uptime}, active {idle} ago ({})", field(document, "active_by"));
    format!(
        "{}\n{}",
        context.output.paint(Paint::Bold, &head),
        table(&["", "USED", "LIMIT", "SHARE", "LIMIT IS"], &rows)
    )
}
