//! A Durable Object as the owner of one machine's container: the only one who starts, ends and calls it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use burstflare_ports::blob::Blobs;
use burstflare_ports::drive::SessionActor;
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::machine::{AgentTarget, Epoch, LayerRef, MachineKey, MachineOwner};
use burstflare_ports::stream::Body;
use burstflare_ports::time::Timestamp;
use burstflare_ports::wire::{self, BOOT_VARIABLE};
use futures_util::lock::Mutex;
use http::header::CONTENT_LENGTH;
use http::{Method, Request, Response, StatusCode};
use wasm_bindgen::{JsCast, JsValue};
use worker::durable::State;
use worker::{Delay, web_sys};

use super::carry;
use super::container::{Container, Options};
use super::life::{Life, Phase, Shelf, Wishes, now};
use super::message::{StartCall, StatusAnswer, StoppedAnswer};

/// For a container to be placed, its image to be there, and its agent to answer.
const PATIENCE: Duration = Duration::from_secs(120);
/// For one question whether the agent answers: a port that does not listen yet can let it hang.
const QUESTION: Duration = Duration::from_secs(2);
/// Between two such questions, and between two looks whether a container has ended.
const PAUSE: Duration = Duration::from_millis(50);
/// For a layer to be sent and unpacked.
const LAYER: Duration = Duration::from_secs(600);
/// How long the platform's word about an end is waited for after the container is gone.
const VERDICT: Duration = Duration::from_secs(1);
/// The longest value of an environment variable (Linux: 128 KiB with its name).
const VARIABLE: usize = 120 << 10;
/// No build runs longer, whatever became of its workflow.
const LONGEST_BUILD: Duration = Duration::from_secs(6 * 3600);
/// How long the epoch of a removed machine is remembered.
const MEMORY: Duration = Duration::from_secs(3600);
/// Between looks that fail: the first pause, doubled up to the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(60));

/// What one object does with its container. Clones are the same.
#[derive(Clone)]
pub struct MachineHost {
    inner: Rc<Inner>,
}

struct Inner {
    state: State,
    container: Option<Container>,
    shelf: Shelf,
    blobs: Arc<dyn Blobs>,
    internet: Internet,
    /// Operations on the machine take turns.
    turn: Mutex<()>,
    /// Changes of what is wished for, too.
    wishing: Mutex<()>,
    /// The life whose end is waited for.
    watched: Cell<Option<Epoch>>,
    /// How a life ended, as the platform said it, and whether that was well.
    verdict: RefCell<Option<(Epoch, bool)>>,
    resumed: Cell<bool>,
}

/// Whether machines reach the internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Internet {
    /// All of it.
    Open,
    /// Nothing.
    Closed,
}

impl std::fmt::Debug for MachineHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MachineHost").field("watched", &self.inner.watched).finish_non_exhaustive()
    }
}

impl MachineHost {
    /// Of the object whose state this is; layers come out of `blobs`.
    #[must_use]
    pub fn new(state: State, blobs: Arc<dyn Blobs>, internet: Internet) -> Self {
        let container = state.container().map(JsValue::from);
        Self::with_container(state, container, blobs, internet)
    }

    /// The same with this container instead of the object's own; for tests.
    #[must_use]
    pub fn with_container(
        state: State,
        container: Option<JsValue>,
        blobs: Arc<dyn Blobs>,
        internet: Internet,
    ) -> Self {
        let container = container.map(JsCast::unchecked_into);
        let shelf = Shelf::new(state.storage());
        Self {
            inner: Rc::new(Inner {
                state,
                container,
                shelf,
                blobs,
                internet,
                turn: Mutex::default(),
                wishing: Mutex::default(),
                watched: Cell::default(),
                verdict: RefCell::default(),
                resumed: Cell::default(),
            }),
        }
    }

    /// To be called before anything else of a request or an alarm: after an eviction it takes the container up again,
    /// or finds out that it is gone.
    ///
    /// # Errors
    /// When the storage does not answer.
    pub async fn resume(&self) -> PortResult<()> {
        if self.inner.resumed.replace(true) {
            return Ok(());
        }
        let Some(life) = self.inner.shelf.life().await? else { return Ok(()) };
        if !matches!(life.phase, Phase::Starting | Phase::Running) {
            return Ok(());
        }
        if self.container()?.running() {
            self.watch(life.epoch);
        } else {
            self.set(life.epoch, Phase::Broken).await?;
            self.wake().await?;
        }
        Ok(())
    }

    /// Whose machine it is, as a call says it; remembered for the alarm.
    pub(super) async fn is_of(&self, machine: MachineKey) -> PortResult<()> {
        if self.inner.shelf.machine().await?.is_none() {
            self.inner.shelf.set_machine(machine).await?;
        }
        Ok(())
    }

    /// Whose machine it is, where anybody has called.
    ///
    /// # Errors
    /// When the storage does not answer.
    pub async fn machine(&self) -> PortResult<Option<MachineKey>> {
        self.inner.shelf.machine().await
    }

    pub(super) async fn start(&self, machine: MachineKey, call: StartCall) -> PortResult<()> {
        let _turn = self.inner.turn.lock().await;
        let life = self.current(call.epoch, START).await?;
        let container = self.container()?;
        if container.running() {
            if life.is_some_and(|life| life.epoch == call.epoch && life.phase == Phase::Running) {
                return Ok(());
            }
            // Of an earlier life, or of this one and half made.
            container.kill().await?;
        }
        let boot = serde_json::to_vec(&call.boot).map_err(|error| {
            PortError::new(ErrorKind::Internal, START, "cannot write the boot message").with_source(error)
        })?;
        let boot = STANDARD.encode(boot);
        if boot.len() > VARIABLE {
            let text = format!("the machine's environment is over {VARIABLE} bytes");
            return Err(PortError::new(ErrorKind::TooLarge, START, text));
        }
        self.set(call.epoch, Phase::Starting).await?;
        if let MachineOwner::Build(_) = machine.owner {
            self.wish(|wishes| wishes.end = Some(now().after(LONGEST_BUILD).millis())).await?;
        }
        let options =
            Options { env: vec![(BOOT_VARIABLE, boot)], internet: self.inner.internet == Internet::Open };
        container.run(&options).await?;
        self.watch(call.epoch);
        let target = AgentTarget { machine, epoch: call.epoch, key: call.boot.key.clone() };
        self.answers(&target).await?;
        if let Some(layer) = &call.layer {
            self.put_layer(&target, layer).await?;
        }
        self.set(call.epoch, Phase::Running).await
    }

    /// Waits until the agent answers.
    async fn answers(&self, target: &AgentTarget) -> PortResult<()> {
        let until = now().after(PATIENCE);
        loop {
            let error = match self.send(target, call(Method::GET, "/ready", Body::empty())?, QUESTION).await {
                Ok(answer) if answer.status() == StatusCode::OK => return Ok(()),
                // Of the life before, on its way out.
                Ok(answer) => PortError::new(
                    ErrorKind::Unavailable,
                    START,
                    format!("the agent answers {}", answer.status()),
                ),
                Err(error) => error,
            };
            if !self.container()?.running() {
                return Err(PortError::new(ErrorKind::Unavailable, START, "the container ended at once"));
            }
            if now() >= until {
                return Err(PortError::new(ErrorKind::Timeout, START, error.to_string()));
            }
            Delay::from(PAUSE).await;
        }
    }

    async fn put_layer(&self, target: &AgentTarget, layer: &LayerRef) -> PortResult<()> {
        let (_, archive) = self.inner.blobs.get(&layer.blob, None).await?;
        let mut request = call(Method::PUT, "/v1/tree", Body::Stream(archive))?;
        request.headers_mut().insert(CONTENT_LENGTH, layer.size.into());
        let answer = self.send(target, request, LAYER).await?;
        let status = answer.status();
        let text = answer.into_body().collect(64 << 10, START).await?;
        let summary =
            serde_json::from_slice::<wire::tree::Summary>(&text).ok().filter(|_| status.is_success());
        match summary {
            Some(summary) if summary.digest == layer.digest => Ok(()),
            Some(summary) => Err(PortError::new(
                ErrorKind::Corrupt,
                START,
                format!("the layer should be {} and is {}", layer.digest, summary.digest),
            )),
            None => {
                let kind = match status {
                    StatusCode::INSUFFICIENT_STORAGE => ErrorKind::Full,
                    StatusCode::UNPROCESSABLE_ENTITY => ErrorKind::Corrupt,
                    _ => ErrorKind::Unavailable,
                };
                Err(PortError::new(kind, START, format!("the agent did not take the layer: {status}")))
            }
        }
    }

    pub(super) async fn inspect(&self) -> PortResult<Option<StatusAnswer>> {
        let Some(life) = self.inner.shelf.life().await? else { return Ok(None) };
        if life.phase == Phase::Removed {
            return Ok(None);
        }
        let alive = matches!(life.phase, Phase::Starting | Phase::Running) && self.container()?.running();
        Ok(Some(StatusAnswer { epoch: life.epoch, alive }))
    }

    /// No disk outlives its container, so there is nothing to declare whole.
    pub(super) async fn seal(&self, epoch: Epoch) -> PortResult<()> {
        const SEAL: &str = "machine.seal";
        let _turn = self.inner.turn.lock().await;
        match self.current(epoch, SEAL).await? {
            Some(life) if life.epoch == epoch => Ok(()),
            _ => Err(PortError::new(ErrorKind::NotFound, SEAL, format!("no machine of epoch {epoch}"))),
        }
    }

    pub(super) async fn stop(&self, epoch: Epoch, grace: Duration) -> PortResult<StoppedAnswer> {
        let _turn = self.inner.turn.lock().await;
        let Some(life) = self.current(epoch, "machine.stop").await? else { return Ok(StoppedAnswer::Absent) };
        let container = self.container()?;
        let how = match life.phase {
            Phase::Ended => StoppedAnswer::Clean,
            Phase::Broken => StoppedAnswer::Killed,
            Phase::Stopped | Phase::Removed => StoppedAnswer::Absent,
            Phase::Starting | Phase::Running => {
                let until = now().after(grace);
                while container.running() && now() < until {
                    Delay::from(PAUSE).await;
                }
                if container.running() {
                    StoppedAnswer::Killed
                } else if self.ended_well(life.epoch).await {
                    StoppedAnswer::Clean
                } else {
                    StoppedAnswer::Killed
                }
            }
        };
        if life.phase != Phase::Removed {
            self.set(epoch, Phase::Stopped).await?;
        }
        if container.running() {
            container.kill().await?;
        }
        Ok(how)
    }

    pub(super) async fn destroy(&self, epoch: Epoch) -> PortResult<()> {
        let _turn = self.inner.turn.lock().await;
        self.current(epoch, "machine.destroy").await?;
        self.set(epoch, Phase::Removed).await?;
        let container = self.container()?;
        if container.running() {
            container.kill().await?;
        }
        self.wish(|wishes| wishes.end = Some(now().after(MEMORY).millis())).await
    }

    /// Lets the session's actor look soon.
    pub(super) async fn wake(&self) -> PortResult<()> {
        self.wish(|wishes| {
            wishes.rings += 1;
            wishes.tend = Some(now().millis());
        })
        .await
    }

    /// Carries a call to the agent.
    pub(super) async fn send(
        &self,
        target: &AgentTarget,
        request: Request<Body>,
        deadline: Duration,
    ) -> PortResult<Response<Body>> {
        let (request, abort) = carry::agent_request(target, "", request)?;
        carry::answer(self.container()?.call(&request, abort, deadline).await?)
    }

    /// The same with JavaScript's own request and answer, whose bodies never come into our memory.
    pub(super) async fn pass(
        &self,
        request: &web_sys::Request,
        deadline: Duration,
    ) -> PortResult<web_sys::Response> {
        self.container()?.call(request, worker::AbortController::default(), deadline).await
    }

    /// The alarm: whatever is due. Failures are tried again by another alarm.
    ///
    /// # Errors
    /// When the storage does not answer; the platform calls again then.
    pub async fn alarm(&self, actor: &dyn SessionActor) -> PortResult<()> {
        let wishes = self.inner.shelf.wishes().await?;
        let due = |at: Option<i64>| at.is_some_and(|at| at <= now().millis());
        if due(wishes.end) {
            return self.end().await;
        }
        let machine = self.inner.shelf.machine().await?;
        let Some(MachineKey { workspace, owner: MachineOwner::Session(session) }) =
            machine.filter(|_| due(wishes.tend))
        else {
            // Too early, which alarms may be.
            return self.wish(|_| {}).await;
        };
        let outcome = actor.tend(workspace, session).await;
        let resting = matches!(outcome, Ok(None));
        let (next, failures) = match outcome {
            Ok(next) => (next.map(Timestamp::millis), 0),
            Err(error) => {
                tracing::warn!(%session, ?error, failures = wishes.failures, "looking at a session");
                let pause = BACKOFF.0.saturating_mul(1 << wishes.failures.min(16)).min(BACKOFF.1);
                (Some(now().after(pause).millis()), wishes.failures + 1)
            }
        };
        if resting {
            self.rest().await?;
        }
        self.wish(|fresh| {
            fresh.failures = failures;
            // Who rang meanwhile is answered by another look.
            if fresh.rings == wishes.rings {
                fresh.tend = next;
            }
        })
        .await
    }

    /// The session wants no machine: one that runs all the same was left by a look that was cut off.
    async fn rest(&self) -> PortResult<()> {
        let _turn = self.inner.turn.lock().await;
        let Some(life) = self.inner.shelf.life().await? else { return Ok(()) };
        let Some(container) = self.inner.container.as_ref().filter(|container| container.running()) else {
            return Ok(());
        };
        tracing::warn!(epoch = life.epoch, "a machine that nobody wants is ended");
        self.set(life.epoch, Phase::Stopped).await?;
        container.kill().await
    }

    /// The last deadline: the container ends, and everything is forgotten.
    async fn end(&self) -> PortResult<()> {
        let _turn = self.inner.turn.lock().await;
        if let Some(container) = self.inner.container.as_ref().filter(|container| container.running()) {
            container.kill().await?;
        }
        self.inner.shelf.clear().await
    }

    fn container(&self) -> PortResult<&Container> {
        self.inner.container.as_ref().ok_or_else(|| {
            PortError::new(ErrorKind::Unsupported, "machine", "this deployment has no containers")
        })
    }

    /// The last life, unless it is a later one than the caller speaks for.
    async fn current(&self, epoch: Epoch, operation: &'static str) -> PortResult<Option<Life>> {
        let life = self.inner.shelf.life().await?;
        match &life {
            Some(life) if epoch < life.epoch => {
                Err(PortError::new(ErrorKind::Stale, operation, format!("epoch {epoch} is over")))
            }
            _ => Ok(life),
        }
    }

    async fn set(&self, epoch: Epoch, phase: Phase) -> PortResult<()> {
        self.inner.shelf.set_life(&Life { epoch, phase }).await
    }

    async fn wish(&self, change: impl FnOnce(&mut Wishes)) -> PortResult<()> {
        let _wishing = self.inner.wishing.lock().await;
        let mut wishes = self.inner.shelf.wishes().await?;
        change(&mut wishes);
        self.inner.shelf.set_wishes(&wishes).await
    }

    /// Waits for the container's end beside everything else. While this wait is there the platform does not evict the
    /// object, and with it the container.
    fn watch(&self, epoch: Epoch) {
        let Some(container) = self.inner.container.clone() else { return };
        if self.inner.watched.replace(Some(epoch)) == Some(epoch) {
            return;
        }
        let this = self.clone();
        self.inner.state.wait_until(async move {
            let ended = container.ended().await;
            if let Err(error) = &ended {
                tracing::debug!(%error, epoch, "a container ended");
            }
            if this.inner.watched.get() == Some(epoch) {
                this.inner.watched.set(None);
            }
            *this.inner.verdict.borrow_mut() = Some((epoch, ended.is_ok()));
            if let Err(error) = this.noticed(epoch, ended.is_ok()).await {
                tracing::warn!(%error, epoch, "the end of a container is noticed later");
            }
        });
    }

    /// A container ended. Where nobody asked for it, the session's actor looks what to do.
    async fn noticed(&self, epoch: Epoch, well: bool) -> PortResult<()> {
        let _turn = self.inner.turn.lock().await;
        let Some(life) = self.inner.shelf.life().await? else { return Ok(()) };
        if life.epoch != epoch || !matches!(life.phase, Phase::Starting | Phase::Running) {
            return Ok(());
        }
        self.set(epoch, if well { Phase::Ended } else { Phase::Broken }).await?;
        self.wake().await
    }

    async fn ended_well(&self, epoch: Epoch) -> bool {
        let until = now().after(VERDICT);
        loop {
            if let Some((of, well)) = *self.inner.verdict.borrow()
                && of == epoch
            {
                return well;
            }
            if now() >= until {
                return false;
            }
            Delay::from(PAUSE).await;
        }
    }
}

const START: &str = "machine.start";

fn call(method: Method, path: &'static str, body: Body) -> PortResult<Request<Body>> {
    Request::builder()
        .method(method)
        .uri(path)
        .body(body)
        .map_err(|error| PortError::new(ErrorKind::Internal, START, "a call of our own").with_source(error))
}
