//! `flare session ports`: what listens, and who may look.

use clap::Args;
use http::Method;
use serde_json::{Value, json};

use crate::client::Call;
use crate::context::Context;
use crate::exit::Outcome;
use crate::table::{field, table};

/// What about a session's ports.
#[derive(Debug, Args)]
pub struct Ports {
    /// The session, by id or name.
    session: String,
    /// Say who may look at a port: PORT=private, PORT=workspace or PORT=public.
    #[arg(long, value_name = "PORT=WHO", value_parser = setting)]
    set: Option<(u16, String)>,
    /// Until when (RFC 3339); then the manifest's word counts again.
    #[arg(long, value_name = "TIME", requires = "set")]
    until: Option<String>,
}

fn setting(text: &str) -> Result<(u16, String), String> {
    let (port, who) = text.split_once('=').ok_or("write it as PORT=WHO")?;
    let port = port.parse().map_err(|_| format!("`{port}` is no port"))?;
    if !["private", "workspace", "public"].contains(&who) {
        return Err(format!("`{who}` is none of private, workspace and public"));
    }
    Ok((port, who.to_owned()))
}

/// Runs `flare session ports`.
///
/// # Errors
/// When there is no such session, or it is not yours to open.
pub async fn run(context: &Context, args: Ports) -> Outcome {
    let client = context.client()?;
    if let Some((port, who)) = args.set {
        let mut wish = json!({ "visibility": who });
        if let Some(until) = args.until {
            wish["expires_at"] = json!(until);
        }
        let call = Call::new(Method::PUT, &["sessions", &args.session, "ports", &port.to_string()]);
        let document = client.json(&call.json(&wish)).await?;
        context.output.result(&document, || {
            let url = document["url"].as_str().map(|url| format!(" at {url}")).unwrap_or_default();
            format!("Port {port} is {}{url}.", field(&document, "visibility"))
        });
        return Ok(0);
    }
    let document = client.json(&Call::get(&["sessions", &args.session, "ports"])).await?;
    context.output.result(&document, || show(&document));
    Ok(0)
}

fn show(document: &Value) -> String {
    let items = document["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    if items.is_empty() {
        return "Nothing listens, and the manifest names no ports.".to_owned();
    }
    let row = |item: &Value| {
        let open = if item["open"] == true { "open" } else { "closed" };
        let shown = ["name", "process", "visibility", "expires_at", "url"].map(|name| field(item, name));
        [vec![field(item, "port"), open.to_owned()], shown.to_vec()].concat()
    };
    let titles = ["PORT", "STATE", "NAME", "PROCESS", "VISIBILITY", "UNTIL", "URL"];
    table(&titles, &items.iter().map(row).collect::<Vec<_>>())
}
