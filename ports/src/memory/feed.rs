use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Poll, Waker};

use async_trait::async_trait;
use futures_util::stream;

use super::locked;
use crate::error::PortResult;
use crate::feed::{Feed, Hints};
use crate::id::Id;
use crate::record::Workspace;

/// Hints between the tasks of one test.
#[derive(Debug, Default)]
pub struct MemoryFeed {
    listeners: Mutex<BTreeMap<Id<Workspace>, Vec<Weak<Listener>>>>,
}

#[derive(Debug, Default)]
struct Listener {
    state: Mutex<(bool, Option<Waker>)>,
}

#[async_trait]
impl Feed for MemoryFeed {
    async fn publish(&self, workspace: Id<Workspace>) -> PortResult<()> {
        let listeners: Vec<_> = {
            let mut all = locked(&self.listeners);
            let Some(listeners) = all.get_mut(&workspace) else { return Ok(()) };
            listeners.retain(|listener| listener.strong_count() > 0);
            listeners.iter().filter_map(Weak::upgrade).collect()
        };
        for listener in listeners {
            let waker = {
                let mut state = locked(&listener.state);
                state.0 = true;
                state.1.take()
            };
            if let Some(waker) = waker {
                waker.wake();
            }
        }
        Ok(())
    }

    async fn subscribe(&self, workspace: Id<Workspace>) -> PortResult<Hints> {
        let listener = Arc::new(Listener::default());
        locked(&self.listeners).entry(workspace).or_default().push(Arc::downgrade(&listener));
        Ok(Box::pin(stream::poll_fn(move |context| {
            let mut state = locked(&listener.state);
            if std::mem::take(&mut state.0) {
                return Poll::Ready(Some(()));
            }
            state.1 = Some(context.waker().clone());
            Poll::Pending
        })))
    }
}
