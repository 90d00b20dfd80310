//! What listens now: looked at when something begins to listen or an owner ends, and slowly while anything is open.
//! A machine in which nothing listens and nothing begins to is never looked at.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use burstflare_ports::wire::AGENT_PORT;
use burstflare_ports::wire::port::{OpenPort, OpenPorts, PORTS_LIMIT};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use super::Addresses;
use super::owner::{self, Owner};
use super::sockets::{self, Listening};
use crate::agent::Agent;
use crate::reaper::Children;

/// After `listen` was heard: the call itself is still to come, and on a busy machine it takes its time.
const SOON: [Duration; 4] =
    [Duration::from_millis(1), Duration::from_millis(10), Duration::from_millis(100), Duration::from_secs(1)];
/// While something is open: a process may close a socket and live on, which nobody tells.
const OPEN: Duration = Duration::from_secs(5);
/// Where nothing is heard, while the user has processes: at first, and at most.
const UNHEARD: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));

/// One look's result.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// As reported.
    pub(super) open: OpenPorts,
    addresses: BTreeMap<u16, Addresses>,
}

/// The ports of this machine.
pub(crate) struct Ports {
    state: watch::Sender<State>,
    memory: tokio::sync::Mutex<Memory>,
    bell: Arc<Notify>,
    heard: bool,
    /// Whether every socket here is the machine's own.
    own_network: bool,
}

/// What earlier looks found out.
#[derive(Default)]
struct Memory {
    owners: HashMap<u64, Option<Owner>>,
    /// Sockets of this process itself: they are nobody's ports.
    own: HashSet<u64>,
    /// Tasks that wait for the end of owners.
    ends: HashMap<Pid, AbortHandle>,
}

impl Ports {
    /// `bell` is rung when something is about to listen, if `heard`.
    pub(crate) fn new(bell: Arc<Notify>, heard: bool, own_network: bool) -> Self {
        let (state, _) = watch::channel(State::default());
        Self { state, memory: tokio::sync::Mutex::default(), bell, heard, own_network }
    }

    /// Follows the changes.
    pub(super) fn subscribe(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Where a port is reached; empty where the last look did not find it.
    pub(super) fn addresses(&self, port: u16) -> Addresses {
        self.state.borrow().addresses.get(&port).cloned().unwrap_or_default()
    }

    /// Looks now. Cancel-safe: a look that is dropped is begun anew by the next one.
    pub(super) async fn look(&self) -> OpenPorts {
        let mut memory = self.memory.lock().await;
        let listening: Vec<Listening> =
            sockets::listening().into_iter().filter(|socket| socket.address.port() != AGENT_PORT).collect();
        memory.owners.retain(|inode, _| listening.iter().any(|socket| socket.inode == *inode));
        memory.own.retain(|inode| listening.iter().any(|socket| socket.inode == *inode));
        // A process may be gone while another one holds the socket still.
        memory.owners.retain(|_, owner| owner.as_ref().is_none_or(|owner| alive(owner.pid)));
        let unknown: HashSet<u64> = listening
            .iter()
            .map(|socket| socket.inode)
            .filter(|inode| !memory.owners.contains_key(inode) && !memory.own.contains(inode))
            .collect();
        if !unknown.is_empty() {
            self.identify(&mut memory, unknown).await;
        }
        self.wait_for_ends(&mut memory);
        let state = state(&listening, &memory.owners);
        self.state.send_if_modified(|last| {
            let changed = *last != state;
            if changed {
                last.clone_from(&state);
            }
            changed
        });
        state.open
    }

    /// Finds the owners of sockets; those of other people's processes are left out of the memory, and with it.
    async fn identify(&self, memory: &mut Memory, mut unknown: HashSet<u64>) {
        let found = tokio::task::spawn_blocking(move || {
            let own: HashSet<u64> = owner::own().into_iter().filter(|inode| unknown.remove(inode)).collect();
            let owners = if unknown.is_empty() { HashMap::new() } else { owner::find(&unknown) };
            (own, unknown, owners)
        });
        let Ok((own, unknown, mut owners)) = found.await else { return };
        memory.own.extend(own);
        for inode in unknown {
            let owner = owners.remove(&inode);
            // In a network of its own a socket is the machine's, also when its process hides.
            if owner.is_some() || self.own_network {
                memory.owners.insert(inode, owner);
            }
        }
    }

    /// Rings when an owner ends: most ports close that way.
    fn wait_for_ends(&self, memory: &mut Memory) {
        let pids: HashSet<Pid> = memory.owners.values().flatten().map(|owner| owner.pid).collect();
        memory.ends.retain(|pid, waiting| {
            let wanted = pids.contains(pid);
            if !wanted {
                waiting.abort();
            }
            wanted
        });
        for pid in pids {
            memory.ends.entry(pid).or_insert_with(|| {
                let bell = Arc::clone(&self.bell);
                tokio::spawn(async move {
                    if end_of(pid).await.is_ok() {
                        bell.notify_one();
                    }
                })
                .abort_handle()
            });
        }
    }

    /// Looks whenever there is a reason to, for the life of the agent.
    pub(crate) async fn run(&self, agent: &Agent) {
        // A machine begins with nothing that listens.
        if self.heard {
            self.bell.notified().await;
        }
        let mut soon = SOON.iter();
        let mut unheard = UNHEARD.0;
        loop {
            let any = !self.look().await.ports.is_empty();
            let began = agent.children.begun.notified();
            let next = match soon.next() {
                Some(pause) => Some(*pause),
                None if !self.heard && !Children::none_left() => {
                    unheard = (unheard * 2).min(UNHEARD.1);
                    Some(unheard)
                }
                None => any.then_some(OPEN),
            };
            let pause = async {
                match next {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.bell.notified() => soon = SOON.iter(),
                () = began, if !self.heard => {
                    soon = SOON.iter();
                    unheard = UNHEARD.0;
                }
                () = pause => {}
            }
        }
    }
}

fn state(listening: &[Listening], owners: &HashMap<u64, Option<Owner>>) -> State {
    let mut state = State::default();
    let mut names: BTreeMap<u16, Option<String>> = BTreeMap::new();
    for socket in listening {
        let Some(owner) = owners.get(&socket.inode) else { continue };
        let port = socket.address.port();
        let addresses: &mut Addresses = state.addresses.entry(port).or_default();
        if !addresses.contains(&socket.address) {
            addresses.push(socket.address);
            addresses.sort();
        }
        let name = names.entry(port).or_default();
        if name.is_none() {
            *name = owner.as_ref().map(|owner| owner.name.clone());
        }
    }
    state.open.ports =
        names.into_iter().map(|(port, process)| OpenPort { port, process }).take(PORTS_LIMIT).collect();
    state
}

fn alive(pid: Pid) -> bool {
    rustix::process::test_kill_process(pid).is_ok()
}

/// Resolves when the process has ended (pidfd_open(2)).
async fn end_of(pid: Pid) -> std::io::Result<()> {
    let process: OwnedFd = match pidfd_open(pid, PidfdFlags::NONBLOCK) {
        // It is gone already.
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        other => other?,
    };
    // SAFETY: the descriptor is owned by what is registered, which never gives it away or closes it before.
    let process = unsafe { AsyncFd::register_with_interest(process, Interest::READABLE) }?;
    process.readable().await.map(drop)
}
