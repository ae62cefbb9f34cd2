//! A store in memory that a test bends: a hook is asked before each verb and may have it fail, and events can be forged.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use token_manager::store::{
    Change, Claim, Claimed, Committed, Failure, Follow, Grant, Inspection, Lease, Pause, Presence, StoreError,
    StoreErrorKind, Stored, Subscription, TokenName,
};
use token_manager::{MemoryStore, Store};

type Answer<T> = Result<T, StoreError>;
type Hook = Box<dyn Fn(&str, u64) -> Option<StoreErrorKind> + Send + Sync>;

/// Clones share everything.
#[derive(Clone)]
pub struct HookedStore(Arc<Shared>);

struct Shared {
    store: MemoryStore,
    hook: Hook,
    calls: Mutex<HashMap<&'static str, u64>>,
    forgers: Mutex<Vec<Sender<Change>>>,
}

impl HookedStore {
    /// Bends this store: the hook is given a verb and how many such calls there were before, and returns how it is to fail.
    pub fn new(
        store: MemoryStore,
        hook: impl Fn(&str, u64) -> Option<StoreErrorKind> + Send + Sync + 'static,
    ) -> HookedStore {
        let (calls, forgers) = Default::default();
        HookedStore(Arc::new(Shared { store, hook: Box::new(hook), calls, forgers }))
    }

    /// How often a verb was called.
    pub fn calls(&self, verb: &str) -> u64 {
        self.0.calls.lock().unwrap().get(verb).copied().unwrap_or(0)
    }

    /// Announces what has not happened, to all listeners.
    pub fn forge(&self, changes: &[Change]) {
        let forgers = self.0.forgers.lock().unwrap();
        for forger in forgers.iter() {
            for change in changes {
                let _ = forger.send(*change); // fails where the listener is gone
            }
        }
    }

    fn hook(&self, verb: &'static str) -> Answer<&MemoryStore> {
        let mut calls = self.0.calls.lock().unwrap();
        let count = calls.entry(verb).or_default();
        let before = *count;
        *count += 1;
        drop(calls);
        match (self.0.hook)(verb, before) {
            Some(kind) => Err(StoreError::new(kind, "hooked")),
            None => Ok(&self.0.store),
        }
    }
}

impl Store for HookedStore {
    fn claim(&self, name: &TokenName, claim: &Claim<'_>) -> Answer<Claimed> {
        self.hook("claim")?.claim(name, claim)
    }

    fn renew(&self, name: &TokenName, lease: &Lease, length: Duration) -> Answer<bool> {
        self.hook("renew")?.renew(name, lease, length)
    }

    fn commit(&self, name: &TokenName, lease: &Lease, grant: &Grant) -> Answer<Committed> {
        self.hook("commit")?.commit(name, lease, grant)
    }

    fn record_failure(&self, name: &TokenName, lease: &Lease, failure: &Failure<'_>) -> Answer<Option<Pause>> {
        self.hook("record_failure")?.record_failure(name, lease, failure)
    }

    fn invalidate(&self, name: &TokenName, generation: u64) -> Answer<()> {
        self.hook("invalidate")?.invalidate(name, generation)
    }

    fn offer(&self, name: &TokenName, token: &Stored) -> Answer<bool> {
        self.hook("offer")?.offer(name, token)
    }

    fn lift_pause(&self, name: &TokenName, egress: &str) -> Answer<()> {
        self.hook("lift_pause")?.lift_pause(name, egress)
    }

    fn inspect(&self, name: &TokenName, egress: &str) -> Answer<Inspection> {
        self.hook("inspect")?.inspect(name, egress)
    }

    fn subscribe(&self, name: &TokenName) -> Answer<Box<dyn Subscription>> {
        let listener = self.hook("subscribe")?.subscribe(name)?;
        let (forger, forged) = channel();
        self.0.forgers.lock().unwrap().push(forger);
        Ok(Box::new(HookedSubscription { hooked: self.clone(), listener, forged }))
    }

    fn has_updater(&self, name: &TokenName) -> Answer<bool> {
        self.hook("has_updater")?.has_updater(name)
    }

    /// Until `vanish`.
    fn show_presence(
        &self,
        _: &TokenName,
        _: &Lease,
        _: Duration,
        _: Option<Follow<'_>>,
    ) -> Answer<Option<Box<dyn Send>>> {
        self.hook("show_presence")?;
        Ok(Some(Box::new(Shown(self.clone()))))
    }

    fn presence(&self, name: &TokenName, missed: Option<&Lease>) -> Answer<Presence> {
        self.hook("presence")?.presence(name, missed)
    }

    fn timeout(&self) -> Duration {
        Duration::ZERO
    }
}

struct Shown(HookedStore);

impl Drop for Shown {
    fn drop(&mut self) {
        let _ = self.0.hook("vanish"); // nobody is there to be told
    }
}

struct HookedSubscription {
    hooked: HookedStore,
    listener: Box<dyn Subscription>,
    forged: Receiver<Change>,
}

impl Subscription for HookedSubscription {
    fn wait(&mut self, at_most: Duration) -> Answer<Option<Change>> {
        self.hooked.hook("wait")?;
        let until = Instant::now() + at_most;
        loop {
            if let Ok(change) = self.forged.try_recv() {
                return Ok(Some(change));
            }
            let left = until.saturating_duration_since(Instant::now());
            let change = self.listener.wait(left.min(Duration::from_millis(2)))?;
            // A subscription that stands and tells nothing.
            let told = change.filter(|_| self.hooked.hook("tell").is_ok());
            if told.is_some() || left.is_zero() {
                return Ok(told);
            }
        }
    }

    fn check(&mut self) -> Answer<()> {
        self.hooked.hook("check")?;
        self.listener.check()
    }
}
