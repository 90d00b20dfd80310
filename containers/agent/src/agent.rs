//! The running agent: what every call shares, and its life from boot to end.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use burstflare_ports::machine::Epoch;
use burstflare_ports::wire::{Boot, Egress, OLDEST_PROTOCOL, PROTOCOL, Ready, capability};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use crate::activity::{self, Activity};
use crate::auth::Key;
use crate::files::Files;
use crate::metrics::Meters;
use crate::port::{self, Ports};
use crate::process::Surroundings;
use crate::reaper::Children;
use crate::server::Listener;
use crate::snapshot::{self, Scans};
use crate::ssh::HostKey;
use crate::terminal::Terminals;
use crate::{boot, egress, folder, server, shutdown};

/// Between TERM and KILL when the machine is ended by a signal to us.
const SIGTERM_GRACE: Duration = Duration::from_secs(10);
/// Stacks of blocking threads; they walk folders recursively. Only touched pages count.
const STACK: usize = 8 << 20;

/// What we can beyond version 1 of the protocol: names of [`burstflare_ports::wire::capability`].
const CAPABILITIES: &[&str] = &[
    capability::ACTIVITY,
    capability::EXEC_STREAMS,
    capability::FILES,
    capability::METRICS,
    capability::PORTS,
    capability::SECRETS,
    capability::SNAPSHOTS,
    capability::TERMINALS,
];

/// What every call shares.
pub(crate) struct Agent {
    /// The machine's name.
    pub(crate) machine: String,
    /// The life it belongs to.
    pub(crate) epoch: Epoch,
    /// Who may call.
    pub(crate) key: Key,
    /// The SSH server's identity.
    pub(crate) host_key: HostKey,
    /// The persisted roots, absolute.
    pub(crate) roots: Vec<String>,
    /// The way out, where the machine has one of ours.
    pub(crate) egress: Option<Egress>,
    /// What processes of the user are born with.
    pub(crate) surroundings: Surroundings,
    /// When the user was last active.
    pub(crate) activity: Arc<Activity>,
    /// Processes that we started and wait for.
    pub(crate) children: Children,
    /// The start hook, until it has run.
    pub(crate) on_start: std::sync::Mutex<Option<String>>,
    /// Terminals that people look at.
    pub(crate) terminals: Terminals,
    /// Held by whoever changes or captures the roots: one at a time.
    pub(crate) roots_in_use: Arc<tokio::sync::Mutex<()>>,
    /// Files that are read and written by path.
    pub(crate) files: Files,
    /// What was measured last.
    pub(crate) meters: Meters,
    /// Set once everything in the machine has ended.
    pub(crate) ended: AtomicBool,
    /// Told when the answer that reports the end is written.
    pub(crate) finished: Notify,
    /// The last scan of a snapshot.
    pub(crate) scans: Scans,
    /// What listens.
    pub(crate) ports: Ports,
    /// Bounds what goes to it.
    pub(crate) port_places: port::Places,
    started: Instant,
}

impl Agent {
    /// Lives until told to end.
    pub(crate) fn live(boot: Boot, listener: OwnedFd) -> io::Result<()> {
        let open_files = boot::raise_open_files();
        // Before anything is heard: this port is ours, and nothing to look for.
        let way_out = boot.egress.as_ref().and_then(egress::listen);
        // Before any thread: each has the filter from its beginning.
        let bell = Arc::new(Notify::new());
        let heard = port::listen::hear({
            let bell = Arc::clone(&bell);
            move || bell.notify_one()
        });
        if let Err(problem) = &heard {
            tracing::warn!(%problem, "ports are looked for instead of heard");
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(32)
            .thread_keep_alive(Duration::from_secs(2))
            .thread_stack_size(STACK)
            .build()?;
        let ended = runtime.block_on(async {
            let listener = Listener::take(listener)?;
            for root in &boot.roots {
                if let Err(problem) = std::fs::create_dir_all(root) {
                    tracing::warn!(root, %problem, "a root cannot be made");
                }
            }
            match snapshot::swap::recover(&boot.roots) {
                Ok(()) => {
                    for root in &boot.roots {
                        if let Err(problem) = folder::sweep(root) {
                            tracing::warn!(root, %problem, "unfinished files of an earlier life stay");
                        }
                    }
                }
                // What is unfinished is then the only whole tree there is.
                Err(problem) => tracing::error!(%problem, "a restore that was cut off cannot be finished"),
            }
            if let Err(problem) = std::fs::create_dir_all(Path::new(&boot.run).join("awake")) {
                tracing::warn!(run = boot.run, %problem, "the folder for marks cannot be made");
            }
            if let (Some(listener), Some(way_out)) = (way_out, boot.egress.clone()) {
                tokio::spawn(egress::run(listener, way_out));
            }
            let agent = Arc::new(Self {
                key: Key::new(boot.key.expose()),
                host_key: HostKey::from_seed(boot.ssh_host_seed.expose())?,
                surroundings: Surroundings::new(&boot, open_files),
                activity: Arc::new(Activity::new(Path::new(&boot.run))),
                // An egress proxy is the way out of a network of one's own.
                ports: Ports::new(bell, heard.is_ok(), boot.egress.is_some()),
                port_places: port::Places::default(),
                machine: boot.machine,
                epoch: boot.epoch,
                roots: boot.roots,
                egress: boot.egress,
                children: Children::default(),
                on_start: std::sync::Mutex::new(boot.on_start),
                terminals: Terminals::default(),
                roots_in_use: Arc::default(),
                files: Files::default(),
                meters: Meters::default(),
                ended: AtomicBool::new(false),
                finished: Notify::new(),
                scans: Scans::default(),
                started: Instant::now(),
            });
            agent.attend(listener).await
        });
        // A capture whose reader hangs must not keep the machine.
        runtime.shutdown_background();
        ended
    }

    async fn attend(self: Arc<Self>, listener: Listener) -> io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut child = signal(SignalKind::child())?;
        let reaping = async {
            loop {
                self.children.bury();
                if child.recv().await.is_none() {
                    return;
                }
            }
        };
        let terminating = async {
            terminate.recv().await;
            tracing::info!("told to terminate");
            shutdown::end_all(&self, SIGTERM_GRACE).await;
        };
        tokio::select! {
            () = activity::attend(Arc::clone(&self)) => Err(io::Error::other("nobody judges activity")),
            () = server::run(Arc::clone(&self), listener) => Ok(()),
            () = self.ports.run(&self) => Ok(()),
            () = reaping => Err(io::Error::other("signals ended")),
            () = terminating => Ok(()),
            () = self.finished.notified() => Ok(()),
        }
    }

    /// What the agent says of itself.
    pub(crate) fn ready(&self) -> Ready {
        Ready {
            protocol: PROTOCOL,
            oldest_protocol: OLDEST_PROTOCOL,
            capabilities: CAPABILITIES.iter().map(|name| (*name).to_owned()).collect(),
            machine: self.machine.clone(),
            epoch: self.epoch,
            ssh_host_key: self.host_key.public_line().to_owned(),
            uptime_ms: self.uptime_ms(),
        }
    }

    /// Since it started, in milliseconds.
    pub(crate) fn uptime_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
