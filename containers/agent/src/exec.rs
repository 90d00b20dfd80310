//! `POST /v1/exec`: one command, its output as JSON lines while it runs. `GET /v1/exec`: the same on a WebSocket, with
//! its standard input.

mod input;
mod lines;
mod run;
mod socket;
mod text;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use burstflare_ports::wire::ExecRequest;
use bytes::Bytes;
use hyper::body::Incoming;
use tokio::sync::{mpsc, watch};

use self::input::Input;
use self::run::Wires;
pub(crate) use self::socket::upgrade;
use crate::activity::Reason;
use crate::agent::Agent;
use crate::body;
use crate::reply::{self, Refused, Reply};

const BODY_LIMIT: usize = 1 << 20;
const ARGUMENTS: usize = 1024;
const ARGUMENT_BYTES: usize = 128 << 10;
/// Bytes of standard input that come with the request.
const INLINE: usize = 128 << 10;
/// Pieces on their way to the caller; a full flow makes the command wait.
const IN_FLIGHT: usize = 4;

/// Starts the command; the answer's body is its output.
pub(crate) async fn exec(agent: &Arc<Agent>, body: Incoming) -> Result<Reply, Refused> {
    let body = body::whole(body, BODY_LIMIT).await?;
    let (request, stdin) = read(&body)?;
    let (lines, flow) = mpsc::channel(IN_FLIGHT);
    tokio::spawn(attend(Arc::clone(agent), request, stdin, lines));
    Ok(reply::flow("application/x-ndjson", flow))
}

async fn attend(
    agent: Arc<Agent>,
    request: ExecRequest,
    stdin: Option<Bytes>,
    lines: mpsc::Sender<io::Result<Bytes>>,
) {
    // Held for as long as somebody waits for the command.
    let _held = agent.activity.hold(Reason::Exec);
    let input = stdin.map(|bytes| {
        let input = Input::default();
        input.push(&bytes);
        input.end();
        Arc::new(input)
    });
    let (pieces, flowing) = mpsc::channel(IN_FLIGHT);
    let (_, control) = mpsc::channel(1);
    let (taken, _) = watch::channel(0);
    let wires = Wires { input, control, pieces, taken };
    let (last, ()) = tokio::join!(run::supervise(&agent, &request, wires), lines::write(flowing, &lines));
    if let Some(last) = last {
        lines::last(&last, &lines).await;
    }
}

/// The request in a message, and the standard input that came with it.
fn read(message: &[u8]) -> Result<(ExecRequest, Option<Bytes>), Refused> {
    let mut request: ExecRequest =
        serde_json::from_slice(message).map_err(|error| Refused::invalid(error.to_string()))?;
    check(&request.argv, request.cwd.as_deref(), &request.env)?;
    let stdin = match (request.stdin.take(), request.stdin_b64.take()) {
        (Some(_), Some(_)) => return Err(Refused::invalid("Give `stdin` or `stdin_b64`, not both.")),
        (Some(text), None) => Some(text.into_bytes()),
        (None, Some(text)) => {
            Some(STANDARD.decode(text).map_err(|_| Refused::invalid("`stdin_b64` is no base64."))?)
        }
        (None, None) => None,
    };
    if stdin.as_ref().is_some_and(|stdin| stdin.len() > INLINE) {
        return Err(Refused::invalid("Standard input of more than 128 KiB is streamed on a WebSocket."));
    }
    Ok((request, stdin.map(Bytes::from)))
}

/// Refuses what cannot be passed to a program.
pub(crate) fn check(
    argv: &[String],
    cwd: Option<&str>,
    env: &BTreeMap<String, String>,
) -> Result<(), Refused> {
    let bytes: usize = argv.iter().map(|argument| argument.len() + 1).sum();
    let program = argv.first().map_or("", String::as_str);
    if program.is_empty() || argv.len() > ARGUMENTS || bytes > ARGUMENT_BYTES {
        return Err(Refused::invalid("`argv` takes 1 to 1,024 items of at most 128 KiB together."));
    }
    if cwd.is_some_and(|cwd| !cwd.starts_with('/')) {
        return Err(Refused::invalid("`cwd` has to be absolute."));
    }
    if env.keys().any(|name| name.is_empty() || name.contains(['=', '\0'])) {
        return Err(Refused::invalid("`env` holds a name that is none."));
    }
    let texts = argv.iter().chain(env.values()).map(String::as_str).chain(cwd);
    if texts.into_iter().any(|text| text.contains('\0')) {
        return Err(Refused::invalid("NUL bytes cannot be passed to a command."));
    }
    Ok(())
}
