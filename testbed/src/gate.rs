//! A store in front of the store: before or after any verb it can announce the point and wait, so that a test stops or
//! kills its process exactly there.

use parking_lot::{Condvar, Mutex};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use token_manager::Store;
use token_manager::store::{
    Claim, Claimed, Committed, Failure, Follow, Grant, Inspection, Lease, Pause, Presence, StoreError, Stored,
    Subscription, TokenName,
};

/// Where calls wait.
#[derive(Default)]
pub struct Gate {
    state: Mutex<State>,
    opened: Condvar,
}

#[derive(Default)]
struct State {
    armed: HashSet<String>,
    /// How often the gate was opened.
    opened: u64,
}

impl Gate {
    /// Stops the next call that comes to this point, `before-claim`, `after-commit` and so on.
    pub fn arm(&self, point: &str) {
        self.state.lock().armed.insert(point.to_owned());
        crate::child::say(&format!("armed {point}"));
    }

    /// Lets every call go on that waits now.
    pub fn open(&self) {
        self.state.lock().opened += 1;
        self.opened.notify_all();
    }

    fn pass(&self, point: &str) {
        let mut state = self.state.lock();
        if state.armed.remove(point) {
            let before = state.opened;
            crate::child::say(&format!("at {point}"));
            self.opened.wait_while(&mut state, |state| state.opened == before);
        }
    }

    fn around<T>(&self, verb: &str, call: impl FnOnce() -> T) -> T {
        self.pass(&format!("before-{verb}"));
        let answer = call();
        self.pass(&format!("after-{verb}"));
        answer
    }
}

pub struct Gated {
    store: Box<dyn Store>,
    gate: Arc<Gate>,
}

impl Gated {
    pub fn new(store: impl Store, gate: Arc<Gate>) -> Gated {
        Gated { store: Box::new(store), gate }
    }
}

impl Store for Gated {
    fn claim(&self, name: &TokenName, claim: &Claim<'_>) -> Result<Claimed, StoreError> {
        self.gate.around("claim", || self.store.claim(name, claim))
    }

    fn renew(&self, name: &TokenName, lease: &Lease, length: Duration) -> Result<bool, StoreError> {
        self.gate.around("renew", || self.store.renew(name, lease, length))
    }

    fn commit(&self, name: &TokenName, lease: &Lease, grant: &Grant) -> Result<Committed, StoreError> {
        self.gate.around("commit", || self.store.commit(name, lease, grant))
    }

    fn record_failure(
        &self,
        name: &TokenName,
        lease: &Lease,
        failure: &Failure<'_>,
    ) -> Result<Option<Pause>, StoreError> {
        self.gate.around("record_failure", || self.store.record_failure(name, lease, failure))
    }

    fn offer(&self, name: &TokenName, token: &Stored) -> Result<bool, StoreError> {
        self.gate.around("offer", || self.store.offer(name, token))
    }

    fn lift_pause(&self, name: &TokenName, egress: &str) -> Result<(), StoreError> {
        self.store.lift_pause(name, egress)
    }

    fn invalidate(&self, name: &TokenName, generation: u64) -> Result<(), StoreError> {
        self.gate.around("invalidate", || self.store.invalidate(name, generation))
    }

    fn inspect(&self, name: &TokenName, egress: &str) -> Result<Inspection, StoreError> {
        self.store.inspect(name, egress)
    }

    fn subscribe(&self, name: &TokenName) -> Result<Box<dyn Subscription>, StoreError> {
        self.store.subscribe(name)
    }

    fn has_updater(&self, name: &TokenName) -> Result<bool, StoreError> {
        self.store.has_updater(name)
    }

    fn show_presence(
        &self,
        name: &TokenName,
        lease: &Lease,
        length: Duration,
        follow: Option<Follow<'_>>,
    ) -> Result<Option<Box<dyn Send>>, StoreError> {
        self.gate.around("show_presence", || self.store.show_presence(name, lease, length, follow))
    }

    fn presence(&self, name: &TokenName, missed: Option<&Lease>) -> Result<Presence, StoreError> {
        self.gate.around("presence", || self.store.presence(name, missed))
    }

    fn place(&self) -> String {
        self.store.place()
    }

    fn timeout(&self) -> Duration {
        self.store.timeout()
    }
}
