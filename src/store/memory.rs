//! The store of a single process: the same rules in memory, for programs without Redis and as the oracle of the tests.

use super::forward::forward;
use super::rules::{EgressState, GrantState};
use super::state_store::{StateBackend, StateStore, Step};
use super::{
    Change, Claim, Claimed, Committed, Failure, Feed, Follow, Grant, Inspection, Lease, Pause, Presence, Store,
    StoreError, StoreErrorKind, Stored, Subscription, TokenName,
};
use crate::clock;
use crate::fork::PerProcess;
use crate::locks::Mutex;
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Keeps tokens in this process, and forgets what has expired. Clones share them; a forked child starts with an empty one.
#[derive(Clone, Default)]
pub struct MemoryStore(StateStore<Memory>);

#[derive(Clone, Default)]
struct Memory(Arc<PerProcess<Mutex<Contents>>>);

#[derive(Default)]
struct Contents {
    /// By the name of the grant, as the subscribers are.
    grants: HashMap<TokenName, GrantState>,
    /// By namespace, group and egress.
    egresses: HashMap<(Arc<str>, Arc<str>, String), EgressState>,
    subscribers: HashMap<TokenName, Vec<Subscriber>>,
    /// At how many entries the next sweep comes.
    sweep_at: usize,
}

/// Where a subscription is told of changes, and a sign of whether it is still there.
type Subscriber = (Sender<Change>, Weak<()>);

impl Contents {
    /// Forgets what nobody can ask for any more, each time that twice as much is kept as the last sweep left.
    fn sweep(&mut self, now: u64) {
        let kept = |contents: &Contents| contents.grants.len() + contents.egresses.len() + contents.subscribers.len();
        if kept(self) < self.sweep_at.max(MIN_SWEEP) {
            return;
        }
        self.grants.retain(|_, grant| !grant.is_forgettable(now));
        self.egresses.retain(|_, egress| !egress.is_forgettable(now));
        self.subscribers.retain(|_, subscribers| {
            subscribers.retain(|(_, alive)| alive.strong_count() > 0);
            !subscribers.is_empty()
        });
        self.grants.shrink_to_fit();
        self.egresses.shrink_to_fit();
        self.subscribers.shrink_to_fit();
        self.sweep_at = 2 * kept(self);
    }
}

/// Below so many entries nothing is swept.
const MIN_SWEEP: usize = 64;

impl MemoryStore {
    /// Makes an empty store.
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }
}

impl StateBackend for Memory {
    fn update(&self, name: &TokenName, egress: Option<&str>, step: &mut Step<'_>) -> Result<(), StoreError> {
        let mut contents = self.0.get(Default::default).lock();
        let now = clock::steady_micros();
        contents.sweep(now);
        let Contents { grants, egresses, subscribers, .. } = &mut *contents;
        let mut none = EgressState::default();
        let egress = egress.map_or(&mut none, |egress| {
            egresses.entry((name.namespace.clone(), name.group.clone(), egress.to_owned())).or_default()
        });
        let name = name.of_grant();
        let changes = step(now, grants.entry(name.clone()).or_default(), egress);
        if let Some(subscribers) = subscribers.get_mut(&name) {
            subscribers.retain(|(subscriber, _)| changes.iter().all(|change| subscriber.send(*change).is_ok()));
        }
        Ok(())
    }

    fn subscribe(&self, name: &TokenName) -> Result<Box<dyn Subscription>, StoreError> {
        let ((sender, receiver), alive) = (unbounded(), Arc::new(()));
        let subscriber = (sender, Arc::downgrade(&alive));
        self.0.get(Default::default).lock().subscribers.entry(name.of_grant()).or_default().push(subscriber);
        Ok(Box::new(MemorySubscription { receiver, _alive: alive }))
    }

    fn timeout(&self) -> Duration {
        Duration::ZERO
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let contents = self.0.0.0.get(Default::default).lock();
        f.debug_struct("MemoryStore")
            .field("grants", &contents.grants.len())
            .field("egresses", &contents.egresses.len())
            .field("subscribers", &contents.subscribers.len())
            .finish()
    }
}

impl Store for MemoryStore {
    forward!(self => self.0);
}

struct MemorySubscription {
    receiver: Receiver<Change>,
    _alive: Arc<()>,
}

impl Subscription for MemorySubscription {
    fn wait(&mut self, at_most: Duration) -> Result<Option<Change>, StoreError> {
        match self.receiver.recv_timeout(at_most) {
            Ok(change) => Ok(Some(change)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                Err(StoreError::new(StoreErrorKind::Unreachable, "the memory store was dropped"))
            }
        }
    }
}
