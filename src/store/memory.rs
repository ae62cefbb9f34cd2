//! The store of a single process: the same rules in memory, for programs without Redis and as the oracle of the tests.

use super::rules::Ledger;
use super::{
    Change, Claim, Claimed, Committed, Cooling, Grant, Inspection, Lease, Listener, Store, StoreError, StoreErrorKind,
    TokenName,
};
use crate::clock;
use crate::error::FailureClass;
use crate::fork::PerProcess;
use crate::locks::Mutex;
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Keeps tokens in this process. Clones share them; a forked child starts with an empty one.
#[derive(Clone, Default)]
pub struct MemoryStore(Arc<PerProcess<Mutex<Shelf>>>);

#[derive(Default)]
struct Shelf {
    ledgers: HashMap<TokenName, Ledger>,
    /// The theoretical arrival time of each budget, by namespace, group and egress.
    arrivals: HashMap<(Arc<str>, Arc<str>, String), u64>,
    listeners: HashMap<TokenName, Vec<Sender<Change>>>,
}

impl MemoryStore {
    /// Makes an empty store.
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }

    /// Runs one verb on the token's ledger and announces what changed.
    fn step<T>(&self, name: &TokenName, verb: impl FnOnce(&mut Ledger, u64, &mut Vec<Change>) -> T) -> T {
        let mut shelf = self.0.get(Default::default).lock();
        let mut changes = Vec::new();
        let ledger = shelf.ledgers.entry(name.clone()).or_default();
        let answer = verb(ledger, clock::steady_micros(), &mut changes);
        if let Some(listeners) = shelf.listeners.get_mut(name) {
            listeners.retain(|listener| changes.iter().all(|change| listener.send(*change).is_ok()));
        }
        answer
    }

    /// Runs a verb that also needs the budget.
    fn step_with_budget<T>(
        &self,
        name: &TokenName,
        egress: &str,
        verb: impl FnOnce(&mut Ledger, u64, &mut u64) -> T,
    ) -> T {
        let mut shelf = self.0.get(Default::default).lock();
        let Shelf { ledgers, arrivals, .. } = &mut *shelf;
        let budget = (name.namespace.clone(), name.group.clone(), egress.to_owned());
        let arrival = arrivals.entry(budget).or_default();
        verb(ledgers.entry(name.clone()).or_default(), clock::steady_micros(), arrival)
    }
}

impl Store for MemoryStore {
    fn claim(&self, name: &TokenName, claim: &Claim<'_>) -> Result<Claimed, StoreError> {
        Ok(self.step_with_budget(name, claim.egress, |ledger, now, arrival| ledger.claim(now, claim, arrival)))
    }

    fn renew(&self, name: &TokenName, lease: &Lease, length: Duration) -> Result<bool, StoreError> {
        Ok(self.step(name, |ledger, now, _| ledger.renew(now, lease, length)))
    }

    fn commit(&self, name: &TokenName, lease: &Lease, grant: &Grant) -> Result<Committed, StoreError> {
        Ok(self.step(name, |ledger, now, changes| ledger.commit(now, lease, grant, changes)))
    }

    fn fail(
        &self,
        name: &TokenName,
        lease: &Lease,
        class: FailureClass,
        retry_after: Option<Duration>,
    ) -> Result<Option<Cooling>, StoreError> {
        Ok(self.step(name, |ledger, now, changes| ledger.fail(now, lease, class, retry_after, changes)))
    }

    fn invalidate(&self, name: &TokenName, generation: u64) -> Result<(), StoreError> {
        self.step(name, |ledger, now, changes| ledger.invalidate(now, generation, changes));
        Ok(())
    }

    fn inspect(&self, name: &TokenName, egress: &str) -> Result<Inspection, StoreError> {
        Ok(self.step_with_budget(name, egress, |ledger, now, arrival| ledger.inspect(now, *arrival)))
    }

    fn listen(&self, name: &TokenName) -> Result<Box<dyn Listener>, StoreError> {
        let (sender, receiver) = unbounded();
        self.0.get(Default::default).lock().listeners.entry(name.clone()).or_default().push(sender);
        Ok(Box::new(MemoryListener(receiver)))
    }

    fn busy(&self, name: &TokenName) -> Result<bool, StoreError> {
        Ok(self.step(name, |ledger, now, _| ledger.busy(now)))
    }

    fn timeout(&self) -> Duration {
        Duration::ZERO
    }
}

struct MemoryListener(Receiver<Change>);

impl Listener for MemoryListener {
    fn wait(&mut self, at_most: Duration) -> Result<Option<Change>, StoreError> {
        match self.0.recv_timeout(at_most) {
            Ok(change) => Ok(Some(change)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                Err(StoreError::new(StoreErrorKind::Unreachable, "the memory store was dropped"))
            }
        }
    }
}
