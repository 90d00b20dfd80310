//! `ctx.container` as JavaScript shows it, no more than is used here, under both policies. Cloudflare's documentation:
//! Containers, "Durable Object container API".
//!
//! Under the older policy the deployment ties one image to the object's class. Under the newer one
//! (`scheduling_policy: "durable_object"`) the object chooses among the images in `container.images` at each start. Which
//! of them holds is seen from the object itself.

use std::time::Duration;

use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::wire::AGENT_PORT;
use js_sys::{Array, Object, Promise, Reflect};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use worker::{AbortController, web_sys};

use crate::deployment::binding::SESSION_IMAGE as IMAGE;
use crate::js::{message, object, within};

#[wasm_bindgen]
extern "C" {
    /// The container of a Durable Object.
    #[derive(Debug, Clone)]
    pub(super) type Container;
    #[wasm_bindgen(method, getter)]
    pub(super) fn running(this: &Container) -> bool;
    #[wasm_bindgen(method, getter)]
    fn images(this: &Container) -> JsValue;
    #[wasm_bindgen(method, catch)]
    fn start(this: &Container, options: &Object) -> Result<JsValue, JsValue>;
    #[wasm_bindgen(method, catch)]
    fn monitor(this: &Container) -> Result<Promise, JsValue>;
    #[wasm_bindgen(method, catch)]
    fn destroy(this: &Container) -> Result<Promise, JsValue>;
    #[wasm_bindgen(method, catch, js_name = getTcpPort)]
    fn tcp_port(this: &Container, port: u16) -> Result<Port, JsValue>;

    /// A port of it.
    type Port;
    #[wasm_bindgen(method, catch)]
    fn fetch(this: &Port, request: &web_sys::Request) -> Result<Promise, JsValue>;
}

/// What a container is started with.
#[derive(Debug)]
pub(super) struct Options {
    /// Its environment.
    pub env: Vec<(&'static str, String)>,
    /// Whether it reaches the internet.
    pub internet: bool,
}

impl Container {
    /// Starts it; answers once the platform has taken the order, which is before anything listens.
    pub(super) async fn run(&self, options: &Options) -> PortResult<()> {
        let env = options.env.iter().map(|(name, value)| (*name, JsValue::from_str(value)));
        let mut start =
            vec![("env", object(env).into()), ("enableInternet", JsValue::from_bool(options.internet))];
        let images = self.images();
        let names =
            if images.is_object() { Object::keys(images.unchecked_ref::<Object>()) } else { Array::new() };
        // Under the older policy there is nothing to choose: the list is absent or empty.
        if names.length() > 0 {
            let image = Reflect::get(&images, &JsValue::from_str(IMAGE)).unwrap_or_default();
            if image.is_undefined() {
                return Err(PortError::new(
                    ErrorKind::Unsupported,
                    START,
                    format!("the deployment has no image `{IMAGE}`, only {}", names.join(", ")),
                ));
            }
            start.push(("image", image));
        }
        let answer = self.start(&object(start)).map_err(|error| failed(START, &error))?;
        if let Some(promise) = answer.dyn_ref::<Promise>() {
            JsFuture::from(promise.clone()).await.map_err(|error| failed(START, &error))?;
        }
        Ok(())
    }

    /// Waits for its end. An error is an end, too: one that was no clean one.
    pub(super) async fn ended(&self) -> PortResult<()> {
        let promise = self.monitor().map_err(|error| failed("machine.watch", &error))?;
        JsFuture::from(promise).await.map(drop).map_err(|error| failed("machine.watch", &error))
    }

    /// Kills it, and waits until it is gone.
    pub(super) async fn kill(&self) -> PortResult<()> {
        let promise = Container::destroy(self).map_err(|error| failed("machine.kill", &error))?;
        JsFuture::from(promise).await.map(drop).map_err(|error| failed("machine.kill", &error))
    }

    /// Carries a call to the agent's port, and answers as soon as the head of its answer is there.
    pub(super) async fn call(
        &self,
        request: &web_sys::Request,
        abort: AbortController,
        deadline: Duration,
    ) -> PortResult<web_sys::Response> {
        const CALL: &str = "agent.send";
        if !self.running() {
            return Err(PortError::new(ErrorKind::Unavailable, CALL, "the machine does not run"));
        }
        let port = self.tcp_port(AGENT_PORT).map_err(|error| absent(&error))?;
        let answer = JsFuture::from(port.fetch(request).map_err(|error| absent(&error))?);
        let Some(answer) = within(deadline, answer).await else {
            abort.abort();
            return Err(PortError::new(ErrorKind::Timeout, CALL, "the agent did not answer in time"));
        };
        answer.map_err(|error| absent(&error))?.dyn_into().map_err(|_| {
            PortError::new(ErrorKind::Corrupt, CALL, "the container's port answered something else")
        })
    }
}

const START: &str = "machine.start";

/// What the platform says where there is no room or the image is not there yet; both pass.
const PASSING: [&str; 6] = [
    "no container instance",
    "maximum number of running container",
    "capacity",
    "provision",
    "Network connection lost",
    "internal error",
];

fn failed(operation: &'static str, error: &JsValue) -> PortError {
    let message = message(error);
    let kind = if PASSING.iter().any(|part| message.contains(part)) {
        ErrorKind::Unavailable
    } else {
        ErrorKind::Internal
    };
    PortError::new(kind, operation, message)
}

/// Whatever goes wrong on the way to a port: nothing listens there, or not any more.
fn absent(error: &JsValue) -> PortError {
    PortError::new(ErrorKind::Unavailable, "agent.send", message(error))
}
