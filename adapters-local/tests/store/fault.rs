//! What may happen around a call of a real adapter: it fails before its effect, its answer is lost behind it, it comes
//! late or twice, or its caller is gone in the middle.

use std::sync::Mutex;
use std::time::Duration;

use burstflare_ports::error::{ErrorKind, PortError, PortResult};

/// More tries than these are an operation that never succeeds.
const TRIES: usize = 500;

/// A source of faults (splitmix64): equal seeds, equal faults.
pub(crate) struct Faults(Mutex<u64>);

impl Faults {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Mutex::new(seed))
    }

    /// 0 to `bound` - 1.
    pub(crate) fn below(&self, bound: u64) -> u64 {
        let mut state = self.0.lock().expect("nobody panics here");
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = *state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }

    /// Carries an operation out, or something like it. Half of the calls are left in peace.
    pub(crate) async fn around<T, F>(
        &self,
        operation: &'static str,
        mut call: impl FnMut() -> F,
    ) -> PortResult<T>
    where
        F: Future<Output = PortResult<T>>,
    {
        let made_up = |kind: ErrorKind| PortError::new(kind, operation, "made up");
        match self.below(10) {
            0 => Err(made_up(ErrorKind::Unavailable)),
            1 => {
                call().await?;
                Err(made_up(ErrorKind::Timeout))
            }
            2 => {
                call().await?;
                call().await
            }
            3 => {
                tokio::time::sleep(Duration::from_millis(self.below(20))).await;
                call().await
            }
            4 => {
                let patience = Duration::from_micros(self.below(30_000));
                tokio::time::timeout(patience, call()).await.map_err(|_| made_up(ErrorKind::Timeout))?
            }
            _ => call().await,
        }
    }
}

/// Calls until it is acknowledged, as the outbox does; what is not made up is no fault and must not happen.
pub(crate) async fn at_last<T, F>(mut call: impl FnMut() -> F) -> T
where
    F: Future<Output = PortResult<T>>,
{
    let mut tries = 0;
    loop {
        tries += 1;
        assert!(tries < TRIES, "it never succeeds");
        match call().await {
            Ok(answer) => return answer,
            Err(error) => assert_eq!(error.context(), "made up", "{error:?}"),
        }
    }
}
