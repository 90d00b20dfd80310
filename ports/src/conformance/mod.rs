//! One suite of named cases that every backend runs: each promise in the docs of a port has a case named after it.
//!
//! A case gets the backend and a seed from which it makes ids and names that nothing else has, so one database can serve
//! all cases, one after the other or at once, in this run and the next ([`fresh_seed`] needs a source of
//! chance; a test may just count). Cases answer what they found instead of panicking: they also run inside a Worker,
//! by walking over [`STORE_CASES`] and its like.
//!
//! In tests, the macros of this crate make one named test of each case:
//!
//! ```ignore
//! async fn store() -> Arc<dyn Store> { .. }
//! burstflare_ports::store_tests!(#[tokio::test] store);
//! ```

mod blobs;
mod cache;
mod feed;
mod limit;
mod machine;
mod queue;
mod store;
mod world;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use blobs::BLOB_CASES;
pub use cache::{CACHE_CASES, CacheBench};
pub use feed::FEED_CASES;
pub use limit::{LIMIT_CASES, LimiterBench};
pub use machine::{MACHINE_CASES, MachineBench};
pub use queue::{QUEUE_CASES, QueueBench};
pub use store::STORE_CASES;

use crate::error::PortError;
use crate::store::CommitError;

/// What a case found wrong.
#[derive(Clone, PartialEq, Eq)]
pub struct Finding(pub String);

impl fmt::Debug for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<PortError> for Finding {
    fn from(error: PortError) -> Self {
        Self(format!("{error:?}"))
    }
}

impl From<CommitError> for Finding {
    fn from(error: CommitError) -> Self {
        Self(format!("{error:?}"))
    }
}

/// What a case answers.
pub type Verdict = Result<(), Finding>;

/// A case at work.
pub type Running = Pin<Box<dyn Future<Output = Verdict> + Send>>;

/// One promise of a port, as a function that finds out whether a backend keeps it.
pub struct Case<B: ?Sized> {
    /// The promise; unique in its list.
    pub name: &'static str,
    /// Runs the case with a seed that no other run on this backend had.
    pub run: fn(Arc<B>, u64) -> Running,
}

impl<B: ?Sized> fmt::Debug for Case<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Finds a case by name.
#[must_use]
pub fn case<B: ?Sized>(cases: &'static [Case<B>], name: &str) -> Option<&'static Case<B>> {
    cases.iter().find(|case| case.name == name)
}

/// A seed that this process has not used. A backend that outlives the process needs a `start` by chance or by clock.
#[must_use]
pub fn fresh_seed(start: u64) -> u64 {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    start.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Makes the list of cases of a port and the macro that makes them tests.
macro_rules! cases {
    (
        $(#[$doc:meta])* $list:ident: $backend:ty, tests $tests:ident, dollar $d:tt,
        { $($module:ident :: { $($name:ident),+ $(,)? })+ }
    ) => {
        $(#[$doc])*
        pub const $list: &[crate::conformance::Case<$backend>] = &[$($(
            crate::conformance::Case {
                name: concat!(stringify!($module), "::", stringify!($name)),
                run: |backend, seed| Box::pin($module::$name(backend, seed)),
            }
        ),+),+];

        /// Makes one test of each case: `(#[attribute of a test] function)`, where the function answers the backend. With
        /// `, unless function` cases are left out of whose names that function answers true; it says why.
        #[macro_export]
        macro_rules! $tests {
            (#[$d test:meta] $d make:path $d(, unless $d left_out:path)?) => {
                $(mod $module {
                    use super::*;
                    $(
                        #[$d test]
                        async fn $name() {
                            let name = concat!(stringify!($module), "::", stringify!($name));
                            $d(if $d left_out(name) {
                                return;
                            })?
                            let case = $crate::conformance::case($crate::conformance::$list, name).expect("a case");
                            let start = std::time::SystemTime::now()
                                .duration_since(std::time::UNIX_EPOCH)
                                .map_or(0, |since| since.subsec_nanos().into());
                            let seed = $crate::conformance::fresh_seed(start);
                            (case.run)($d make().await, seed).await.expect("the backend keeps the promise");
                        }
                    )+
                })+
            };
        }
    };
}
use cases;

/// Answers a finding unless the condition holds.
macro_rules! ensure {
    ($holds:expr, $($message:tt)+) => {
        if !$holds {
            return Err(crate::conformance::Finding(format!($($message)+)));
        }
    };
}
use ensure;

/// Answers a finding unless both are the same.
macro_rules! same {
    ($found:expr, $wanted:expr, $($message:tt)+) => {
        match (&$found, &$wanted) {
            (found, wanted) if found == wanted => {}
            (found, wanted) => {
                let what = format!($($message)+);
                return Err(crate::conformance::Finding(format!(
                    "{what}\n found: {found:?}\nwanted: {wanted:?}"
                )));
            }
        }
    };
}
use same;
