//! `flare exec`: one command in a session, its streams kept apart and its exit code kept.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use burstflare_ports::wire::{ExecOutput, ExecRequest, TtySize};
use clap::Args;
use serde_json::json;

use super::exec_stream;
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
    /// Sets a variable; may be given more than once.
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Ends it after this time: TERM, and KILL five seconds later (`90`, `90s`, `10m`, `2h`, `500ms`).
    #[arg(long, value_name = "TIME", value_parser = span)]
    timeout: Option<Duration>,
    /// Runs it at a terminal.
    #[arg(long, short)]
    tty: bool,
    /// Gives it no standard input, and leaves ours alone.
    #[arg(long, short)]
    no_stdin: bool,
    /// Program and arguments.
    #[arg(last = true, required = true, value_name = "WORDS")]
    argv: Vec<String>,
}

/// Runs `flare exec`; answers the command's exit code.
///
/// # Errors
/// When the server refuses or the command could not be started.
pub async fn run(context: &Context, args: Exec) -> Outcome {
    let mut env = BTreeMap::new();
    for pair in &args.env {
        let (name, value) = pair
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| Failure::usage(format!("--env takes NAME=VALUE, not `{pair}`")))?;
        env.insert(name.to_owned(), value.to_owned());
    }
    let request = ExecRequest {
        argv: args.argv,
        cwd: args.cwd,
        env,
        timeout_ms: args.timeout.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
        tty: args.tty.then(terminal),
        ..ExecRequest::default()
    };
    let client = context.client()?;
    if args.tty || !args.no_stdin && has_input() {
        return exec_stream::run(context, &client, &args.session, &request, !args.no_stdin).await;
    }
    let call = Call::post(&["sessions", &args.session, "exec"])
        .json(&json!(request))
        .accept("application/jsonl, application/problem+json")
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
    Err(broken())
}

/// The connection ended before the command did.
pub(super) fn broken() -> Failure {
    Failure::new(Exit::Unavailable, "the connection broke before the command ended")
        .hint("The server ends a command whose caller is gone; look into the session with `flare ssh`.")
}

/// Whether our standard input is something that may have content.
fn has_input() -> bool {
    match rustix::fs::fstat(std::io::stdin()) {
        Ok(stat) => {
            let device = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_char_device();
            // Character devices that are no terminals: /dev/null and its kin.
            !device || std::io::stdin().is_terminal()
        }
        // It is closed.
        Err(_) => false,
    }
}

/// The size of our terminal.
pub(super) fn terminal() -> TtySize {
    let size = rustix::termios::tcgetwinsize(std::io::stdin())
        .or_else(|_| rustix::termios::tcgetwinsize(std::io::stdout()));
    let size = size.ok().filter(|size| size.ws_col > 0 && size.ws_row > 0);
    size.map_or(TtySize { cols: 80, rows: 24 }, |size| TtySize { cols: size.ws_col, rows: size.ws_row })
}

/// A time: a number, of seconds unless it says otherwise.
pub(super) fn span(text: &str) -> Result<Duration, String> {
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let number: u64 = number.parse().map_err(|_| "a time is a number with ms, s, m or h".to_owned())?;
    let millis = match unit {
        "ms" => Some(number),
        "" | "s" => number.checked_mul(1000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        _ => return Err(format!("`{unit}` is no unit: ms, s, m, h")),
    };
    millis
        .filter(|millis| (1..=86_400_000).contains(millis))
        .map(Duration::from_millis)
        .ok_or_else(|| "a time is at least 1 ms and at most 24 h".to_owned())
}

/// Shows one line of the answer; the last one answers the exit code.
pub(super) fn show(context: &Context, line: &[u8]) -> Result<Option<u8>, Failure> {
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
        ExecOutput::Ack(_) => {}
        ExecOutput::TimedOut(millis) => {
            let seconds = Duration::from_millis(millis).as_secs_f64();
            return Err(Failure::new(
                Exit::Timeout,
                format!("the command took longer than {seconds} s and was ended"),
            )
            .hint("Give it more time with `--timeout`."));
        }
        ExecOutput::OutputLimit(bytes) => {
            return Err(Failure::new(
                Exit::Limit,
                format!("the command wrote more than {bytes} bytes and was ended"),
            ));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        let millis = |text: &str| span(text).ok().map(|time| time.as_millis());
        assert_eq!(millis("90"), Some(90_000));
        assert_eq!(millis("500ms"), Some(500));
        assert_eq!(millis("2h"), Some(7_200_000));
        for bad in ["", "s", "0", "25h", "1d", "-1", "99999999999999999999", "1.5s"] {
            assert_eq!(millis(bad), None, "{bad}");
        }
    }
}
