//! `flare serve`: the server for others.

use std::net::SocketAddr;
use std::time::Duration;

use burstflare_adapters_local::sandbox::Fallback;
use burstflare_app_edge::{EdgeConfig, Origin, PreviewDomain, router};
use burstflare_core::Registration;
use burstflare_ports::secret::Secret;
use clap::{Args, ValueEnum};
use serde_json::json;
use tokio::sync::watch;

use super::server::{Common, Signals, descriptors, end, log, warn};
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::run;
use crate::serve::{Listeners, Plant};

/// `flare serve`.
#[derive(Debug, Args)]
pub struct Serve {
    /// The URL that people use: what a proxy in front of this server answers as.
    #[arg(long, value_name = "URL", value_parser = Origin::parse)]
    origin: Origin,
    /// Below it live previews, each on a host of its own: a wildcard name of another registrable domain, which the proxy
    /// in front has to answer as well. Without it there are none.
    #[arg(long, value_name = "DOMAIN")]
    preview_domain: Option<PreviewDomain>,
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

/// Runs `flare serve` until a signal ends it; its sessions go on, and the next server finds them again.
///
/// # Errors
/// When the address is taken, the data folder is in use or not usable, or sessions cannot be isolated.
pub fn serve(context: &Context, args: &Serve) -> Outcome {
    log();
    let runtime = run::server()?;
    let outcome = runtime.block_on(async {
        descriptors();
        let mut signals = Signals::listen()?;
        let listeners = Listeners::on(args.listen).await?;
        let address = listeners.address()?;
        let url = args.origin.to_string();
        if !args.origin.is_https() {
            context.output.warn(&format!("{url} is not encrypted: put a proxy with a certificate in front of this server."));
        }
        let mut config = EdgeConfig::serve(listeners.port(), args.origin.clone());
        let domain = args.preview_domain.clone().map(|domain| domain.apart_from(&args.origin));
        config.previews = domain.transpose().map_err(|error| Failure::usage(error.to_string()))?;
        let registration = match args.registration {
            Admission::Invite => Registration::Invite,
            Admission::Closed => Registration::Closed,
        };
        let options = args.common.options(registration, "standard", Fallback::Refuse)?;
        let Some(plant) = signals.unless(Plant::open(options)).await? else {
            return Ok(Exit::Interrupted.code());
        };
        plant.begin(&url).await?;
        warn(context, &plant);
        let code = match registration {
            Registration::Invite => plant.plane.bootstrap_code().await.map_err(|error| Failure::local("bootstrap", error))?,
            _ => None,
        };
        let code = code.map(Secret::into_inner);
        let document = json!({ "url": url, "listen": address, "bootstrap_code": code });
        context.output.result(&document, || match &code {
            Some(code) => format!(
                "BurstFlare answers as {url}, listening on {address}.\n\nThe first operator registers with this code, which works once:\n\n  flare auth register --email you@example.com --code {code} --url {url}"
            ),
            None => format!("BurstFlare answers as {url}, listening on {address}."),
        });
        let (stop, stopped) = watch::channel(false);
        let answering = tokio::spawn(listeners.answer(router(plant.plane.clone(), config), stopped));
        signals.next().await;
        context.output.note("Ending; sessions go on running.");
        end(plant, &stop, answering, &mut signals).await;
        Ok(0)
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}
