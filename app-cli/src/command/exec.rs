//! `flare session exec`: one command in a session, its streams kept apart and its exit code kept.

use std::time::Duration;

use burstflare_ports::wire::ExecOutput;
use clap::Args;
use serde_json::json;

use crate::client::Call;
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};

/// A command may say nothing for so long; the server ends it after 24 hours at the latest.
const SILENCE: Duration = Duration::from_secs(86_400);

/// What to run where.
#[derive(Debug, Args)]
pub struct Exec {
    /// The session, by id or name.
    session: String,
    /// Where it begins, absolute.
    #[arg(long, value_name = "FOLDER")]
    cwd: Option<String>,
    /// Program and arguments.
    #[arg(last = true, required = true, value_name = "WORDS")]
    argv: Vec<String>,
}

/// Runs `flare session exec`; answers the command's exit code.
///
/// # Errors
/// When the server refuses or the command could not be started.
pub async fn run(context: &Context, args: Exec) -> Outcome {
    let client = context.client()?;
    let mut body = json!({ "argv": args.argv });
    if let Some(cwd) = args.cwd {
        body["cwd"] = json!(cwd);
    }
    let call = Call::post(&["sessions", &args.session, "exec"])
        .json(&body)
        .accept("application/x-ndjson, application/problem+json")
        .within(Duration::from_secs(120));
    let mut reply = client.send(&call).await?;
    let mut lines = Vec::new();
    while let Some(piece) = reply.chunk(SILENCE).await? {
        lines.extend_from_slice(&piece);
        while let Some(end) = lines.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = lines.drain(..=end).collect();
            if let Some(code) = show(context, &line)? {
                return Ok(code);
            }
        }
    }
    Err(Failure::new(Exit::Unavailable, "the connection broke before the command ended")
        .hint("Whether it ended is not known; look into the session with `flare ssh`."))
}

/// Shows one line of the answer; the last one answers the exit code.
fn show(context: &Context, line: &[u8]) -> Result<Option<u8>, Failure> {
    if line.trim_ascii().is_empty() {
        return Ok(None);
    }
    let output = serde_json::from_slice(line)
        .map_err(|_| Failure::new(Exit::Other, "the server's answer is not what this version understands"))?;
    match output {
        ExecOutput::Stdout(text) => context.output.out(&text),
        ExecOutput::Stderr(text) => context.output.err_bytes(text.as_bytes()),
        ExecOutput::StdoutB64(text) => context.output.out_bytes(&decode(&text)?),
        ExecOutput::StderrB64(text) => context.output.err_bytes(&decode(&text)?),
        ExecOutput::Exit(code) => return Ok(Some(code)),
        // As a shell says it: 128 and the signal's number.
        ExecOutput::Signal(name) => {
            context.output.note(&format!("ended by signal {name}"));
            return Ok(Some(128_u8.saturating_add(number(&name))));
        }
        ExecOutput::Error(why) => {
            return Err(Failure::new(Exit::Failed, format!("the command could not run: {why}")));
        }
    }
    Ok(None)
}

fn decode(text: &str) -> Result<Vec<u8>, Failure> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .map_err(|_| Failure::new(Exit::Other, "the server's answer is not what this version understands"))
}

/// A signal's number.
pub(super) fn number(signal: &str) -> u8 {
    match signal.trim_start_matches("SIG") {
        "HUP" => 1,
        "INT" => 2,
        "QUIT" => 3,
        "ILL" => 4,
        "ABRT" => 6,
        "FPE" => 8,
        "SEGV" => 11,
        "PIPE" => 13,
        "ALRM" => 14,
        "TERM" => 15,
        // KILL, and what has no number on every system.
        _ => 9,
    }
}
