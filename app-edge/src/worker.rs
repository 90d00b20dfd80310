//! The Worker: the same router, on what this deployment binds. The crate `burstflare-worker` is what is uploaded; it
//! hands each request to [`answer`].
//!
//! | binding | kind | meaning |
//! | --- | --- | --- |
//! | `DB` | D1 | the records |
//! | `BLOBS` | R2 | bundles, layers, logs, snapshots |
//! | `FLARE_MASTER_KEY` | secret | 32 bytes in base64; seals secrets at rest |
//! | `FLARE_ORIGIN` | variable | the origin people use |
//! | `FLARE_PORT` | variable | on this machine: the port that loopback names are reached at |
//! | `FLARE_REGISTRATION` | variable | `open`, `invite` or `closed`; closed where it is absent |
//! | `FLARE_PLAN` | variable | the plan of new workspaces; `standard` where it is absent |
//! | `FLARE_COUNT` | variable | `1` in tests: answers tell what they asked of the database, in [`COUNTED`] |

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use burstflare_adapters_cloudflare::{
    Absent, D1, D1Store, IsolateBackground, R2Blobs, WorkerClock, WorkerEntropy, js,
};
use burstflare_core::ControlPlane;
use burstflare_core::domain::plan;
use burstflare_core::service::{Config, Ports, Registration};
use burstflare_ports::secret::Secret;
use tower_service::Service as _;
use worker::{Env, Error, HttpRequest};

use crate::config::{ClientAddress, EdgeConfig, LoopbackRate, Origin};
use crate::router;

/// Where a deployment that counts says what a request asked of the database: `reads=N, batches=M`.
pub const COUNTED: HeaderName = HeaderName::from_static("flare-d1");

/// Answers a request.
///
/// # Errors
/// Where the deployment is not set up as the table above says; the text names the binding.
pub async fn answer(request: HttpRequest, env: Env) -> worker::Result<Response<Body>> {
    js(answer_it(request, env)).await
}

async fn answer_it(mut request: HttpRequest, env: Env) -> worker::Result<Response<Body>> {
    // Made anew for each request, so that what it counts is the request's.
    let database = D1::new(env.d1("DB")?);
    let counted = (variable(&env, "FLARE_COUNT").as_deref() == Some("1")).then(|| database.counted());
    let plane = ControlPlane::new(ports(database, &env)?, config(&env)?);
    // Set by Cloudflare itself, whatever the client sent.
    let address = request.headers().get("cf-connecting-ip").and_then(|value| value.to_str().ok());
    if let Some(address) = address.and_then(|text| text.parse::<IpAddr>().ok()) {
        request.extensions_mut().insert(ClientAddress(address));
    }
    let mut response = match router(plane, edge(&env)?).call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    if let Some(counted) = counted {
        let text = format!("reads={}, batches={}", counted.reads(), counted.batches());
        response
            .headers_mut()
            .insert(COUNTED, HeaderValue::try_from(text).map_err(|_| refused("FLARE_COUNT"))?);
    }
    Ok(response)
}

fn ports(database: D1, env: &Env) -> worker::Result<Ports> {
    let absent = Arc::new(Absent);
    Ok(Ports {
        store: Arc::new(D1Store::new(database)),
        blobs: Arc::new(R2Blobs::new(env.bucket("BLOBS")?)),
        queue: absent.clone(),
        workflows: absent.clone(),
        actors: absent.clone(),
        runtime: absent.clone(),
        agents: absent.clone(),
        feed: absent.clone(),
        limiter: absent.clone(),
        mailer: absent,
        clock: Arc::new(WorkerClock),
        entropy: Arc::new(WorkerEntropy),
        background: Arc::new(IsolateBackground::default()),
    })
}

/// Master keys of before, in base64 with commas between.
fn earlier(env: &Env) -> worker::Result<Vec<Secret<[u8; 32]>>> {
    let Ok(keys) = env.secret("FLARE_EARLIER_MASTER_KEYS") else { return Ok(Vec::new()) };
    let keys = keys.to_string();
    let read =
        |key: &str| STANDARD.decode(key.trim()).ok().and_then(|bytes| bytes.try_into().ok()).map(Secret::new);
    let keys: Option<Vec<_>> = keys.split(',').filter(|key| !key.trim().is_empty()).map(read).collect();
    keys.ok_or_else(|| refused("FLARE_EARLIER_MASTER_KEYS"))
}

fn config(env: &Env) -> worker::Result<Config> {
    let key = env.secret("FLARE_MASTER_KEY").map_err(|_| refused("FLARE_MASTER_KEY"))?.to_string();
    let key = STANDARD.decode(key.trim()).ok().and_then(|bytes| bytes.try_into().ok());
    Ok(Config {
        registration: match variable(env, "FLARE_REGISTRATION").as_deref() {
            Some("open") => Registration::Open,
            Some("invite") => Registration::Invite,
            Some("closed") | None => Registration::Closed,
            Some(_) => return Err(refused("FLARE_REGISTRATION")),
        },
        master_key: Secret::new(key.ok_or_else(|| refused("FLARE_MASTER_KEY"))?),
        earlier_master_keys: earlier(env)?,
        plan: variable(env, "FLARE_PLAN").unwrap_or_else(|| plan::STANDARD.name.to_owned()),
    })
}

fn edge(env: &Env) -> worker::Result<EdgeConfig> {
    let number = |text: String| text.parse().map_err(|_| refused("FLARE_PORT"));
    let origin = |text: String| Origin::parse(&text).map_err(|_| refused("FLARE_ORIGIN"));
    Ok(EdgeConfig {
        port: variable(env, "FLARE_PORT").map(number).transpose()?,
        origin: variable(env, "FLARE_ORIGIN").map(origin).transpose()?,
        loopback_rate: LoopbackRate::Counted,
        ..EdgeConfig::dev(0)
    })
}

fn variable(env: &Env, name: &str) -> Option<String> {
    env.var(name).ok().map(|variable| variable.to_string())
}

fn refused(name: &str) -> Error {
    Error::RustError(format!("the binding {name} is missing or malformed"))
}
