//! Lists: one page as JSON, all pages for people.

use serde_json::Value;

use crate::client::{Call, Client};
use crate::context::Context;
use crate::exit::{Failure, Outcome};

/// How much of a list to show.
#[derive(Debug, Clone, clap::Args)]
pub struct PageArgs {
    /// At most so many items (1 to 200 a page); without it people get everything, JSON the first page.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=200))]
    limit: Option<u16>,
    /// Begin where an earlier page ended (its `next_cursor`).
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
}

/// Rows that are shown to people before they are asked to narrow it down.
const MOST: usize = 2000;

/// Fetches and shows a list; `row` makes a row of an item. JSON is one page as the server answers it.
///
/// # Errors
/// When the server refuses.
pub async fn list(
    context: &Context,
    client: &Client,
    call: &Call,
    args: &PageArgs,
    titles: &[&str],
    row: impl Fn(&Value) -> Vec<String> + Send + Sync,
    empty: &str,
) -> Outcome {
    let page = fetch(client, call, args.limit, args.cursor.as_deref()).await?;
    if context.output.is_json() {
        context.output.result(&page, String::new);
        return Ok(0);
    }
    let mut rows: Vec<Vec<String>> = items(&page).iter().map(&row).collect();
    let mut next = page["next_cursor"].as_str().map(str::to_owned);
    let first = rows.len();
    while let Some(cursor) = next.take_if(|_| args.limit.is_none() && rows.len() < MOST) {
        context.output.progress(&format!("{} so far …", rows.len()));
        let page = fetch(client, call, Some(200), Some(&cursor)).await?;
        rows.extend(items(&page).iter().map(&row));
        next = page["next_cursor"].as_str().map(str::to_owned);
    }
    if rows.is_empty() {
        context.output.note(empty);
        return Ok(0);
    }
    context.output.out(&crate::table::table(titles, &rows));
    if let Some(cursor) = next {
        context.output.note(&format!("There is more: add `--cursor {cursor}`."));
    } else if rows.len() > first {
        context.output.note(&format!("{} in all.", rows.len()));
    }
    Ok(0)
}

fn items(page: &Value) -> &[Value] {
    page["items"].as_array().map_or(&[], Vec::as_slice)
}

async fn fetch(
    client: &Client,
    call: &Call,
    limit: Option<u16>,
    cursor: Option<&str>,
) -> Result<Value, Failure> {
    let mut call = call.clone();
    if let Some(limit) = limit {
        call = call.query("limit", &limit.to_string());
    }
    if let Some(cursor) = cursor {
        call = call.query("cursor", cursor);
    }
    client.json(&call).await
}
