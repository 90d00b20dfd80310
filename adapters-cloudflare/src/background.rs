//! Work beside events.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use burstflare_ports::clock::{Background, Task};
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use js_sys::Promise;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::{future_to_promise, spawn_local};
use worker::send::SendWrapper;

/// Tasks at once for one event.
const LIMIT: usize = 256;

#[wasm_bindgen]
extern "C" {
    /// What JavaScript hands to every event beside the event: `ctx`, or an object's state.
    #[derive(Clone)]
    type Lifetime;
    #[wasm_bindgen(method, catch, js_name = waitUntil)]
    fn wait_until(this: &Lifetime, promise: &Promise) -> Result<(), JsValue>;
}

/// Runs tasks beside one event, which the platform keeps alive for them: up to 30 seconds behind an answer. What must
/// happen stands in the outbox, too. Clones share the event.
#[derive(Clone)]
pub struct IsolateBackground {
    running: Arc<AtomicUsize>,
    lifetime: SendWrapper<Lifetime>,
}

impl IsolateBackground {
    /// For the event of this context: what JavaScript calls `ctx`, or an object's state.
    #[must_use]
    pub fn new(context: JsValue) -> Self {
        Self { running: Arc::default(), lifetime: SendWrapper::new(context.unchecked_into()) }
    }

    /// Counts a task, for as long as it runs.
    fn counted(&self, task: Task) -> PortResult<impl Future<Output = ()> + 'static> {
        if self.running.fetch_add(1, Ordering::Relaxed) >= LIMIT {
            self.running.fetch_sub(1, Ordering::Relaxed);
            return Err(PortError::new(ErrorKind::Full, "background.spawn", "too many tasks at once"));
        }
        let running = Arc::clone(&self.running);
        Ok(async move {
            task.await;
            running.fetch_sub(1, Ordering::Relaxed);
        })
    }
}

impl Background for IsolateBackground {
    fn spawn(&self, task: Task) -> PortResult<()> {
        let task = self.counted(task)?;
        let promise = future_to_promise(async move {
            task.await;
            Ok(JsValue::UNDEFINED)
        });
        // It runs even so; only the event may be over sooner.
        if let Err(error) = self.lifetime.wait_until(&promise) {
            tracing::debug!(?error, "the event does not wait");
        }
        Ok(())
    }

    /// The event does not wait for it.
    fn follow(&self, task: Task) -> PortResult<()> {
        spawn_local(self.counted(task)?);
        Ok(())
    }
}

impl fmt::Debug for IsolateBackground {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IsolateBackground({} tasks)", self.running.load(Ordering::Relaxed))
    }
}
