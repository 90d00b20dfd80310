//! Machines as everybody sees them: each by its object.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use burstflare_ports::actor::Actors;
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::id::Id;
use burstflare_ports::machine::{
    AgentLink, AgentTarget, DiskState, Enforcement, Epoch, Isolation, LayerRef, MachineKey, MachineOwner,
    MachineRuntime, MachineSpec, MachineStatus, RuntimeProfile, Started, Stopped,
};
use burstflare_ports::record::{Session, Workspace};
use burstflare_ports::stream::Body;
use http::{Method, Request, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use wasm_bindgen::JsValue;
use worker::durable::{ObjectNamespace, Stub};
use worker::send::SendWrapper;
use worker::{AbortController, web_sys};

use super::carry;
use super::host::{Internet, MachineHost};
use super::message::{
    DEADLINE, EpochCall, FAILURE, MACHINE, StartCall, StatusAnswer, StopCall, StoppedAnswer, kind, name,
};
use crate::js::{js, message, within};

/// For an object to answer about its machine: a start with a large layer takes the longest.
const PATIENCE: Duration = Duration::from_secs(900);
/// Beyond an agent's own deadline, so that its object says why.
const BEYOND: Duration = Duration::from_secs(2);

/// The machines of a deployment: [`MachineRuntime`], [`AgentLink`] and [`Actors`] in one, because one object stands for
/// all three.
#[derive(Debug, Clone)]
pub struct Machines {
    namespace: ObjectNamespace,
    internet: Internet,
    here: Option<SendWrapper<(MachineKey, MachineHost)>>,
}

impl Machines {
    /// Asks the objects of this namespace.
    #[must_use]
    pub fn new(namespace: ObjectNamespace, internet: Internet) -> Self {
        Self { namespace, internet, here: None }
    }

    /// The same for code that runs in the object of `machine` itself: that one is asked without a request.
    #[must_use]
    pub fn within(mut self, machine: MachineKey, host: MachineHost) -> Self {
        self.here = Some(SendWrapper::new((machine, host)));
        self
    }

    fn here(&self, machine: MachineKey) -> Option<&MachineHost> {
        self.here.as_ref().filter(|here| here.0.0 == machine).map(|here| &here.0.1)
    }

    fn stub(&self, operation: &'static str, machine: MachineKey) -> PortResult<Stub> {
        self.namespace
            .get_by_name(&name(machine))
            .map_err(|error| PortError::new(ErrorKind::Unavailable, operation, error.to_string()))
    }

    /// Asks a machine's object.
    async fn ask<Q: Serialize, A: DeserializeOwned>(
        &self,
        operation: &'static str,
        machine: MachineKey,
        path: &str,
        question: &Q,
    ) -> PortResult<A> {
        let defect = |text: String| PortError::new(ErrorKind::Internal, operation, text);
        let text = serde_json::to_string(question).map_err(|error| defect(error.to_string()))?;
        let headers = web_sys::Headers::new().map_err(|error| defect(message(&error)))?;
        headers.set(MACHINE, &name(machine)).map_err(|error| defect(message(&error)))?;
        let url = format!("http://machine/machine/{path}");
        let (request, abort) = carry::request(&url, &Method::POST, &headers, Some(JsValue::from_str(&text)))?;
        let answer = self.fetch(operation, machine, request, abort, PATIENCE).await?;
        let answer = carry::answer(answer)?.into_body().collect(64 << 10, operation).await?;
        serde_json::from_slice(&answer).map_err(|error| defect(error.to_string()))
    }

    /// Sends a request to a machine's object and sorts out the failures it answers with.
    async fn fetch(
        &self,
        operation: &'static str,
        machine: MachineKey,
        request: web_sys::Request,
        abort: AbortController,
        deadline: Duration,
    ) -> PortResult<web_sys::Response> {
        let stub = self.stub(operation, machine)?;
        let Some(answer) = within(deadline, stub.fetch_with_request(request.into())).await else {
            abort.abort();
            let text = "the machine's object does not answer";
            return Err(PortError::new(ErrorKind::Timeout, operation, text));
        };
        let response =
            answer.map_err(|error| PortError::new(ErrorKind::Unavailable, operation, error.to_string()))?;
        let Ok(Some(failure)) = response.headers().get(FAILURE) else { return Ok(response.into()) };
        let answer = carry::answer(response.into())?.into_body().collect(64 << 10, operation).await?;
        Err(PortError::new(kind(&failure), operation, String::from_utf8_lossy(&answer)))
    }
}

#[async_trait]
impl MachineRuntime for Machines {
    fn profile(&self) -> RuntimeProfile {
        // Sizes are the deployment's: what a template asks for does not change them.
        let limits = [
            ("cpu", Enforcement::Enforced),
            ("memory", Enforcement::Enforced),
            ("disk", Enforcement::Enforced),
            ("pids", Enforcement::None),
        ];
        RuntimeProfile {
            name: "containers".to_owned(),
            isolation: Isolation::Container,
            network: match self.internet {
                Internet::Open => "internet",
                Internet::Closed => "none",
            }
            .to_owned(),
            limits: limits
                .into_iter()
                .map(|(name, held)| (name.to_owned(), held))
                .collect::<BTreeMap<_, _>>(),
            warnings: vec![
                "A machine's disk ends with its container: files live on in snapshots.".to_owned(),
                "Every machine has the size that the deployment gives it.".to_owned(),
            ],
        }
    }

    async fn start(&self, spec: MachineSpec) -> PortResult<Started> {
        const START: &str = "machine.start";
        if spec.base != "default" {
            let text = format!("this deployment has no base `{}`, only `default`", spec.base);
            return Err(PortError::new(ErrorKind::Unsupported, START, text));
        }
        let machine = spec.machine;
        let call = StartCall { epoch: spec.epoch, layer: spec.layer, boot: spec.boot };
        js(async {
            match self.here(machine) {
                Some(host) => host.start(machine, call).await?,
                None => self.ask::<_, ()>(START, machine, "start", &call).await?,
            }
            // Containers keep no disk.
            Ok(Started { disk: DiskState::Fresh })
        })
        .await
    }

    async fn inspect(&self, machine: MachineKey) -> PortResult<Option<MachineStatus>> {
        js(async {
            let status: Option<StatusAnswer> = match self.here(machine) {
                Some(host) => host.inspect().await?,
                None => self.ask("machine.inspect", machine, "inspect", &()).await?,
            };
            Ok(status.map(|status| MachineStatus {
                machine,
                epoch: status.epoch,
                alive: status.alive,
                disk_whole: false,
            }))
        })
        .await
    }

    async fn seal(&self, machine: MachineKey, epoch: Epoch) -> PortResult<()> {
        js(async {
            match self.here(machine) {
                Some(host) => host.seal(epoch).await,
                None => self.ask("machine.seal", machine, "seal", &EpochCall { epoch }).await,
            }
        })
        .await
    }

    async fn stop(&self, machine: MachineKey, epoch: Epoch, grace: Duration) -> PortResult<Stopped> {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        js(async {
            let answer: StoppedAnswer = match self.here(machine) {
                Some(host) => host.stop(epoch, grace).await?,
                None => self.ask("machine.stop", machine, "stop", &StopCall { epoch, grace_ms }).await?,
            };
            Ok(answer.into())
        })
        .await
    }

    async fn destroy(&self, machine: MachineKey, epoch: Epoch) -> PortResult<()> {
        js(async {
            match self.here(machine) {
                Some(host) => host.destroy(epoch).await,
                None => self.ask("machine.destroy", machine, "destroy", &EpochCall { epoch }).await,
            }
        })
        .await
    }

    /// None: there is no list of objects, and none is needed. A session's object ends what its record does not want,
    /// and a build's ends by a deadline of its own.
    async fn list(&self, _: Option<MachineOwner>, _: usize) -> PortResult<Vec<MachineStatus>> {
        Ok(Vec::new())
    }

    /// Nothing: a layer is sent to each machine when it starts.
    async fn prepare(&self, _: &LayerRef) -> PortResult<()> {
        Ok(())
    }
}

#[async_trait]
impl AgentLink for Machines {
    async fn send(
        &self,
        target: &AgentTarget,
        request: Request<Body>,
        deadline: Duration,
    ) -> PortResult<Response<Body>> {
        const SEND: &str = "agent.send";
        js(async {
            if let Some(host) = self.here(target.machine) {
                return host.send(target, request, deadline).await;
            }
            let (request, abort) = carry::agent_request(target, "/agent", request)?;
            request
                .headers()
                .set(DEADLINE, &deadline.as_millis().to_string())
                .map_err(|error| PortError::new(ErrorKind::Internal, SEND, message(&error)))?;
            carry::answer(self.fetch(SEND, target.machine, request, abort, deadline + BEYOND).await?)
        })
        .await
    }
}

#[async_trait]
impl Actors for Machines {
    async fn wake(&self, workspace: Id<Workspace>, session: Id<Session>) -> PortResult<()> {
        let machine = MachineKey { workspace, owner: MachineOwner::Session(session) };
        js(async {
            match self.here(machine) {
                Some(host) => host.wake().await,
                None => self.ask("actors.wake", machine, "wake", &()).await,
            }
        })
        .await
    }
}
