//! Work beside requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use burstflare_ports::clock::{Background, Task};
use burstflare_ports::error::{ErrorKind, PortError, PortResult};

/// Tasks at once in one isolate.
const LIMIT: usize = 256;

/// Runs tasks in the isolate. The platform may end an isolate once its requests are answered: what must happen
/// stands in the outbox, too.
#[derive(Debug, Clone, Default)]
pub struct IsolateBackground {
    running: Arc<AtomicUsize>,
}

impl Background for IsolateBackground {
    fn spawn(&self, task: Task) -> PortResult<()> {
        if self.running.fetch_add(1, Ordering::Relaxed) >= LIMIT {
            self.running.fetch_sub(1, Ordering::Relaxed);
            return Err(PortError::new(ErrorKind::Full, "background.spawn", "too many tasks at once"));
        }
        let running = Arc::clone(&self.running);
        wasm_bindgen_futures::spawn_local(async move {
            task.await;
            running.fetch_sub(1, Ordering::Relaxed);
        });
        Ok(())
    }
}
