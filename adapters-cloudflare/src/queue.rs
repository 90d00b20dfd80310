//! Jobs on Cloudflare Queues: what sends them, and what takes them.
//!
//! A message is a job as JSON text. Each message of a batch is acknowledged or sent back by itself, so one that fails holds
//! up no other. The queue has to be set up with `max_retries = MAX_DELIVERIES - 1` and a dead-letter queue whose name ends in
//! [`DEAD`]; that one is consumed by the same Worker, with as many retries as the platform allows.

use std::time::Duration;

use async_trait::async_trait;
use burstflare_ports::drive::{JobHandler, JobOutcome};
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::queue::{Job, Queue};
use futures_util::future::join_all;
use js_sys::Object;
use wasm_bindgen::prelude::*;
use worker::Env;
use worker::send::SendWrapper;

use crate::js::{binding, failed, js, object};

/// What the name of a dead-letter queue ends in.
pub const DEAD: &str = "-dead";
/// The longest delay that Queues know.
const LONGEST: Duration = Duration::from_secs(12 * 3600);
/// The pause behind the first failure doubles with each, up to this.
const LONGEST_PAUSE: u32 = 60;

#[wasm_bindgen]
extern "C" {
    type Binding;
    #[wasm_bindgen(method, catch)]
    async fn send(this: &Binding, message: &str, options: &Object) -> Result<JsValue, JsValue>;

    /// Messages that are delivered together.
    pub type Batch;
    #[wasm_bindgen(method, getter)]
    fn queue(this: &Batch) -> String;
    #[wasm_bindgen(method, getter)]
    fn messages(this: &Batch) -> Vec<Message>;

    type Message;
    #[wasm_bindgen(method, getter)]
    fn id(this: &Message) -> String;
    #[wasm_bindgen(method, getter)]
    fn body(this: &Message) -> JsValue;
    #[wasm_bindgen(method, getter)]
    fn attempts(this: &Message) -> u32;
    #[wasm_bindgen(method)]
    fn ack(this: &Message);
    #[wasm_bindgen(method)]
    fn retry(this: &Message, options: &Object);
}

/// Sends jobs.
pub struct CloudQueue {
    binding: SendWrapper<Binding>,
}

impl CloudQueue {
    /// Over the binding of this name.
    ///
    /// # Errors
    /// Where there is none.
    pub fn new(env: &Env, name: &str) -> worker::Result<Self> {
        Ok(Self { binding: SendWrapper::new(binding(env, name)?) })
    }
}

#[async_trait]
impl Queue for CloudQueue {
    /// Delays are whole seconds, rounded up, and at most twelve hours: a longer one is `Invalid`.
    async fn enqueue(&self, job: &Job, delay: Duration) -> PortResult<()> {
        let operation = "queue.enqueue";
        if delay > LONGEST {
            return Err(PortError::new(ErrorKind::Invalid, operation, "a delay of more than twelve hours"));
        }
        let text = serde_json::to_string(job).map_err(|error| {
            PortError::new(ErrorKind::Internal, operation, "a job has no text").with_source(error)
        })?;
        js(async {
            let options =
                object([("contentType", JsValue::from_str("text")), ("delaySeconds", seconds(delay))]);
            self.binding.send(&text, &options).await.map(drop).map_err(|error| failed(operation, &error))
        })
        .await
    }
}

/// Hands every message of a batch to the handler: those of the queue to [`JobHandler::handle`], those of the dead-letter
/// queue to [`JobHandler::dead`].
pub async fn consume(batch: Batch, handler: &dyn JobHandler) {
    let dead = batch.queue().ends_with(DEAD);
    js(join_all(batch.messages().into_iter().map(|message| take(message, dead, handler)))).await;
}

async fn take(message: Message, dead: bool, handler: &dyn JobHandler) {
    let job = message.body().as_string().and_then(|text| serde_json::from_str::<Job>(&text).ok());
    let Some(job) = job else {
        // Nobody will ever be able to read it; what it was for, reconcile finds.
        tracing::error!(message = message.id(), "a message is no job");
        return message.ack();
    };
    let attempt = message.attempts();
    let outcome = if dead {
        handler.dead(&job).await.map(|()| JobOutcome::Done)
    } else {
        handler.handle(&job, attempt).await
    };
    match outcome {
        Ok(JobOutcome::Done) => message.ack(),
        Ok(JobOutcome::Retry(pause)) => {
            message.retry(&object([("delaySeconds", seconds(pause.min(LONGEST)))]));
        }
        Err(error) => {
            tracing::warn!(?job, attempt, ?error, "a job failed");
            let pause =
                1_u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(LONGEST_PAUSE).min(LONGEST_PAUSE);
            message.retry(&object([("delaySeconds", JsValue::from_f64(pause.into()))]));
        }
    }
}

/// Whole seconds, rounded up.
fn seconds(span: Duration) -> JsValue {
    JsValue::from_f64(span.as_secs_f64().ceil())
}
