//! `flare token`: personal API tokens.

use clap::{Subcommand, ValueEnum};
use serde_json::json;

use crate::client::Call;
use crate::context::Context;
use crate::exit::Outcome;
use crate::page::{self, PageArgs};
use crate::table::field;

/// What can be done about personal tokens.
#[derive(Debug, Subcommand)]
pub enum Token {
    /// Make one. Its text is shown once.
    Create {
        /// What it is for.
        name: String,
        /// What it may be used for; give it several times.
        #[arg(long = "scope", value_enum, default_values_t = [Scope::Read, Scope::Write, Scope::Attach])]
        scopes: Vec<Scope>,
        /// For how many days it is good.
        #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u64).range(1..=3650))]
        expires_in_days: Option<u64>,
    },
    /// List yours.
    List(PageArgs),
    /// End one at once.
    Revoke {
        /// Its id.
        id: String,
    },
}

/// What a token may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scope {
    /// Requests that change nothing.
    Read,
    /// Requests that change something.
    Write,
    /// Getting into sessions.
    Attach,
}

impl Scope {
    const fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Attach => "attach",
        }
    }
}

/// Runs `flare token`.
///
/// # Errors
/// When the server refuses.
pub async fn run(context: &Context, command: Token) -> Outcome {
    let client = context.client()?;
    match command {
        Token::Create { name, scopes, expires_in_days } => {
            let words: Vec<_> = scopes.into_iter().map(Scope::word).collect();
            let mut body = json!({ "name": name, "scopes": words });
            if let Some(days) = expires_in_days {
                body["expires_in_s"] = json!(days * 86_400);
            }
            let document = client.json(&Call::post(&["tokens"]).json(&body)).await?;
            context.output.note("This token is shown once. Use it as FLARE_TOKEN together with FLARE_URL.");
            context.output.result(&document, || field(&document, "token"));
        }
        Token::List(args) => {
            let titles = ["ID", "NAME", "SCOPES", "EXPIRES"];
            let row = |item: &serde_json::Value| {
                ["id", "name", "scopes", "expires_at"].map(|name| field(item, name)).to_vec()
            };
            return page::list(
                context,
                &client,
                &Call::get(&["tokens"]),
                &args,
                &titles,
                row,
                "No personal tokens.",
            )
            .await;
        }
        Token::Revoke { id } => {
            client.send(&Call::new(http::Method::DELETE, &["tokens", &id])).await?;
            context.output.note(&format!("Revoked {id}."));
        }
    }
    Ok(0)
}
