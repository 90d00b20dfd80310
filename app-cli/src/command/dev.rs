//! `flare dev`: the server on this machine, for yourself.

use std::time::{Duration, Instant};

use burstflare_adapters_local::sandbox::Fallback;
use burstflare_app_edge::{EdgeConfig, router};
use burstflare_core::Registration;
use clap::Args;
use serde_json::json;
use tokio::sync::watch;

use super::server::{Common, Signals, descriptors, end, log, warn};
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::run;
use crate::serve::{Plant, failure, loopback, next_lines};

/// How long sessions may take to fall asleep when the server ends.
const SLEEP: Duration = Duration::from_secs(60);

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

/// Runs `flare dev` until a signal ends it; then its sessions are put to sleep.
///
/// # Errors
/// When the port is taken, or the data folder is in use or not usable.
pub fn dev(context: &Context, args: &Dev) -> Outcome {
    log();
    let runtime = run::server()?;
    let outcome = runtime.block_on(async {
        descriptors();
        let mut signals = Signals::listen()?;
        let listeners = loopback(args.port).await?;
        let config = EdgeConfig::dev(listeners.port());
        // Plain processes instead of a sandbox are for one's own machine alone.
        let options = args.common.options(Registration::Open, "local", Fallback::Process)?;
        let data_dir = options.data_dir.clone();
        let Some(plant) = signals.unless(Plant::open(options)).await? else {
            return Ok(Exit::Interrupted.code());
        };
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
        end(plant, &stop, answering, &mut signals).await;
        Ok(0)
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
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
            context.output.warn(&format!("sessions still awake after a minute: {awake}. They go on running and are found again at the next start."));
            return Ok(());
        }
        let sessions = if awake == 1 { "session" } else { "sessions" };
        context.output.progress(&format!("putting {awake} {sessions} to sleep (Ctrl-C again ends at once)"));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
