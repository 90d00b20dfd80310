//! `flare open`: a session's port in a browser.

use std::io::IsTerminal as _;

use clap::Args;
use serde_json::{Value, json};

use super::ssh::{awake, find_program};
use crate::client::{Call, Client};
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::handover::{self, Shown};
use crate::table::field;

/// What to look at.
#[derive(Debug, Args)]
pub struct Open {
    /// The session, by id or name.
    session: String,
    /// The port, by number or by the manifest's name; left out where only one is open.
    port: Option<String>,
    /// Print the address instead of opening a browser.
    #[arg(long)]
    print: bool,
}

/// Runs `flare open`: wakes the session, gets a ticket, and shows the preview.
///
/// # Errors
/// When there is no such session or port, or the server has no previews.
pub async fn run(context: &Context, args: Open) -> Outcome {
    let client = context.client()?;
    let session = awake(context, &client, &args.session).await?;
    context.output.end_progress();
    let id = field(&session, "id");
    let port = choose(&client, &id, args.port.as_deref()).await?;
    let wish = json!({ "purpose": "preview", "port": port });
    let attached = client.json(&Call::post(&["sessions", &id, "attach"]).json(&wish)).await?;
    let (url, ticket) =
        (attached["url"].as_str().unwrap_or_default(), attached["ticket"].as_str().unwrap_or_default());
    // It is handed to a browser, so it has to be something for one.
    let web = url.starts_with("http://") || url.starts_with("https://");
    let plain = [url, ticket].iter().all(|text| text.bytes().all(|byte| byte.is_ascii_graphic()));
    if !web || !plain || ticket.is_empty() {
        return Err(Failure::new(Exit::Other, "the server's ticket is not what this version understands"));
    }
    let address = format!("{url}?ticket={ticket}");
    let person = std::io::stdout().is_terminal() && !context.output.is_json();
    if person && !args.print && browse(context, &address).await {
        return Ok(0);
    }
    context.output.result(&attached, || address);
    Ok(0)
}

/// The number of a port that is asked for by number, by name, or not at all.
///
/// # Errors
/// When no port, or more than one, is meant.
async fn choose(client: &Client, session: &str, wanted: Option<&str>) -> Result<u16, Failure> {
    if let Some(number) = wanted.and_then(|text| text.parse::<u16>().ok()) {
        return Ok(number);
    }
    let list = client.json(&Call::get(&["sessions", session, "ports"])).await?;
    let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let number = |item: &Value| item["port"].as_u64().and_then(|port| u16::try_from(port).ok());
    if let Some(name) = wanted {
        let found = items.iter().find(|item| item["name"] == name).and_then(number);
        return found.ok_or_else(|| {
            Failure::new(Exit::NotFound, format!("no port of the session is called {name}"))
                .hint("`flare session ports` lists them; any port goes by its number.")
        });
    }
    let open: Vec<u16> = items.iter().filter(|item| item["open"] == true).filter_map(number).collect();
    match open.as_slice() {
        [one] => Ok(*one),
        [] => Err(Failure::new(Exit::NotFound, "nothing listens in the session")
            .hint("Start the application there, or name the port it will listen on.")),
        many => Err(Failure::usage(format!(
            "several ports are open: {}",
            many.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
        ))
        .hint("Say which one: `flare open SESSION PORT`.")),
    }
}

/// Hands an address to the desktop; the ticket in it is good for one visit. Answers whether a browser came.
async fn browse(context: &Context, address: &str) -> bool {
    let Some(opener) = find_program("xdg-open") else { return false };
    context.output.progress("Waiting for the browser.");
    let shown = handover::show(&opener, address).await;
    context.output.end_progress();
    match shown {
        Ok(Shown::Yes) => {
            context.output.note("The browser opens it.");
            return true;
        }
        Ok(Shown::Nobody) => {
            context.output.warn("no browser came; `flare open --print` shows an address for one.");
            // The ticket's minute is over.
            return true;
        }
        Ok(Shown::NoOpener) => {}
        Err(error) => tracing::debug!(%error, "the desktop was not asked"),
    }
    false
}
