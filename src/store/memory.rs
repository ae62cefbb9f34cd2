//! The store of a single process: the same rules in memory, for programs without Redis and as the oracle of the tests.

use super::rules::{EgressState, TokenState};
use super::{
    Change, Claim, Claimed, Committed, Failure, Grant, Inspection, Lease, Pause, Store, StoreError, StoreErrorKind,
    Stored, Subscription, TokenName,
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
pub struct MemoryStore(Arc<PerProcess<Mutex<Shelf>>>);

#[derive(Default)]
struct Shelf {
    ledgers: HashMap<TokenName, TokenState>,
    /// By namespace, group and egress.
    egresses: HashMap<(Arc<str>, Arc<str>, String), EgressState>,
    listeners: HashMap<TokenName, Vec<Heard>>,
    /// At how many entries the next sweep comes.
    sweep_at: usize,
}

/// Where a listener hears of changes, and a sign of whether it is still there.
type Heard = (Sender<Change>, Weak<()>);

impl Shelf {
    /// Forgets what nobody can ask for any more, each time that twice as much is kept as the last sweep left.
    fn sweep(&mut self, now: u64) {
        let kept = |shelf: &Shelf| shelf.ledgers.len() + shelf.egresses.len() + shelf.listeners.len();
        if kept(self) < self.sweep_at.max(MIN_SWEEP) {
            return;
        }
        self.ledgers.retain(|_, ledger| !ledger.forgettable(now));
        self.egresses.retain(|_, egress| !egress.forgettable(now));
        self.listeners.retain(|_, listeners| {
            listeners.retain(|(_, alive)| alive.strong_count() > 0);
            !listeners.is_empty()
        });
        self.ledgers.shrink_to_fit();
        self.egresses.shrink_to_fit();
        self.listeners.shrink_to_fit();
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

    /// Runs one verb on what is kept of the token and of the egress, and announces what changed.
    fn step<T>(
        &self,
        name: &TokenName,
        egress: Option<&str>,
        verb: impl FnOnce(&mut TokenState, &mut EgressState, u64, &mut Vec<Change>) -> T,
    ) -> T {
        let mut shelf = self.0.get(Default::default).lock();
        let (now, mut changes) = (clock::steady_micros(), Vec::new());
        shelf.sweep(now);
        let Shelf { ledgers, egresses, listeners, .. } = &mut *shelf;
        let mut none = EgressState::default();
        let egress = egress.map_or(&mut none, |egress| {
            egresses.entry((name.namespace.clone(), name.group.clone(), egress.to_owned())).or_default()
        });
        let answer = verb(ledgers.entry(name.clone()).or_default(), egress, now, &mut changes);
        if let Some(listeners) = listeners.get_mut(name) {
            listeners.retain(|(listener, _)| changes.iter().all(|change| listener.send(*change).is_ok()));
        }
        answer
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shelf = self.0.get(Default::default).lock();
        f.debug_struct("MemoryStore")
            .field("tokens", &shelf.ledgers.len())
            .field("egresses", &shelf.egresses.len())
            .field("listeners", &shelf.listeners.len())
            .finish()
    }
}

impl Store for MemoryStore {
    fn claim(&self, name: &TokenName, claim: &Claim<'_>) -> Result<Claimed, StoreError> {
        Ok(self.step(name, Some(claim.egress), |ledger, egress, now, _| ledger.claim(now, claim, egress)))
    }

    fn renew(&self, name: &TokenName, lease: &Lease, length: Duration) -> Result<bool, StoreError> {
        Ok(self.step(name, None, |ledger, _, now, _| ledger.renew(now, lease, length)))
    }

    fn commit(&self, name: &TokenName, lease: &Lease, grant: &Grant) -> Result<Committed, StoreError> {
        Ok(self.step(name, None, |ledger, _, now, changes| ledger.commit(now, lease, grant, changes)))
    }

    fn record_failure(
        &self,
        name: &TokenName,
        lease: &Lease,
        failure: &Failure<'_>,
    ) -> Result<Option<Pause>, StoreError> {
        Ok(self.step(name, Some(failure.egress), |ledger, egress, now, changes| {
            ledger.record_failure(now, lease, failure, egress, changes)
        }))
    }

    fn invalidate(&self, name: &TokenName, generation: u64) -> Result<(), StoreError> {
        self.step(name, None, |ledger, _, now, changes| ledger.invalidate(now, generation, changes));
        Ok(())
    }

    fn offer(&self, name: &TokenName, token: &Stored) -> Result<bool, StoreError> {
        Ok(self.step(name, None, |ledger, _, now, changes| ledger.offer(now, token, changes)))
    }

    fn lift_pause(&self, name: &TokenName, egress: &str) -> Result<(), StoreError> {
        self.step(name, Some(egress), |ledger, egress, _, _| ledger.lift_pause(egress));
        Ok(())
    }

    fn inspect(&self, name: &TokenName, egress: &str) -> Result<Inspection, StoreError> {
        Ok(self.step(name, Some(egress), |ledger, egress, now, _| ledger.inspect(now, egress)))
    }

    fn subscribe(&self, name: &TokenName) -> Result<Box<dyn Subscription>, StoreError> {
        let ((sender, receiver), alive) = (unbounded(), Arc::new(()));
        let listener = (sender, Arc::downgrade(&alive));
        self.0.get(Default::default).lock().listeners.entry(name.clone()).or_default().push(listener);
        Ok(Box::new(MemorySubscription { receiver, _alive: alive }))
    }

    fn has_updater(&self, name: &TokenName) -> Result<bool, StoreError> {
        Ok(self.step(name, None, |ledger, _, now, _| ledger.has_updater(now)))
    }

    fn timeout(&self) -> Duration {
        Duration::ZERO
    }
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
