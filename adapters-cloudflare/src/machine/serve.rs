//! What the object answers to Workers.

use std::time::Duration;

use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use serde::Serialize;
use serde::de::DeserializeOwned;
use wasm_bindgen::{JsCast as _, JsValue};
use worker::{Request, Response, web_sys};

use super::host::MachineHost;
use super::message::{DEADLINE, EpochCall, FAILURE, MACHINE, StartCall, StopCall, kind_name, machine};
use crate::js::message;

/// Where a call says no deadline: longer than every one that does.
const LONGEST: Duration = Duration::from_secs(6 * 3600);
const SERVE: &str = "machine.serve";

impl MachineHost {
    /// Answers a request of a Worker's.
    ///
    /// # Errors
    /// None of the port's, which are answers; only what JavaScript refuses.
    pub async fn serve(&self, request: Request) -> worker::Result<Response> {
        match self.answer(request).await {
            Ok(response) => Ok(response),
            Err(error) => {
                let response = Response::error(error.context(), 503)?;
                response.headers().set(FAILURE, kind_name(&error))?;
                Ok(response)
            }
        }
    }

    async fn answer(&self, mut request: Request) -> PortResult<Response> {
        self.resume().await?;
        let name = request.headers().get(MACHINE).map_err(refused)?;
        let machine = name.as_deref().and_then(machine).ok_or_else(|| invalid("no machine is named"))?;
        self.is_of(machine).await?;
        let path = request.path();
        if let Some(rest) = path.strip_prefix("/agent/") {
            return self.pass_on(&request, rest).await;
        }
        match path.as_str() {
            "/machine/start" => {
                self.start(machine, body::<StartCall>(&mut request).await?).await?;
                json(&())
            }
            "/machine/inspect" => json(&self.inspect().await?),
            "/machine/seal" => {
                self.seal(body::<EpochCall>(&mut request).await?.epoch).await?;
                json(&())
            }
            "/machine/stop" => {
                let call = body::<StopCall>(&mut request).await?;
                json(&self.stop(call.epoch, Duration::from_millis(call.grace_ms)).await?)
            }
            "/machine/destroy" => {
                self.destroy(body::<EpochCall>(&mut request).await?.epoch).await?;
                json(&())
            }
            "/machine/wake" => {
                self.wake().await?;
                json(&())
            }
            _ => Err(invalid("no such request")),
        }
    }

    /// Hands a call to the agent as it is, with another address.
    async fn pass_on(&self, request: &Request, rest: &str) -> PortResult<Response> {
        let url = request.url().map_err(refused)?;
        let deadline = request.headers().get(DEADLINE).map_err(refused)?;
        let deadline = deadline.and_then(|text| text.parse().ok()).map_or(LONGEST, Duration::from_millis);
        let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        let host = url.authority();
        let address = format!("http://{host}/{rest}{query}");
        // The new request is the old one in everything else: its body flows through without being read.
        let call = web_sys::Request::new_with_str_and_init(&address, as_init(request.inner()))
            .map_err(|error| invalid(&message(&error)))?;
        for name in [MACHINE, DEADLINE] {
            call.headers().delete(name).map_err(|error| invalid(&message(&error)))?;
        }
        self.pass(&call, deadline).await.map(Response::from)
    }
}

/// `new Request(url, request)`: JavaScript takes a request for the options of another, which the types do not say.
fn as_init(request: &web_sys::Request) -> &web_sys::RequestInit {
    AsRef::<JsValue>::as_ref(request).unchecked_ref()
}

async fn body<T: DeserializeOwned>(request: &mut Request) -> PortResult<T> {
    let text = request.text().await.map_err(refused)?;
    serde_json::from_str(&text).map_err(|error| invalid(&format!("malformed at column {}", error.column())))
}

fn json<T: Serialize>(value: &T) -> PortResult<Response> {
    Response::from_json(value).map_err(refused)
}

fn invalid(what: &str) -> PortError {
    PortError::new(ErrorKind::Invalid, SERVE, what)
}

#[expect(clippy::needless_pass_by_value, reason = "what `map_err` hands over")]
fn refused(error: worker::Error) -> PortError {
    PortError::new(ErrorKind::Internal, SERVE, error.to_string())
}
