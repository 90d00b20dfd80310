//! `flare dev` and `flare serve`: the server, for yourself and for others.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use burstflare_adapters_local::sandbox::{
    AgentCommand, Cidr, EgressConfig, Fallback, NetworkMode, SandboxConfig,
};
use burstflare_app_edge::{EdgeConfig, Origin, router};
use burstflare_core::Registration;
use burstflare_ports::machine::{Isolation, MachineRuntime};
use clap::{Args, ValueEnum};
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::place;
use crate::run;
use crate::serve::{Listeners, Options, Plant, failure, loopback, next_lines, upstream};

/// How long sessions may take to fall asleep when the server ends.
const SLEEP: Duration = Duration::from_secs(60);

/// What both servers take.
#[derive(Debug, Args)]
pub struct Common {
    /// Where everything is kept; by default below $XDG_DATA_HOME.
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// The way out of sessions.
    #[arg(long, value_enum, default_value_t = Network::Proxy)]
    network: Network,
    /// A folder of tools that every session gets read-only, its `bin` on PATH; give it several times.
    #[arg(long = "tool", value_name = "FOLDER")]
    tools: Vec<PathBuf>,
    /// Addresses that sessions may reach although they are private; give it several times.
    #[arg(long = "egress-allow", value_name = "CIDR")]
    egress_allow: Vec<Cidr>,
}

/// The way out of sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Network {
    /// A network of their own; a proxy of this server is the only way out.
    Proxy,
    /// This machine's network: no protection of what listens on it.
    Host,
    /// A network of their own, joined to this machine's by pasta.
    Pasta,
}

/// `flare dev`.
#[derive(Debug, Args)]
pub struct Dev {
    /// Where to listen, on this machine alone.
    #[arg(long, default_value_t = 8787)]
    port: u16,
    /// What both servers take.
    #[command(flatten)]
    common: Common,
}

/// `flare serve`.
#[derive(Debug, Args)]
pub struct Serve {
    /// The URL that people use: what a proxy in front of this server answers as.
    #[arg(long, value_name = "URL", value_parser = Origin::parse)]
    origin: Origin,
    /// Where to listen.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8787")]
    listen: SocketAddr,
    /// Who may make an account.
    #[arg(long, value_enum, default_value_t = Admission::Invite)]
    registration: Admission,
    /// What both servers take.
    #[command(flatten)]
    common: Common,
}

/// Who may make an account on a server for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Admission {
    /// Who was invited, and the first operator.
    Invite,
    /// Nobody.
    Closed,
}

impl Common {
    fn data_dir(&self) -> Result<PathBuf, Failure> {
        self.data_dir.as_deref().map_or_else(place::data_dir, place::absolute)
    }

    fn options(
        &self,
        registration: Registration,
        plan: &'static str,
        fallback: Fallback,
    ) -> Result<Options, Failure> {
        let data_dir = self.data_dir()?;
        let mut sandbox = SandboxConfig::new(data_dir.clone(), AgentCommand::this_program());
        sandbox.network = match self.network {
            Network::Proxy => NetworkMode::Proxy,
            Network::Host => NetworkMode::Host,
            Network::Pasta => NetworkMode::Pasta,
        };
        let variable = |name: &str| std::env::var(name).ok();
        sandbox.egress = EgressConfig { allow: self.egress_allow.clone(), upstream: upstream(variable)? };
        sandbox.tools = self.tools.iter().map(|tool| place::absolute(tool)).collect::<Result<_, _>>()?;
        sandbox.fallback = fallback;
        Ok(Options { data_dir, registration, plan, sandbox })
    }
}

/// Runs `flare dev` until a signal ends it; then its sessions are put to sleep.
///
/// # Errors
/// When the port is taken, or the data folder is in use or not usable.
pub fn dev(context: &Context, args: &Dev) -> Outcome {
    log();
    let runtime = run::server()?;
    let outcome = runtime.block_on(async {
        let mut signals = Signals::listen()?;
        let listeners = loopback(args.port).await?;
        let config = EdgeConfig::dev(listeners.port());
        // Plain processes instead of a sandbox are for one's own machine alone.
        let options = args.common.options(Registration::Open, "local", Fallback::Process)?;
        let data_dir = options.data_dir.clone();
        let plant = Plant::open(options).await?;
        let url = config.url();
        plant.begin(&url).await?;
        warn(context, &plant);
        let document = json!({ "url": url, "data_dir": data_dir });
        context.output.result(&document, || {
            format!("BurstFlare runs at {url} (data in {}).\n{}\nCtrl-C ends it and puts sessions to sleep.", data_dir.display(), next_lines(&url))
        });
        let (stop, stopped) = watch::channel(false);
        let answering = tokio::spawn(listeners.answer(router(plant.plane.clone(), config), stopped));
        signals.next().await;
        tokio::select! {
            slept = sleep_all(context, &plant) => slept?,
            () = signals.next() => {
                context.output.warn("ending at once: sessions that still run are found again at the next start.");
                return Ok(Exit::Interrupted.code());
            }
        }
        let _ = stop.send(true);
        tokio::select! {
            _ = async { answering.await.ok(); plant.end().await; } => {}
            () = signals.next() => {}
        }
        Ok(0)
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

/// Runs `flare serve` until a signal ends it; its sessions go on, and the next server finds them again.
///
/// # Errors
/// When the address is taken, the data folder is in use or not usable, or sessions cannot be isolated.
pub fn serve(context: &Context, args: &Serve) -> Outcome {
    log();
    let runtime = run::server()?;
    let outcome = runtime.block_on(async {
        let mut signals = Signals::listen()?;
        let listeners = Listeners::on(args.listen).await?;
        let url = args.origin.to_string();
        if !args.origin.is_https() {
            context.output.warn(&format!("{url} is not encrypted: put a proxy with a certificate in front of this server."));
        }
        let config = EdgeConfig::serve(listeners.port(), args.origin.clone());
        let registration = match args.registration {
            Admission::Invite => Registration::Invite,
            Admission::Closed => Registration::Closed,
        };
        let options = args.common.options(registration, "standard", Fallback::Refuse)?;
        let plant = Plant::open(options).await?;
        plant.begin(&url).await?;
        warn(context, &plant);
        let code = match registration {
            Registration::Invite => plant.plane.bootstrap_code().await.map_err(|error| Failure::local("bootstrap", error))?,
            _ => None,
        };
        let code = code.map(burstflare_ports::secret::Secret::into_inner);
        let document = json!({ "url": url, "listen": args.listen, "bootstrap_code": code });
        context.output.result(&document, || match &code {
            Some(code) => format!(
                "BurstFlare answers as {url}, listening on {}.\n\nThe first operator registers with this code, which works once:\n\n  flare auth register --email you@example.com --code {code} --url {url}",
                args.listen
            ),
            None => format!("BurstFlare answers as {url}, listening on {}.", args.listen),
        });
        let (stop, stopped) = watch::channel(false);
        let answering = tokio::spawn(listeners.answer(router(plant.plane.clone(), config), stopped));
        signals.next().await;
        context.output.note("Ending; sessions go on running.");
        let _ = stop.send(true);
        tokio::select! {
            _ = async { answering.await.ok(); plant.end().await; } => {}
            () = signals.next() => {}
        }
        Ok(0)
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

fn warn(context: &Context, plant: &Plant) {
    let profile = plant.runtime.profile();
    if profile.isolation == Isolation::Process {
        context.output.warn("this machine cannot isolate sessions: they run as plain processes with your rights. `flare doctor` prints the cure.");
    }
    for warning in &profile.warnings {
        context.output.warn(warning);
    }
}

/// Puts every session to sleep, also those that are started while we do.
async fn sleep_all(context: &Context, plant: &Plant) -> Result<(), Failure> {
    let end = Instant::now() + SLEEP;
    loop {
        plant.plane.sleep_all().await.map_err(|error| failure(&error))?;
        let awake = plant.plane.awake().await.map_err(|error| failure(&error))?;
        if awake == 0 {
            context.output.end_progress();
            return Ok(());
        }
        if Instant::now() >= end {
            context.output.warn(&format!("{awake} sessions did not fall asleep in time; they go on and are found again at the next start."));
            return Ok(());
        }
        context.output.progress(&format!("putting {awake} sessions to sleep (Ctrl-C again ends at once)"));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The signals that end a server.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> Result<Self, Failure> {
        let failed = |error| Failure::local("cannot listen to signals", error);
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// The server's log, on standard error; `FLARE_LOG` says how much of it.
fn log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("FLARE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none();
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(ansi)
        .try_init();
}
