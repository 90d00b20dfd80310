//! The Worker: the same router, on what this deployment binds. The crate `burstflare-worker` is what is uploaded; it
//! hands each request to [`answer`].
//!
//! | binding | kind | meaning |
//! | --- | --- | --- |
//! | `DB` | D1 | the records |
//! | `BLOBS` | R2 | bundles, layers, logs, snapshots |
//! | `JOBS` | Queue | builds to begin; its dead-letter queue's name ends in `-dead` |
//! | `BUILDS` | Workflow | builds, step by step |
//! | `WORKSPACES` | Durable Object | live hints, an object for each workspace |
//! | `RATE_60_60`, `RATE_600_60` | rate limit | sixty and six hundred calls in sixty seconds |
//! | `MACHINES` | Durable Object | one for each machine, with its container |
//! | `FLARE_INTERNET` | variable | `open` or `closed`: whether machines reach the internet; open where it is absent |
//! | `FLARE_MASTER_KEY` | secret | 32 bytes in base64; seals secrets at rest |
//! | `FLARE_ORIGIN` | variable | the origin people use |
//! | `FLARE_PREVIEW_DOMAIN` | variable | below it live previews; none where neither this nor `FLARE_PORT` is set |
//! | `FLARE_PORT` | variable | on this machine: the port that loopback names are reached at |
//! | `FLARE_REGISTRATION` | variable | `open`, `invite` or `closed`; closed where it is absent |
//! | `FLARE_PLAN` | variable | the plan of new workspaces; `standard` where it is absent |
//! | `FLARE_COUNT` | variable | `1` in tests: answers tell what they asked of the database, in [`COUNTED`] |

mod events;

use std::cell::OnceCell;
use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use burstflare_adapters_cloudflare::{
    Absent, CloudCache, CloudFeed, CloudLimiter, CloudQueue, CloudWorkflows, D1, D1Store, Internet,
    IsolateBackground, MachineHost, Machines, R2Blobs, WorkerClock, WorkerEntropy, js, log,
};
use burstflare_core::ControlPlane;
use burstflare_core::domain::plan;
use burstflare_core::service::{Config, Ports, Registration};
use burstflare_ports::actor::Actors;
use burstflare_ports::machine::{AgentLink, MachineRuntime};
use burstflare_ports::secret::Secret;
use tower_service::Service as _;
use worker::durable::State;
use worker::send::SendWrapper;
use worker::wasm_bindgen::JsValue;
use worker::{Env, Error, HttpRequest, Request};

pub use self::events::{Steps, reconcile, take};
use crate::config::{ClientAddress, EdgeConfig, LoopbackRate, Origin};
use crate::preview::PreviewDomain;
use crate::router;

/// Where a deployment that counts says what a request asked of the database: `reads=N, batches=M`.
pub const COUNTED: HeaderName = HeaderName::from_static("flare-d1");

/// What JavaScript hands to every event beside the event: `ctx`, or an object's state.
pub type EventContext = SendWrapper<JsValue>;

/// Answers a request.
///
/// # Errors
/// Where the deployment is not set up as the table above says; the text names the binding.
pub async fn answer(request: HttpRequest, env: Env, context: EventContext) -> worker::Result<Response<Body>> {
    js(answer_it(request, env, context)).await
}

async fn answer_it(
    mut request: HttpRequest,
    env: Env,
    context: EventContext,
) -> worker::Result<Response<Body>> {
    // Made anew for each request, so that what it counts is the request's.
    let database = D1::new(env.d1("DB")?);
    let counted = (variable(&env, "FLARE_COUNT").as_deref() == Some("1")).then(|| database.counted());
    let plane = plane(&env, database, context)?;
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

/// The control plane, for one event.
fn plane(env: &Env, database: D1, context: EventContext) -> worker::Result<ControlPlane> {
    log::install();
    Ok(ControlPlane::new(ports(env, database, context, machines(env)?)?, config(env)?))
}

fn ports(
    env: &Env,
    database: D1,
    context: EventContext,
    machines: Option<Machines>,
) -> worker::Result<Ports> {
    let absent = Arc::new(Absent);
    let background = IsolateBackground::new(context.0);
    let (actors, runtime, agents): (Arc<dyn Actors>, Arc<dyn MachineRuntime>, Arc<dyn AgentLink>) =
        match machines {
            Some(machines) => {
                let machines = Arc::new(machines);
                (machines.clone(), machines.clone(), machines)
            }
            None => (absent.clone(), absent.clone(), absent.clone()),
        };
    Ok(Ports {
        store: Arc::new(D1Store::new(database)),
        blobs: Arc::new(R2Blobs::new(env.bucket("BLOBS")?)),
        queue: Arc::new(CloudQueue::new(env, "JOBS")?),
        workflows: Arc::new(CloudWorkflows::new(env, "BUILDS")?),
        actors,
        runtime,
        agents,
        feed: Arc::new(CloudFeed::new(env.durable_object("WORKSPACES")?, background.clone())),
        cache: Arc::new(CloudCache::new(env.kv("CACHE")?, Arc::new(WorkerClock))),
        limiter: Arc::new(CloudLimiter::new(env.clone())),
        mailer: absent,
        clock: Arc::new(WorkerClock),
        entropy: Arc::new(WorkerEntropy),
        background: Arc::new(background),
    })
}

/// None where the deployment has no containers: starting a session is an error that says so then.
fn machines(env: &Env) -> worker::Result<Option<Machines>> {
    let Ok(namespace) = env.durable_object("MACHINES") else { return Ok(None) };
    Ok(Some(Machines::new(namespace, internet(env)?)))
}

fn internet(env: &Env) -> worker::Result<Internet> {
    match variable(env, "FLARE_INTERNET").as_deref() {
        Some("open") | None => Ok(Internet::Open),
        Some("closed") => Ok(Internet::Closed),
        Some(_) => Err(refused("FLARE_INTERNET")),
    }
}

/// What the class of a machine's Durable Object is made of; the entry hands everything over.
pub struct MachineObject(SendWrapper<Object>);

struct Object {
    host: MachineHost,
    env: Env,
    context: JsValue,
    /// Made once: what the control plane remembers of a session lives as long as its object.
    plane: OnceCell<ControlPlane>,
}

impl MachineObject {
    /// Of the object with this state.
    ///
    /// # Errors
    /// Where a binding is missing.
    pub fn new(state: State, env: Env) -> worker::Result<Self> {
        log::install();
        let context = AsRef::<JsValue>::as_ref(state.as_raw()).clone();
        let host = MachineHost::new(state, Arc::new(R2Blobs::new(env.bucket("BLOBS")?)), internet(&env)?);
        Ok(Self(SendWrapper::new(Object { host, env, context, plane: OnceCell::new() })))
    }

    /// A Worker's request.
    ///
    /// # Errors
    /// What JavaScript refuses; failures of the machine are answers.
    pub fn fetch(&self, request: Request) -> impl Future<Output = worker::Result<worker::Response>> + Send {
        js(self.0.host.serve(request))
    }

    /// The alarm.
    ///
    /// # Errors
    /// Where the storage does not answer or a binding is missing: the platform calls again.
    pub fn alarm(&self) -> impl Future<Output = worker::Result<()>> + Send {
        js(async {
            let failed = |error: burstflare_ports::error::PortError| Error::RustError(error.to_string());
            self.0.host.resume().await.map_err(failed)?;
            let Some(machine) = self.0.host.machine().await.map_err(failed)? else { return Ok(()) };
            let plane = match self.0.plane.get() {
                Some(plane) => plane,
                None => {
                    let machines = machines(&self.0.env)?.map(|all| all.within(machine, self.0.host.clone()));
                    let database = D1::new(self.0.env.d1("DB")?);
                    let context = SendWrapper::new(self.0.context.clone());
                    let ports = ports(&self.0.env, database, context, machines)?;
                    let plane = ControlPlane::new(ports, config(&self.0.env)?);
                    self.0.plane.get_or_init(|| plane)
                }
            };
            self.0.host.alarm(plane).await.map_err(failed)
        })
    }
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
    let port = variable(env, "FLARE_PORT").map(number).transpose()?;
    let origin = variable(env, "FLARE_ORIGIN").map(origin).transpose()?;
    // Never a domain whose pages share cookies with ours.
    let apart = |text: String| {
        let domain: Option<PreviewDomain> = text.parse().ok();
        let apart = domain.zip(origin.as_ref()).and_then(|(domain, origin)| domain.apart_from(origin).ok());
        apart.ok_or_else(|| refused("FLARE_PREVIEW_DOMAIN"))
    };
    let previews = match variable(env, "FLARE_PREVIEW_DOMAIN") {
        Some(text) => Some(apart(text)?),
        None => port.map(|_| PreviewDomain::local()),
    };
    Ok(EdgeConfig { port, origin, previews, loopback_rate: LoopbackRate::Counted, ..EdgeConfig::dev(0) })
}

fn variable(env: &Env, name: &str) -> Option<String> {
    env.var(name).ok().map(|variable| variable.to_string())
}

fn refused(name: &str) -> Error {
    Error::RustError(format!("the binding {name} is missing or malformed"))
}
