//! Everything that is there, and how users reach the control plane in it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use burstflare_core::ControlPlane;
use burstflare_ports::blob::Blobs;
use burstflare_ports::clock::Clock as _;
use burstflare_ports::store::Store;

use super::disk::Disk;
use super::executor::{Side, SimClock, Spawner};
use super::fault::Faults;
use super::hosts::{Durable, Hosts};
use super::ledger::Ledger;
use super::machines::Machines;
use super::rng::Rng;
use super::store::Sabotage;

#[derive(Clone)]
pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) clock: SimClock,
    pub(super) spawner: Spawner,
    pub(super) faults: Faults,
    pub(super) sabotage: Sabotage,
    /// Name of the plan of new workspaces.
    pub(super) plan: &'static str,
    /// The records as they are, past the faults.
    pub(super) store: Arc<dyn Store>,
    /// The blobs as they are.
    pub(super) blobs: Arc<dyn Blobs>,
    /// The files of both, where they are in files.
    pub(super) disk: Option<Disk>,
    pub(super) machines: Machines,
    pub(super) durable: Durable,
    /// The control plane and its hosts, while it is up.
    pub(super) plane: Arc<Mutex<Option<(ControlPlane, Hosts)>>>,
    ledger: Arc<Mutex<Ledger>>,
}

impl World {
    #[expect(clippy::too_many_arguments, reason = "the parts of the world, each once")]
    pub(super) fn new(
        rng: Rng,
        clock: SimClock,
        spawner: Spawner,
        faults: Faults,
        sabotage: Sabotage,
        plan: &'static str,
        store: Arc<dyn Store>,
        blobs: Arc<dyn Blobs>,
        disk: Option<Disk>,
    ) -> Self {
        let machines = Machines::new(spawner.clone(), Arc::clone(&blobs), faults.clone(), sabotage);
        Self {
            rng,
            clock,
            spawner,
            faults,
            sabotage,
            plan,
            store,
            blobs,
            disk,
            machines,
            durable: Durable::default(),
            plane: Arc::default(),
            ledger: Arc::default(),
        }
    }

    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap()
    }

    pub(super) async fn sleep(&self, millis: usize) {
        self.clock.sleep(Duration::from_millis(millis as u64)).await;
    }

    /// Sends a request. `None` when nobody knows what became of it: the control plane crashed, or the client gave
    /// up; then the request may have had its effect or not.
    pub(super) async fn call<T, F, Fut>(&self, request: F) -> Option<T>
    where
        T: Send + 'static,
        F: FnOnce(ControlPlane) -> Fut,
        Fut: Future<Output = T> + Send + 'static,
    {
        let plane = loop {
            let up = self.plane.lock().unwrap().as_ref().map(|(plane, _)| plane.clone());
            match up {
                Some(plane) => break plane,
                None => self.sleep(100).await,
            }
        };
        let patience = if self.faults.hangs_up() { self.rng.below(40) } else { usize::MAX };
        let work = Patient { work: Box::pin(request(plane)), polls: patience };
        let (sender, receiver) = pair();
        self.spawner.spawn(Side::Plane, async move {
            let mut sender = sender;
            sender.answer = work.await;
        });
        receiver.await
    }
}

/// A client that hangs up after so many polls.
struct Patient<T> {
    work: Pin<Box<dyn Future<Output = T> + Send>>,
    polls: usize,
}

impl<T> Future for Patient<T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        if self.polls == 0 {
            return Poll::Ready(None);
        }
        self.polls -= 1;
        self.work.as_mut().poll(context).map(Some)
    }
}

struct Slot<T> {
    answer: Option<T>,
    over: bool,
    waker: Option<Waker>,
}

struct Sender<T> {
    slot: Arc<Mutex<Slot<T>>>,
    answer: Option<T>,
}

struct Receiver<T>(Arc<Mutex<Slot<T>>>);

fn pair<T>() -> (Sender<T>, Receiver<T>) {
    let slot = Arc::new(Mutex::new(Slot { answer: None, over: false, waker: None }));
    (Sender { slot: Arc::clone(&slot), answer: None }, Receiver(slot))
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut slot = self.slot.lock().unwrap();
        slot.answer = self.answer.take();
        slot.over = true;
        if let Some(waker) = slot.waker.take() {
            waker.wake();
        }
    }
}

impl<T> Future for Receiver<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let mut slot = self.0.lock().unwrap();
        if slot.over {
            return Poll::Ready(slot.answer.take());
        }
        slot.waker = Some(context.waker().clone());
        Poll::Pending
    }
}
