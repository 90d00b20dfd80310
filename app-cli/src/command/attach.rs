//! `flare attach`: joins a terminal of a session, and comes back to it when the connection breaks.

use std::time::{Duration, Instant};

use base64::Engine as _;
use burstflare_ports::wire::terminal::{Ended, SCROLLBACK};
use clap::Args;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use crate::attach::{End, Raw, Sitting, hello, is_there, size, typing};
use crate::client::{Call, Client, Socket, open_socket};
use crate::command::exec::number;
use crate::command::ssh::awake;
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::table::{field, table};

/// For one try to connect.
const TRY: Duration = Duration::from_secs(30);
/// How long a broken connection is tried to be mended.
const MENDING: Duration = Duration::from_secs(600);
/// Between two tries: doubled from the first to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Which terminal, and how.
#[derive(Debug, Args)]
#[command(after_help = "\
Ctrl-] and then d detaches; the terminal and its programs go on. Ctrl-] twice is one Ctrl-] for the terminal.
The terminal is as large as the smallest window that looks at it. The exit code is the terminal's.")]
pub struct Attach {
    /// The session, by id or name; one that sleeps is woken.
    session: String,
    /// The terminal, by number; the newest one, or a new one, unless given.
    terminal: Option<u32>,
    /// Make a terminal, also where there are some.
    #[arg(long, conflicts_with_all = ["terminal", "list"])]
    new: bool,
    /// Show the session's terminals.
    #[arg(long, conflicts_with = "terminal")]
    list: bool,
    /// Look on: type nothing, and have no say in the terminal's size.
    #[arg(long)]
    read_only: bool,
}

/// Runs `flare attach`; answers the exit code of the terminal's program, or 0 after detaching.
///
/// # Errors
/// When there is no such session or terminal, or it cannot be reached (any more).
pub async fn run(context: &Context, args: Attach) -> Outcome {
    let client = context.client()?;
    if args.list {
        return list(context, &client, &args.session).await;
    }
    if !is_there() {
        return Err(Failure::usage("standard input and output are no terminal")
            .hint("Run a command with `flare session exec`, or list terminals with `--list`."));
    }
    let session = awake(context, &client, &args.session).await?;
    let id = field(&session, "id");
    let terminal = choose(&client, &id, &args).await?;
    let mut visit = Visit { client: &client, session: id, epoch: Value::Null, terminal };
    let socket = visit.open().await?;
    context.output.end_progress();
    context
        .output
        .note(&format!("attached to terminal {terminal} of {}; Ctrl-] d detaches", field(&session, "name")));
    let sitting = Sitting::new(typing(), args.read_only)?;
    sit(context, &mut visit, sitting, socket).await
}

async fn list(context: &Context, client: &Client, session: &str) -> Outcome {
    let document = client.json(&Call::get(&["sessions", session, "terminals"])).await?;
    context.output.result(&document, || {
        let rows: Vec<Vec<String>> = items(&document)
            .iter()
            .map(|one| {
                let state = match &one["ended"] {
                    Value::Null => "running".to_owned(),
                    ended => format!(
                        "ended ({})",
                        ended["code"]
                            .as_u64()
                            .map_or_else(|| field(ended, "signal"), |code| code.to_string())
                    ),
                };
                let size = format!("{}x{}", field(one, "columns"), field(one, "rows"));
                vec![
                    field(one, "id"),
                    state,
                    size,
                    field(one, "viewers"),
                    field(one, "argv"),
                    field(one, "title"),
                ]
            })
            .collect();
        table(&["TERMINAL", "STATE", "SIZE", "VIEWERS", "COMMAND", "TITLE"], &rows)
    });
    Ok(0)
}

fn items(document: &Value) -> &[Value] {
    document["items"].as_array().map_or(&[], Vec::as_slice)
}

async fn choose(client: &Client, session: &str, args: &Attach) -> Result<u32, Failure> {
    if let Some(terminal) = args.terminal {
        return Ok(terminal);
    }
    if !args.new {
        let document = client.json(&Call::get(&["sessions", session, "terminals"])).await?;
        let newest = items(&document).iter().filter(|one| one["ended"].is_null()).filter_map(identity).max();
        if let Some(newest) = newest {
            return Ok(newest);
        }
    }
    make(client, session).await
}

async fn make(client: &Client, session: &str) -> Result<u32, Failure> {
    let window = size();
    let wish = json!({ "rows": window.rows, "columns": window.columns });
    let made = client.json(&Call::post(&["sessions", session, "terminals"]).json(&wish)).await?;
    identity(&made)
        .ok_or_else(|| Failure::new(Exit::Other, "the server's answer is not what this version understands"))
}

fn identity(terminal: &Value) -> Option<u32> {
    terminal["id"].as_u64().and_then(|id| u32::try_from(id).ok())
}

/// Types these lines at a new terminal of a session that runs, and answers how its program ended and what was on the
/// screen: for who has no terminal to sit at. The last line has to end the shell. Cancel-safe: the terminal stays.
///
/// # Errors
/// When the terminal cannot be made or reached, or does not end in the ordinary way.
pub(crate) async fn typed(client: &Client, session: &str, lines: &str) -> Result<(u8, Vec<u8>), Failure> {
    let terminal = make(client, session).await?;
    let mut visit = Visit { client, session: session.to_owned(), epoch: Value::Null, terminal };
    let socket = visit.open().await?;
    // Held to the end: a keyboard that is gone detaches.
    let (keyboard, typing) = tokio::sync::mpsc::channel(1);
    let _ = keyboard.send(lines.as_bytes().to_vec()).await;
    let mut sitting = Sitting::new(typing, false)?;
    let mut screen = Vec::new();
    let greeting = hello(&viewer()?, size(), SCROLLBACK, false);
    match sitting.carry(socket, greeting, &mut screen).await {
        End::Ended(Ended::Code(code)) => Ok((code, screen)),
        End::Ended(Ended::Signal(name)) => Ok((128_u8.saturating_add(number(&name)), screen)),
        End::Gone(code) => Err(Failure::new(Exit::Other, format!("the terminal ended the view: {code}"))),
        End::Detached | End::Broken => {
            Err(Failure::new(Exit::Unavailable, "the connection to the terminal broke").hint("Try again."))
        }
    }
}

/// The terminal that we look at, in one life of its machine.
struct Visit<'a> {
    client: &'a Client,
    session: String,
    epoch: Value,
    terminal: u32,
}

impl Visit<'_> {
    async fn open(&mut self) -> Result<Socket, Failure> {
        let call = Call::post(&["sessions", &self.session, "attach"])
            .json(&json!({ "purpose": "terminal" }))
            .within(TRY);
        let attached = self.client.json(&call).await?;
        let epoch = attached["session"]["epoch"].clone();
        if !self.epoch.is_null() && self.epoch != epoch {
            return Err(Failure::new(
                Exit::Conflict,
                "the session's machine was started anew: its terminals are gone",
            )
            .hint("Its files are there. Attach again for a new terminal."));
        }
        self.epoch = epoch;
        let path = attached["url_path"].as_str().unwrap_or_default();
        let ticket = attached["ticket"].as_str().unwrap_or_default();
        let path = format!("{path}/{}?ticket={ticket}", self.terminal);
        tokio::time::timeout(TRY, open_socket(self.client, &path)).await.map_err(|_| {
            Failure::new(Exit::Timeout, "the terminal does not answer").hint("Try again in a moment.")
        })?
    }
}

/// Shows the terminal until it ends or the user goes, over as many connections as it takes.
async fn sit(context: &Context, visit: &mut Visit<'_>, mut sitting: Sitting, first: Socket) -> Outcome {
    let viewer = viewer()?;
    let mut screen = tokio::io::stdout();
    // Heard before the terminal is raw: a signal that comes first must not leave it so.
    let mut hung_up =
        signal(SignalKind::hangup()).map_err(|error| Failure::local("cannot listen to signals", error))?;
    let raw = Raw::enter().map_err(|error| Failure::local("cannot set up the terminal", error))?;
    let mut socket = Some(first);
    let mut scrollback = SCROLLBACK;
    let mut detached = false;
    let outcome = loop {
        let Some(open) = socket.take() else { break Ok(0) };
        let greeting = hello(&viewer, size(), scrollback, sitting.read_only);
        // What is above the screen stays there from the first time on.
        scrollback = 0;
        let end = tokio::select! {
            end = sitting.carry(open, greeting, &mut screen) => end,
            _ = hung_up.recv() => End::Detached,
        };
        match end {
            End::Detached => {
                detached = true;
                break Ok(0);
            }
            End::Ended(Ended::Code(code)) => break Ok(code),
            End::Ended(Ended::Signal(name)) => break Ok(128_u8.saturating_add(number(&name))),
            End::Gone(code) if code == "timeout" => {}
            End::Gone(code) => {
                break Err(Failure::new(Exit::Other, format!("the terminal ended the view: {code}")));
            }
            End::Broken => {}
        }
        match mend(context, visit, &mut sitting).await {
            Ok(again) => socket = again,
            Err(failure) => break Err(failure),
        }
    };
    // From here on the terminal is the user's again.
    drop(raw);
    if sitting.typed.open() > 0 && !matches!(outcome, Ok(code) if code != 0) {
        let open = sitting.typed.open();
        context.output.warn(&format!("{open} bytes that you typed last may not have arrived."));
    }
    if sitting.doubtful {
        context.output.warn("Some of what you typed when the connection broke may not have arrived.");
    }
    if detached {
        context.output.note(&format!("detached; terminal {} goes on", visit.terminal));
    }
    outcome
}

/// Connects again; `None` when the user does not want to wait.
async fn mend(
    context: &Context,
    visit: &mut Visit<'_>,
    sitting: &mut Sitting,
) -> Result<Option<Socket>, Failure> {
    context.output.note_raw("\r\nthe connection broke; trying again (Ctrl-] d gives up)");
    let until = Instant::now() + MENDING;
    let mut pause = PAUSES.0;
    loop {
        let wait = pause;
        let trying = async {
            let opened = visit.open().await;
            if opened.is_err() {
                tokio::time::sleep(wait).await;
            }
            opened
        };
        tokio::pin!(trying);
        let opened = loop {
            tokio::select! {
                opened = &mut trying => break opened,
                piece = sitting.typing.recv(), if sitting.typed.has_room() => {
                    if sitting.typed(piece) {
                        return Ok(None);
                    }
                }
            }
        };
        match opened {
            Ok(socket) => return Ok(Some(socket)),
            Err(failure) if Instant::now() < until && is_passing(&failure) => {
                pause = (pause * 2).min(PAUSES.1);
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// A server that is restarted, a network that is gone for a while.
fn is_passing(failure: &Failure) -> bool {
    matches!(failure.exit, Exit::Unavailable | Exit::Timeout | Exit::Limit)
}

/// A name that nobody else has.
fn viewer() -> Result<String, Failure> {
    let mut bytes = [0; 18];
    getrandom::fill(&mut bytes).map_err(|error| Failure::local("no randomness", error))?;
    Ok(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes))
}
