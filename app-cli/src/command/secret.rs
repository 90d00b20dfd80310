//! `flare secret`: values that the workspace's sessions get and nobody reads again.

use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::os::fd::AsFd;

use clap::{Args, Subcommand};
use http::Method;
use rustix::termios::{LocalModes, OptionalActions, Termios};
use serde_json::{Value, json};

use crate::client::Call;
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::page::{self, PageArgs};
use crate::table::field;

/// Bytes of a value; what is longer is not sent.
const LONGEST: u64 = 64 << 10;

/// What can be done about secrets.
#[derive(Debug, Subcommand)]
pub enum Secret {
    /// Set one: its value is read from standard input, or asked for. Sessions that run are told at once.
    Set(Set),
    /// List them, without their values.
    List(PageArgs),
    /// Delete one, from sessions that run, too.
    Delete {
        /// Its name.
        name: String,
    },
}

/// Names a secret, never its value: arguments are seen by everybody on the machine.
#[derive(Debug, Args)]
pub struct Set {
    /// The variable that processes will find it in.
    name: String,
    /// Keep the line end behind the value; one is taken off otherwise.
    #[arg(long)]
    raw: bool,
}

/// Runs `flare secret`.
///
/// # Errors
/// When the server refuses, or the value cannot be read.
pub async fn run(context: &Context, command: Secret) -> Outcome {
    let client = context.client()?;
    match command {
        Secret::Set(Set { name, raw }) => {
            let value = read(&name, raw)?;
            let call = Call::new(Method::PUT, &["secrets", &name]).json(&json!({ "value": value }));
            let document = client.json(&call).await?;
            context.output.result(&document, || {
                format!(
                    "Set {name}, version {}. Processes that sessions start from now on find it.",
                    field(&document, "version")
                )
            });
        }
        Secret::List(args) => {
            let titles = ["NAME", "VERSION", "BYTES", "CHANGED", "BY"];
            let row = |item: &Value| {
                ["name", "version", "bytes", "changed_at", "changed_by"]
                    .map(|name| field(item, name))
                    .to_vec()
            };
            let empty = "No secrets: `flare secret set NAME` sets one.";
            return page::list(context, &client, &Call::get(&["secrets"]), &args, &titles, row, empty).await;
        }
        Secret::Delete { name } => {
            client.send(&Call::new(Method::DELETE, &["secrets", &name])).await?;
            context.output.note(&format!("Deleted {name}."));
        }
    }
    Ok(0)
}

/// The value, from standard input as it is, or typed at a terminal that does not show it.
fn read(name: &str, raw: bool) -> Result<String, Failure> {
    let failed = |error: io::Error| Failure::local("cannot read the value", error);
    let mut bytes = Vec::new();
    let input = io::stdin();
    if input.is_terminal() {
        let _ = write!(io::stderr(), "Value of {name} (it is not shown): ");
        let quiet = Quiet::begin().map_err(failed)?;
        let read = input.lock().take(LONGEST + 2).read_until(b'\n', &mut bytes);
        drop(quiet);
        let _ = writeln!(io::stderr());
        read.map_err(failed)?;
    } else {
        input.lock().take(LONGEST + 2).read_to_end(&mut bytes).map_err(failed)?;
    }
    if !raw && bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    if bytes.len() as u64 > LONGEST {
        return Err(Failure::new(Exit::Usage, format!("a value has {LONGEST} bytes at most"))
            .hint("Keep large data in a file, and its key in a secret."));
    }
    String::from_utf8(bytes).map_err(|_| {
        Failure::new(Exit::Usage, "a value has to be text in UTF-8").hint("Encode it, say with `base64`.")
    })
}

/// A terminal that does not show what is typed, until this goes.
struct Quiet(Termios);

impl Quiet {
    fn begin() -> io::Result<Self> {
        let input = io::stdin();
        let before = rustix::termios::tcgetattr(input.as_fd())?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        quiet.local_modes.insert(LocalModes::ECHONL);
        rustix::termios::tcsetattr(input.as_fd(), OptionalActions::Now, &quiet)?;
        Ok(Self(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let _ = rustix::termios::tcsetattr(io::stdin().as_fd(), OptionalActions::Now, &self.0);
    }
}
