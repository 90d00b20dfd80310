//! `flare ssh`, and `flare ssh-proxy` which OpenSSH calls back.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use std::time::Duration;

use burstflare_ports::wire::resume::SUBPROTOCOL;
use clap::Args;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::client::{Call, Client, Socket, open_socket, open_speaking};
use crate::command::session_wait;
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::ssh::{self, Ends, Key, KnownHosts, Omens, Program};
use crate::table::field;

/// How long a server that cannot be reached is waited for, and between two tries.
const PATIENCE: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(300);
/// For a ticket; a session that is being started is waited for by the server.
const ATTACH: Duration = Duration::from_secs(120);
/// For a ticket for a connection that is being resumed.
const AGAIN: Duration = Duration::from_secs(15);

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
    let document = patiently(context, async || awake(context, &client, &args.session).await).await?;
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
pub(super) async fn awake(context: &Context, client: &Client, session: &str) -> Result<Value, Failure> {
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
/// When there is no such session, it cannot be woken or reached, or a cut connection cannot be resumed.
pub async fn proxy(context: &Context, args: SshProxy) -> Outcome {
    // OpenSSH hands on its standard error: whoever does not read it must not hold us up.
    context.output.never_wait();
    let ends = Ends::default();
    let omens = Omens::new()?;
    let outcome = tokio::select! {
        carried = carried(context, args, &ends) => carried.map(|()| Exit::Success),
        // What could not be told is known to the code alone: nobody is there to read it.
        () = ends.overdue(omens) => Ok(Exit::Unavailable),
    };
    Ok(if ends.was_told() { Exit::Interrupted } else { outcome? }.code())
}

/// Finds the session and carries until either side ends.
async fn carried(context: &Context, args: SshProxy, ends: &Ends) -> Result<(), Failure> {
    let host = args.host.to_ascii_lowercase();
    let session = ssh::session_of(&host)?;
    let client = context.client()?;
    let config_dir = context.config_dir()?;
    let key = Key::ensure(&config_dir)?;
    let mut way = Tickets { context, client: &client, session, key: &key, life: Value::Null };
    let mut tries = 0;
    let attached = loop {
        match patiently(context, async || way.attach(ATTACH).await).await {
            // It slept, or fell asleep between our looks.
            Err(failure) if failure.is("not_running") && tries < 3 => {
                tries += 1;
                awake(context, &client, &way.session).await?;
            }
            other => break other?,
        }
    };
    context.output.end_progress();
    let host_key = attached["ssh_host_key"].as_str().unwrap_or_default();
    KnownHosts::new(&config_dir, client.origin()).pin(&host, host_key)?;
    // From now on it is this session and no other one of the same name, in this life of its machine.
    way.session = field(&attached["session"], "id");
    way.life = life(&attached);
    match open_speaking(&client, &path(&attached)?, SUBPROTOCOL).await? {
        Some(socket) => ssh::carry(socket, &way, ends).await,
        // The machine was started by an older version. The ticket is spent.
        None => ssh::pump(open_socket(&client, &path(&way.attach(ATTACH).await?)?).await?).await,
    }
}

/// The way to a session: a ticket for each connection.
struct Tickets<'a> {
    context: &'a Context,
    client: &'a Client,
    session: String,
    key: &'a Key,
    life: Value,
}

impl Tickets<'_> {
    async fn attach(&self, within: Duration) -> Result<Value, Failure> {
        let call = Call::post(&["sessions", &self.session, "attach"])
            .json(&json!({ "purpose": "ssh", "ssh_key": self.key.public }))
            .within(within);
        self.client.json(&call).await
    }
}

impl ssh::Way for Tickets<'_> {
    async fn again(&self) -> Result<Socket, Failure> {
        let gone = || {
            Failure::new(
                Exit::Conflict,
                "the session was stopped or restarted; its connections ended with that",
            )
            .hint("Connect again: it wakes.")
        };
        // A session that was put to sleep is not woken by a connection that it has ended.
        let attached = match self.attach(AGAIN).await {
            Err(failure) if failure.is("not_running") => return Err(gone()),
            other => other?,
        };
        if life(&attached) != self.life {
            return Err(gone());
        }
        let socket = open_speaking(self.client, &path(&attached)?, SUBPROTOCOL).await?;
        socket.ok_or_else(gone)
    }

    fn tell(&self, text: &str) {
        // OpenSSH may have taken the terminal: a line feed alone would not return there.
        self.context.output.end_progress();
        self.context.output.note_raw(text);
    }
}

/// What changes when the machine is started anew.
fn life(attached: &Value) -> Value {
    attached["session"]["epoch"].clone()
}

/// Where a ticket leads.
fn path(attached: &Value) -> Result<String, Failure> {
    let path = attached["url_path"].as_str().unwrap_or_default();
    let ticket = attached["ticket"].as_str().unwrap_or_default();
    if !path.starts_with("/api/") || ticket.is_empty() {
        return Err(Failure::new(Exit::Other, "the server's ticket is not what this version understands"));
    }
    Ok(format!("{path}?ticket={ticket}"))
}

/// Tries again for a while where the server cannot be reached: it may just be starting anew.
async fn patiently<T>(
    context: &Context,
    mut work: impl AsyncFnMut() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let until = Instant::now() + PATIENCE;
    let mut told = false;
    loop {
        match work().await {
            Err(failure) if failure.exit == Exit::Unavailable && Instant::now() < until => {
                if !told {
                    told = true;
                    let seconds = PATIENCE.as_secs();
                    context.output.progress(&format!("{failure}; trying again for {seconds} s"));
                }
                sleep(PAUSE).await;
            }
            other => return other,
        }
    }
}
