//! `flare auth`: accounts and signing in.

use clap::Subcommand;
use serde_json::{Value, json};

use crate::client::Call;
use crate::context::Context;
use crate::credential::{Bearer, Tokens};
use crate::exit::{Failure, Outcome};
use crate::output::Paint;
use crate::table::{card, field};

/// What can be done about accounts.
#[derive(Debug, Subcommand)]
pub enum Auth {
    /// Make an account with a workspace of its own, and sign in.
    Register {
        /// Your e-mail address.
        #[arg(long, value_name = "ADDRESS")]
        email: String,
        /// The invite, or the first operator's code, where the server asks for one.
        #[arg(long, value_name = "CODE")]
        code: Option<String>,
    },
    /// Sign in again.
    Login {
        /// Your e-mail address.
        #[arg(long, value_name = "ADDRESS")]
        email: String,
        /// One of the codes you got when you registered; each works once.
        #[arg(long, value_name = "CODE")]
        recovery_code: String,
    },
    /// Sign out: the server forgets this sign-in, and so does this machine.
    Logout,
    /// Say who you are, where.
    Whoami,
    /// Print an access token that is good now, for scripts.
    Token,
}

/// Runs `flare auth`.
///
/// # Errors
/// When the server refuses.
pub async fn run(context: &Context, command: Auth) -> Outcome {
    match command {
        Auth::Register { email, code } => register(context, &email, code.as_deref()).await,
        Auth::Login { email, recovery_code } => login(context, &email, &recovery_code).await,
        Auth::Logout => logout(context).await,
        Auth::Whoami => whoami(context).await,
        Auth::Token => token(context).await,
    }
}

async fn register(context: &Context, email: &str, code: Option<&str>) -> Outcome {
    let client = context.anonymous()?;
    let store = context.store()?;
    // The codes are shown once: make sure first that what comes with them can be kept.
    store.prepare()?;
    let mut body = json!({ "email": email });
    if let Some(code) = code {
        body["code"] = json!(code.trim());
    }
    let call = Call::post(&["auth", "register"]).anonymous().json(&body);
    let _guard = crate::interrupt::guard();
    let mut document = client.json(&call).await?;
    if document.get("tokens").is_none() && document.get("recovery_codes").is_none() {
        context.output.note("Look into your mail: the server has sent the next step.");
        context.output.result(&document, String::new);
        return Ok(0);
    }
    let kept =
        Tokens::take(&mut document).and_then(|tokens| store.sign_in(client.origin(), tokens, Some(email)));
    // Whatever happened to the tokens, the codes are the way back in.
    context.output.result(&document, || welcome(context, &document));
    kept.map(|()| 0)
}

fn welcome(context: &Context, document: &Value) -> String {
    let codes = document["recovery_codes"].as_array().map_or(&[][..], Vec::as_slice);
    let mut text = format!(
        "Welcome, {}. Your workspace is {}.\n\n{}\n",
        field(document, "user.email"),
        context.output.paint(Paint::Bold, &field(document, "workspace.name")),
        context.output.paint(
            Paint::Warn,
            "Keep these recovery codes: each signs you in once, and they are not shown again."
        ),
    );
    for code in codes {
        text.push_str("  ");
        text.push_str(code.as_str().unwrap_or_default());
        text.push('\n');
    }
    text
}

async fn login(context: &Context, email: &str, code: &str) -> Outcome {
    let client = context.anonymous()?;
    let store = context.store()?;
    store.prepare()?;
    let body = json!({ "email": email, "code": code.trim() });
    let _guard = crate::interrupt::guard();
    let mut document = client.json(&Call::post(&["auth", "recover"]).anonymous().json(&body)).await?;
    let tokens = Tokens::take(&mut document)?;
    store.sign_in(client.origin(), tokens, Some(email))?;
    context.output.result(&document, || {
        format!(
            "Signed in as {} at {}. That code is used up.",
            field(&document, "user.email"),
            client.origin()
        )
    });
    Ok(0)
}

async fn logout(context: &Context) -> Outcome {
    if context.given_token()?.is_some() {
        return Err(Failure::usage("FLARE_TOKEN is set: there is no stored sign-in to end")
            .hint("Unset FLARE_TOKEN, or revoke that token with `flare token revoke`."));
    }
    let client = context.client()?;
    let told = client.send(&Call::post(&["auth", "logout"])).await;
    // A server that is gone or has forgotten us is no reason to stay signed in here.
    context.store()?.sign_out(client.origin())?;
    match told {
        Ok(_) => context.output.note(&format!("Signed out of {}.", client.origin())),
        Err(failure) if failure.exit == crate::exit::Exit::Auth => {
            context.output.note(&format!("You were not signed in at {} any more.", client.origin()));
        }
        Err(failure) => {
            context.output.warn(&format!(
                "this machine forgot the sign-in, but the server could not be told: {failure}"
            ));
        }
    }
    Ok(0)
}

async fn whoami(context: &Context) -> Outcome {
    let client = context.client()?;
    let document = client.json(&Call::get(&["me"])).await?;
    context.output.result(&document, || {
        card(&[
            ("user", field(&document, "user.email")),
            ("workspace", field(&document, "workspace.name")),
            ("role", field(&document, "role")),
            ("server", client.origin().to_string()),
        ])
    });
    Ok(0)
}

async fn token(context: &Context) -> Outcome {
    let client = context.client()?;
    let bearer = match context.given_token()? {
        Some(token) => Bearer::Given(token),
        None => Bearer::Stored(context.store()?),
    };
    let token = bearer.current(&client).await?.unwrap_or_default();
    let document = json!({ "token": token });
    context.output.result(&document, || token.clone());
    Ok(0)
}
