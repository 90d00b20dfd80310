//! Terminals of the session: made, listed, looked at by several viewers, closed. Nothing is kept before the first one.

mod life;
mod modes;
mod outbox;
mod screen;
mod typed;
mod view;

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use burstflare_ports::wire::terminal::{self, NewTerminal, TERMINALS, Terminal, USUAL};
use http::Request;
use hyper::body::Incoming;

use self::life::{Life, winsize};
use crate::agent::Agent;
use crate::process::{NO_SHELL, Terminal as Attached};
use crate::reply::{self, Refused, Reply};
use crate::{body, exec, pty, websocket};

const BODY_LIMIT: usize = 1 << 20;
/// How long an ended terminal is shown.
const SHOWN: Duration = Duration::from_secs(600);
/// For the end of a terminal that is closed.
const CLOSING: Duration = Duration::from_secs(8);

#[derive(Default)]
struct Table {
    last: u32,
    all: BTreeMap<u32, Arc<Life>>,
}

/// The terminals of this life of the machine.
#[derive(Default)]
pub(crate) struct Terminals(Mutex<Table>);

impl Terminals {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, id: &str) -> Result<Arc<Life>, Refused> {
        let id: Option<u32> = id.parse().ok();
        let found = id.and_then(|id| self.table().all.get(&id).cloned());
        found.ok_or_else(|| Refused::not_found("There is no such terminal (any more)."))
    }
}

/// `GET /v1/terminals`.
pub(crate) fn list(agent: &Agent) -> Result<Reply, Refused> {
    let items = agent.terminals.table().all.values().map(|life| life.describe()).collect();
    reply::json(&terminal::Terminals { items })
}

/// `GET /v1/terminals/{id}`.
pub(crate) fn show(agent: &Agent, id: &str) -> Result<Reply, Refused> {
    reply::json(&agent.terminals.find(id)?.describe())
}

/// `POST /v1/terminals`.
pub(crate) async fn create(agent: &Arc<Agent>, body: Incoming) -> Result<Reply, Refused> {
    let body = body::whole(body, BODY_LIMIT).await?;
    let wish: NewTerminal =
        serde_json::from_slice(&body).map_err(|error| Refused::invalid(error.to_string()))?;
    reply::json(&start(agent, wish)?)
}

fn start(agent: &Arc<Agent>, wish: NewTerminal) -> Result<Terminal, Refused> {
    if !wish.argv.is_empty() {
        exec::check(&wish.argv, wish.cwd.as_deref(), &wish.env)?;
    }
    let size = wish.size.unwrap_or(USUAL).clamped();
    let shell = match agent.surroundings.shell {
        None if wish.argv.is_empty() => return Err(Refused::unacceptable(NO_SHELL)),
        shell => shell.unwrap_or_default(),
    };
    // Held to the end: of two who want the last place, one gets it.
    let mut table = agent.terminals.table();
    if table.all.len() >= TERMINALS {
        // Ended ones make room.
        let over = table.all.iter().find(|(_, life)| life.is_over()).map(|(id, _)| *id);
        let over = over.ok_or_else(|| {
            Refused::busy(format!("{TERMINALS} terminals are open already: close one of them."))
        })?;
        table.all.remove(&over);
    }
    let pair = pty::open(winsize(size))?;
    let mut env = wish.env;
    env.entry("TERM".into()).or_insert_with(|| "xterm-256color".into());
    env.entry("COLORTERM".into()).or_insert_with(|| "truecolor".into());
    let argv = if wish.argv.is_empty() { vec![shell.to_owned()] } else { wish.argv.clone() };
    let (program, arguments) = argv.split_first().ok_or_else(|| Refused::invalid("`argv` is empty."))?;
    let mut command = agent.surroundings.command(program, wish.cwd.as_deref(), &env, Attached::Controlling);
    command.args(arguments);
    if wish.argv.is_empty() {
        let name = shell.rsplit('/').next().unwrap_or(shell);
        command.arg0(format!("-{name}"));
    }
    command.stdin(pair.slave.try_clone()?).stdout(pair.slave.try_clone()?).stderr(pair.slave);
    let child = agent
        .children
        .start(&mut command)
        .map_err(|problem| Refused::unacceptable(format!("The program could not be started: {problem}.")))?;
    // It held the terminal's other end: from here on the programs are its only holders.
    drop(command);
    table.last += 1;
    let id = table.last;
    let life = Life::new(id, argv, (pair.master, size), child.pid, Arc::clone(agent));
    table.all.insert(id, Arc::clone(&life));
    drop(table);
    let described = life.describe();
    let agent = Arc::clone(agent);
    tokio::spawn(async move {
        // A defect in there ends this terminal alone.
        let carried = tokio::spawn(Arc::clone(&life).run(child.exit)).await;
        if carried.is_ok() && !life.is_closing() {
            tokio::time::sleep(SHOWN).await;
        }
        agent.terminals.table().all.remove(&id);
    });
    Ok(described)
}

/// `DELETE /v1/terminals/{id}`: hangs up, waits for the end, forgets it.
pub(crate) async fn close(agent: &Arc<Agent>, id: &str) -> Result<Reply, Refused> {
    let life = agent.terminals.find(id)?;
    life.close();
    if tokio::time::timeout(CLOSING, life.ended()).await.is_err() {
        return Err(Refused::busy("The terminal's program has not ended yet."));
    }
    agent.terminals.table().all.retain(|_, other| !Arc::ptr_eq(other, &life));
    Ok(reply::done())
}

/// `GET /v1/terminals/{id}/view`.
pub(crate) fn view(agent: &Agent, id: &str, request: &mut Request<Incoming>) -> Result<Reply, Refused> {
    let life = agent.terminals.find(id)?;
    let (reply, upgrade) = websocket::accept(request)?;
    tokio::spawn(async move {
        if let Err(problem) = view::serve(life, upgrade).await {
            tracing::debug!(%problem, "a view broke");
        }
    });
    Ok(reply)
}
