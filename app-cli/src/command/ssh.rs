//! `flare ssh`, and `flare ssh-proxy` which OpenSSH calls back.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use clap::Args;
use serde_json::{Value, json};

use crate::client::{Call, Client, open_socket};
use crate::command::session_wait;
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::ssh::{self, Key, KnownHosts, Program};
use crate::table::field;

/// Where to, and what for.
#[derive(Debug, Args)]
pub struct Ssh {
    /// The session, by id or name.
    session: String,
    /// Options and words for ssh, given to it as they are.
    #[arg(last = true, value_name = "WORDS")]
    words: Vec<String>,
}

/// Whom OpenSSH wants to reach.
#[derive(Debug, Args)]
pub struct SshProxy {
    /// NAME.flare, a name or an id.
    host: String,
}

/// Runs `flare ssh`: wakes the session, then becomes OpenSSH, whose exit code is the remote one.
///
/// # Errors
/// When there is no such session, it cannot be woken, or OpenSSH is missing.
pub async fn run(context: &Context, args: Ssh) -> Outcome {
    let program = find_ssh()?;
    let client = context.client()?;
    let config_dir = context.config_dir()?;
    let key = Key::ensure(&config_dir)?;
    let document = awake(context, &client, &args.session).await?;
    // OpenSSH compares host names in lower case.
    let id = field(&document, "id").to_ascii_lowercase();
    let hosts = KnownHosts::new(&config_dir, client.origin());
    hosts.pin(&id, &field(&document, "ssh_host_key"))?;
    let known = ssh::quotable(&hosts.file(&id))?;
    let options = Program::new(client.origin().clone(), &config_dir)?.options(&id, &key.path, &known)?;
    let mut command = Command::new(program);
    // The user's own configuration could turn any of this around; `flare config-ssh` is for living with it.
    command.arg("-F").arg("/dev/null");
    for (name, value) in options {
        command.arg("-o").arg(format!("{name}={value}"));
    }
    command.arg("-o").arg(format!("HostKeyAlias={id}"));
    command.arg(format!("{}{}", field(&document, "name"), ssh::SUFFIX)).args(&args.words);
    context.output.end_progress();
    let error = command.exec();
    Err(Failure::local("cannot run ssh", error))
}

fn find_ssh() -> Result<PathBuf, Failure> {
    find_program("ssh").ok_or_else(|| {
        Failure::new(Exit::Other, "OpenSSH's client `ssh` is not installed")
            .hint("Install it (Debian and Ubuntu: `apt-get install openssh-client`), then try again.")
    })
}

/// A program on PATH.
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|candidate| {
        rustix::fs::access(candidate, rustix::fs::Access::EXEC_OK).is_ok() && candidate.is_file()
    })
}

/// The session, running: woken and waited for where it slept.
async fn awake(context: &Context, client: &Client, session: &str) -> Result<Value, Failure> {
    let document = client.json(&Call::get(&["sessions", session])).await?;
    if document["state"] == "running" && document["goal"] == "run" {
        return Ok(document);
    }
    context.output.progress("session: waking");
    let id = field(&document, "id");
    client.json(&Call::post(&["sessions", &id, "start"])).await?;
    session_wait::running(context, client, &id, 0).await
}

/// Runs `flare ssh-proxy`: standard input and output become the session's SSH stream.
///
/// # Errors
/// When there is no such session, or it cannot be woken or reached.
pub async fn proxy(context: &Context, args: SshProxy) -> Outcome {
    let host = args.host.to_ascii_lowercase();
    let session = ssh::session_of(&host)?;
    let client = context.client()?;
    let config_dir = context.config_dir()?;
    let key = Key::ensure(&config_dir)?;
    let call = Call::post(&["sessions", &session, "attach"])
        .json(&json!({ "purpose": "ssh", "ssh_key": key.public }))
        .within(std::time::Duration::from_secs(120));
    let mut tries = 0;
    let attached = loop {
        match client.json(&call).await {
            // It slept, or fell asleep between our looks.
            Err(failure) if failure.is("not_running") && tries < 3 => {
                tries += 1;
                awake(context, &client, &session).await?;
            }
            other => break other?,
        }
    };
    context.output.end_progress();
    let host_key = attached["ssh_host_key"].as_str().unwrap_or_default();
    KnownHosts::new(&config_dir, client.origin()).pin(&host, host_key)?;
    let path = attached["url_path"].as_str().unwrap_or_default();
    let ticket = attached["ticket"].as_str().unwrap_or_default();
    if !path.starts_with("/api/") || ticket.is_empty() {
        return Err(Failure::new(Exit::Other, "the server's ticket is not what this version understands"));
    }
    let socket = open_socket(&client, &format!("{path}?ticket={ticket}")).await?;
    ssh::pump(socket).await?;
    Ok(0)
}
