//! What the object of a machine keeps in its storage: it may be evicted between any two lines of ours, so what is meant
//! stands there before it is done.

use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::machine::{Epoch, MachineKey};
use burstflare_ports::time::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use wasm_bindgen::JsValue;
use worker::durable::Storage;

use super::message;

/// The last life of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Life {
    /// The highest epoch seen.
    pub epoch: Epoch,
    /// How far it is.
    pub phase: Phase,
}

/// How far a life is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
    /// The container was ordered; the layer may not be in it yet.
    Starting,
    /// The agent answered and the layer is there.
    Running,
    /// It ended by itself, well.
    Ended,
    /// It ended by itself, otherwise.
    Broken,
    /// It was stopped.
    Stopped,
    /// It was removed; the epoch is remembered for a while, so that a late order finds out.
    Removed,
}

/// When the object wants to be called, and why. A Durable Object has one alarm: the earliest of these.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Wishes {
    /// The session's actor has to look.
    pub tend: Option<i64>,
    /// How often it was asked to: who asks during a look is answered by another one.
    pub rings: u64,
    /// Looks that failed one after another.
    pub failures: u32,
    /// The container has to end by then whatever happens, and what is kept here to go.
    pub end: Option<i64>,
}

impl Wishes {
    /// The next one.
    pub(super) fn next(&self) -> Option<i64> {
        [self.tend, self.end].into_iter().flatten().min()
    }
}

/// The object's storage.
#[derive(Debug)]
pub(super) struct Shelf(Storage);

const LIFE: &str = "life";
const WISHES: &str = "wishes";
const NAME: &str = "machine";

impl Shelf {
    /// Over the object's storage.
    pub(super) fn new(storage: Storage) -> Self {
        Self(storage)
    }

    /// Whose machine it is, once somebody has said so.
    pub(super) async fn machine(&self) -> PortResult<Option<MachineKey>> {
        let name = self.0.get::<String>(NAME).await.map_err(failed)?;
        Ok(name.as_deref().and_then(message::machine))
    }

    /// Remembers whose machine it is: an alarm does not say it.
    pub(super) async fn set_machine(&self, machine: MachineKey) -> PortResult<()> {
        self.0.put_raw(NAME, JsValue::from_str(&message::name(machine))).await.map_err(failed)
    }

    /// The last life.
    pub(super) async fn life(&self) -> PortResult<Option<Life>> {
        self.read(LIFE).await
    }

    /// Records it.
    pub(super) async fn set_life(&self, life: &Life) -> PortResult<()> {
        self.write(LIFE, life).await
    }

    /// What is wished for.
    pub(super) async fn wishes(&self) -> PortResult<Wishes> {
        Ok(self.read(WISHES).await?.unwrap_or_default())
    }

    /// Records it, and sets the alarm.
    pub(super) async fn set_wishes(&self, wishes: &Wishes) -> PortResult<()> {
        self.write(WISHES, wishes).await?;
        match wishes.next() {
            // The platform takes a moment in the past for "now".
            Some(at) => {
                self.0.set_alarm(worker::durable::ScheduledTime::new(moment(at))).await.map_err(failed)
            }
            None => self.0.delete_alarm().await.map_err(failed),
        }
    }

    /// Everything goes.
    pub(super) async fn clear(&self) -> PortResult<()> {
        self.0.delete_alarm().await.map_err(failed)?;
        self.0.delete_all().await.map_err(failed)
    }

    async fn read<T: DeserializeOwned>(&self, key: &str) -> PortResult<Option<T>> {
        let Some(text) = self.0.get::<String>(key).await.map_err(failed)? else { return Ok(None) };
        serde_json::from_str(&text).map(Some).map_err(|error| {
            PortError::new(ErrorKind::Corrupt, "machine.storage", format!("`{key}` is unreadable: {error}"))
        })
    }

    async fn write<T: Serialize>(&self, key: &str, value: &T) -> PortResult<()> {
        let text = serde_json::to_string(value)
            .map_err(|error| PortError::new(ErrorKind::Internal, "machine.storage", error.to_string()))?;
        self.0.put_raw(key, JsValue::from_str(&text)).await.map_err(failed)
    }
}

fn moment(millis: i64) -> js_sys::Date {
    js_sys::Date::new(&JsValue::from_f64(millis as f64))
}

#[expect(clippy::needless_pass_by_value, reason = "what `map_err` hands over")]
fn failed(error: worker::Error) -> PortError {
    PortError::new(ErrorKind::Unavailable, "machine.storage", error.to_string())
}

/// The isolate's time, in milliseconds.
pub(super) fn now() -> Timestamp {
    Timestamp::from_millis(i64::try_from(worker::Date::now().as_millis()).unwrap_or(i64::MAX))
}
