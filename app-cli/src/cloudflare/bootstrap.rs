//! The code of a deployment's first operator, put into its records from here: nobody can sign in there yet.

use std::sync::Arc;

use burstflare_adapters_local::clock::{OsEntropy, SystemClock};
use burstflare_migrations::SqlStore;
use burstflare_ports::secret::Secret;

use super::{Api, RestDatabase};
use crate::exit::{Exit, Failure};

/// A single-use code; `None` where somebody has an account already.
///
/// # Errors
/// When the records cannot be reached, or the answer was lost: the next call makes another code.
pub async fn bootstrap_code(
    api: Arc<Api>,
    account: &str,
    database: &str,
) -> Result<Option<Secret<String>>, Failure> {
    let store = SqlStore::new(RestDatabase::new(api, account, database));
    let code = burstflare_core::service::bootstrap_code(&store, &SystemClock, &OsEntropy).await;
    code.map_err(|error| {
        Failure::new(Exit::Unavailable, format!("the code of the first operator: {error}"))
            .hint("Run `flare cloudflare deploy` again: it makes another one.")
    })
}
