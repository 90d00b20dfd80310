//! The first operator's way in.

use std::time::Duration;

use burstflare_ports::clock::{Clock, Entropy};
use burstflare_ports::id::Id;
use burstflare_ports::record::{Grant, GrantKind};
use burstflare_ports::secret::Secret;
use burstflare_ports::store::{ChangeSet, CommitError, Family, Guard, Put, Store, Unique};

use super::{ControlPlane, refusal};
use crate::domain::token_text::{self, Type};
use crate::error::Result;

/// Life of the first operator's code.
const LIFE: Duration = Duration::from_secs(7 * 86_400);

impl ControlPlane {
    /// A single-use code for the first operator of a deployment without users; `None` where there is a user.
    ///
    /// # Errors
    /// When it cannot be recorded.
    pub async fn bootstrap_code(&self) -> Result<Option<Secret<String>>> {
        let ports = &self.inner.ports;
        bootstrap_code(self.store(), ports.clock.as_ref(), ports.entropy.as_ref()).await
    }
}

/// As [`ControlPlane::bootstrap_code`], for whoever reaches a deployment's records alone.
///
/// # Errors
/// When it cannot be recorded.
pub async fn bootstrap_code(
    store: &dyn Store,
    clock: &dyn Clock,
    entropy: &dyn Entropy,
) -> Result<Option<Secret<String>>> {
    if store.any_user().await? {
        return Ok(None);
    }
    let (mut secret, mut random) = ([0; 32], [0; 10]);
    entropy.fill(&mut secret)?;
    entropy.fill(&mut random)?;
    let text = token_text::compose(Type::Bootstrap, &secret);
    let now = clock.now();
    let mut change = ChangeSet::new(Family::Directory);
    change.guards.push(Guard::Free(Unique::FirstUser));
    change.puts.push(Put::Grant(Grant {
        id: Id::new(now, random),
        kind: GrantKind::Bootstrap,
        hash: token_text::hash(&text),
        user: None,
        sign_in: None,
        workspace: None,
        role: None,
        created_at: now,
        expires_at: now.after(LIFE),
        spent_at: None,
    }));
    match store.commit(&change).await {
        Ok(()) => Ok(Some(text)),
        Err(CommitError::Refused(_)) => Ok(None),
        Err(error) => Err(refusal(error)),
    }
}
