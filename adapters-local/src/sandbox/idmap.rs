//! User namespaces that stand for "this owner on disk is that user": what an idmapped mount is made with.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use super::spawn;

/// Namespaces by the pair they map, made once.
#[derive(Debug, Default)]
pub(super) struct Maps(Mutex<HashMap<(u32, u32), Arc<OwnedFd>>>);

impl Maps {
    /// The namespace that shows files of `stored` as `shown`'s.
    pub(super) fn of(&self, stored: u32, shown: u32) -> io::Result<Arc<OwnedFd>> {
        let mut maps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(map) = maps.get(&(stored, shown)) {
            return Ok(Arc::clone(map));
        }
        let map = Arc::new(spawn::user_namespace(stored, shown)?);
        maps.insert((stored, shown), Arc::clone(&map));
        Ok(map)
    }

    /// Forgets the namespace of a user that is given back.
    pub(super) fn forget(&self, shown: u32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|(_, user), _| *user != shown);
    }
}
