//! `flare doctor`: what is wrong, and how to cure it. Works with the server running or not.

use std::path::{Path, PathBuf};

use burstflare_adapters_local::docker::DockerRuntime;
use burstflare_adapters_local::sandbox::{AgentCommand, Check, CheckState, SandboxConfig, SandboxRuntime};
use burstflare_ports::machine::{Enforcement, RuntimeProfile};
use clap::Args;
use serde::Serialize;
use serde_json::json;

use crate::client::{Call, Client, Origin};
use crate::command::ssh::find_program;
use crate::context::Context;
use crate::credential::Bearer;
use crate::exit::{Failure, Outcome};
use crate::output::Paint;
use crate::place;
use crate::serve::{BlobsPlace, Status, docker_config, tried};

/// Where to look.
#[derive(Debug, Args)]
pub struct Doctor {
    /// The data folder of the server on this machine; by default that of `flare dev`.
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// Also try everything that a server with these blobs does there, with the credentials of the environment.
    #[arg(long, value_name = "PLACE")]
    blobs: Option<BlobsPlace>,
}

/// How something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// As it should be.
    Ok,
    /// Good to know.
    Note,
    /// Something does not work.
    Problem,
}

/// One line of the answer.
#[derive(Debug, Serialize)]
struct Line {
    name: String,
    state: State,
    detail: String,
    cure: Option<String>,
}

impl Line {
    fn new(name: &str, state: State, detail: impl Into<String>) -> Self {
        Self { name: name.to_owned(), state, detail: detail.into(), cure: None }
    }

    fn cure(mut self, cure: impl Into<String>) -> Self {
        self.cure = Some(cure.into());
        self
    }
}

/// Runs `flare doctor`; answers 0 when nothing is wrong, 1 otherwise.
///
/// # Errors
/// When it cannot even look.
pub async fn run(context: &Context, args: Doctor) -> Outcome {
    let data_dir = args.data_dir.as_deref().map_or_else(place::data_dir, place::absolute)?;
    let mut lines = vec![openssh(), credentials(context)];
    match Status::read(&data_dir) {
        Some(status) => {
            lines.push(Line::new(
                "server",
                State::Ok,
                format!("runs at {} as process {}", status.url, status.pid),
            ));
            lines.push(answers(&status.url).await);
            running(&status, &mut lines);
        }
        None => {
            remote(context, &mut lines).await;
            host(&data_dir, &mut lines).await;
        }
    }
    folder(&data_dir, &mut lines);
    if let Some(place) = &args.blobs {
        let tried = tried(place).await;
        lines.extend(tried.into_iter().map(|(name, outcome)| match outcome {
            Ok(detail) => Line::new(&name, State::Ok, detail),
            Err(failure) => problem(&name, failure),
        }));
    }
    let wrong = lines.iter().filter(|line| line.state == State::Problem).count();
    let document = json!({ "ok": wrong == 0, "data_dir": data_dir, "checks": lines });
    context.output.result(&document, || render(context, &lines, wrong));
    Ok(u8::from(wrong > 0))
}

fn render(context: &Context, lines: &[Line], wrong: usize) -> String {
    let mut text = String::new();
    for line in lines {
        let mark = match line.state {
            State::Ok => context.output.paint(Paint::Good, "ok     "),
            State::Note => context.output.paint(Paint::Warn, "note   "),
            State::Problem => context.output.paint(Paint::Bad, "problem"),
        };
        text.push_str(&format!("{mark}  {}: {}\n", line.name, crate::output::clean(&line.detail)));
        if let Some(cure) = &line.cure {
            text.push_str(&format!("         cure: {}\n", crate::output::clean(cure)));
        }
    }
    text.push_str(&match wrong {
        0 => "\nNothing is wrong.\n".to_owned(),
        1 => "\n1 problem.\n".to_owned(),
        many => format!("\n{many} problems.\n"),
    });
    text
}

fn openssh() -> Line {
    match find_program("ssh") {
        Some(path) => Line::new("OpenSSH client", State::Ok, path.display().to_string()),
        None => {
            Line::new("OpenSSH client", State::Problem, "`ssh` is not installed: `flare ssh` cannot work")
                .cure("Debian and Ubuntu: apt-get install openssh-client")
        }
    }
}

fn credentials(context: &Context) -> Line {
    let found = context.store().and_then(|store| store.current());
    match found {
        Ok(Some(origin)) => Line::new("sign-in", State::Ok, format!("the newest one is at {origin}")),
        Ok(None) => Line::new("sign-in", State::Note, "you have not signed in yet")
            .cure("flare auth register --email YOU@EXAMPLE.COM --url URL"),
        Err(failure) => Line::new("sign-in", State::Problem, failure.message.clone())
            .cure(failure.hint.unwrap_or_default()),
    }
}

/// Each dependency of the server, asked by itself.
async fn answers(url: &str) -> Line {
    let ready = async {
        let client = Client::new(Origin::parse(url)?, Bearer::Nobody);
        client.json(&Call::probe("/readyz").within(std::time::Duration::from_secs(15))).await
    };
    match ready.await {
        Ok(_) => Line::new("answers", State::Ok, "records, blobs and machines are ready"),
        Err(failure) => problem("answers", failure),
    }
}

fn problem(name: &str, failure: Failure) -> Line {
    let line = Line::new(name, State::Problem, failure.message);
    match failure.hint {
        Some(hint) => line.cure(hint),
        None => line,
    }
}

/// What the running server notes of itself.
fn running(status: &Status, lines: &mut Vec<Line>) {
    let mut runtime = status.runtime.clone();
    let checks = status.checks.as_array().map_or(&[][..], Vec::as_slice);
    // Each check has a line of its own below, with its cure.
    runtime.warnings.retain(|warning| {
        !checks.iter().any(|check| check["detail"].as_str().is_some_and(|detail| warning.contains(detail)))
    });
    isolation(&runtime, lines);
    for check in checks {
        let text = |name: &str| check[name].as_str().unwrap_or_default();
        let state = match text("state") {
            "ok" => State::Ok,
            // The server runs in spite of it, isolated or not; that line is above.
            _ => State::Note,
        };
        let mut line = Line::new(text("name"), state, text("detail"));
        line.cure = check["cure"].as_str().map(str::to_owned);
        lines.push(line);
    }
    lines.push(if status.stuck.is_empty() {
        Line::new("sessions and builds", State::Ok, "nothing is stuck")
    } else {
        let names: Vec<String> =
            status.stuck.iter().map(|(id, state, since)| format!("{id} is {state} since {since}")).collect();
        Line::new("sessions and builds", State::Problem, names.join("; "))
            .cure("flare session stop --force SESSION, or flare build cancel BUILD")
    });
    let backlog = format!("{} effects wait to be delivered", status.backlog);
    let state = if status.backlog > 1000 { State::Problem } else { State::Ok };
    lines.push(Line::new("outbox", state, backlog));
}

fn isolation(runtime: &RuntimeProfile, lines: &mut Vec<Line>) {
    let detail =
        format!("{} ({:?}), network {}", runtime.name, runtime.isolation, runtime.network).to_lowercase();
    let state = if runtime.isolation == burstflare_ports::machine::Isolation::Process {
        State::Problem
    } else {
        State::Ok
    };
    lines.push(Line::new("isolation", state, detail));
    let limits = runtime.limits.iter().map(|(name, held)| {
        let word = match held {
            Enforcement::Enforced => "enforced",
            Enforcement::Watched => "watched",
            Enforcement::None => "none",
        };
        format!("{name} {word}")
    });
    lines.push(Line::new("limits", State::Ok, limits.collect::<Vec<_>>().join(", ")));
    lines.extend(runtime.warnings.iter().map(|warning| Line::new("machines", State::Note, warning)));
}

/// A server elsewhere, or none.
async fn remote(context: &Context, lines: &mut Vec<Line>) {
    let Ok(origin) = context.origin() else {
        lines.push(Line::new("server", State::Note, "none runs here").cure("flare dev"));
        return;
    };
    let url = origin.to_string();
    let client = Client::new(origin.clone(), Bearer::Nobody);
    match client.json(&Call::get(&["server"]).anonymous()).await {
        Ok(document) => {
            let version = crate::table::field(&document, "version");
            lines.push(Line::new("server", State::Ok, format!("{url} answers, version {version}")));
            lines.push(answers(&url).await);
            if let Ok(runtime) = serde_json::from_value(document["runtime"].clone()) {
                isolation(&runtime, lines);
            }
        }
        // Not running is no fault of a server on this very machine.
        Err(_) if origin.is_loopback() => {
            lines.push(Line::new("server", State::Note, format!("none runs at {url}")).cure("flare dev"));
        }
        Err(failure) => lines.push(problem("server", failure)),
    }
}

/// What this machine could run, tried out now.
async fn host(data_dir: &Path, lines: &mut Vec<Line>) {
    // Looking must not leave a data folder behind where there was none.
    let trial = if data_dir.is_dir() {
        data_dir.to_owned()
    } else {
        std::env::temp_dir().join(format!("flare-doctor-{}", std::process::id()))
    };
    let config = SandboxConfig::new(trial.clone(), AgentCommand::this_program());
    match SandboxRuntime::probe(config).await {
        Ok(checks) => lines.extend(checks.into_iter().map(checked)),
        Err(error) => lines.push(problem("sandbox", crate::serve::failure(&error))),
    }
    docker(data_dir, lines).await;
    if trial != data_dir {
        let _ = std::fs::remove_dir_all(&trial);
    }
}

/// What `--runtime docker` would find. Nothing of it is a problem for who uses the sandbox.
async fn docker(data_dir: &Path, lines: &mut Vec<Line>) {
    let variable = |name: &str| std::env::var(name).ok();
    match docker_config(data_dir.to_owned(), None, &[], variable) {
        Ok(config) => lines.extend(DockerRuntime::probe(&config).await.into_iter().map(checked)),
        Err(failure) => {
            let mut line = problem("docker engine", failure);
            line.state = State::Note;
            lines.push(line);
        }
    }
}

fn checked(check: Check) -> Line {
    let state = match check.state {
        CheckState::Ok => State::Ok,
        CheckState::Degraded => State::Note,
        CheckState::Missing => State::Problem,
    };
    Line { name: check.name, state, detail: check.detail, cure: check.cure }
}

/// Whether there is room, and whether others can look in.
fn folder(data_dir: &Path, lines: &mut Vec<Line>) {
    use std::os::unix::fs::PermissionsExt;
    let name = "data folder";
    let Ok(metadata) = data_dir.metadata() else {
        lines.push(Line::new(name, State::Note, format!("{} is not there yet", data_dir.display())));
        return;
    };
    if metadata.permissions().mode() & 0o077 != 0 {
        let cure = format!("chmod 700 {}", crate::text::shell_word(&data_dir.display().to_string()));
        lines.push(
            Line::new(name, State::Problem, format!("{} is open to others", data_dir.display())).cure(cure),
        );
    }
    match rustix::fs::statvfs(data_dir) {
        Ok(space) => {
            let free = space.f_bavail * space.f_frsize;
            let detail = format!("{}, {} free", data_dir.display(), crate::text::bytes(free));
            if free < 256 << 20 {
                lines.push(Line::new(name, State::Problem, detail).cure("make room on that disk"));
            } else {
                lines.push(Line::new(name, State::Ok, detail));
            }
        }
        Err(error) => lines.push(Line::new(name, State::Problem, format!("{}: {error}", data_dir.display()))),
    }
}
