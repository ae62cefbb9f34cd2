//! What a manager was built with; a forked child takes it over.

use crate::event::{Event, Observer};
use crate::events::Events;
use crate::fork::PerProcess;
use crate::journal::Journal;
use crate::policy::Policy;
use crate::source::TokenSource;
use crate::stats::Counters;
use crate::store::{Inspection, Store, StoreError, TokenName};
use crate::workers::Workers;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// The settings of one token.
#[derive(Clone)]
pub struct Settings {
    pub name: TokenName,
    pub common: Arc<Common>,
}

/// What many tokens can have in common.
pub struct Common {
    pub egress: String,
    pub policy: Policy,
    pub store: Arc<dyn Store>,
    pub source: Arc<dyn TokenSource>,
    pub observer: Option<Observer>,
    pub journal: Option<Arc<Journal>>,
    pub events: PerProcess<Arc<Events>>,
    /// What is counted for the one token, if it is not one of many.
    pub counters: PerProcess<Counters>,
    pub keyed: Option<Arc<Keyed>>,
}

/// What the tokens of many keys have in common, whatever else their settings are.
pub struct Keyed {
    /// What stands before each key, as if it were a token.
    pub name: TokenName,
    workers: PerProcess<Arc<Workers>>,
    counters: PerProcess<Counters>,
}

impl Keyed {
    pub fn new(name: TokenName, workers: Workers) -> Keyed {
        Keyed { name, workers: PerProcess::new(Arc::new(workers)), counters: PerProcess::default() }
    }

    /// Returns what this process has counted for all of them.
    pub fn counters(&self) -> &Counters {
        self.counters.get(Counters::default)
    }
}

impl Deref for Settings {
    type Target = Common;

    fn deref(&self) -> &Common {
        &self.common
    }
}

impl Common {
    /// Returns who runs the flights in this process, if they are counted.
    pub fn workers(&self) -> Option<&Arc<Workers>> {
        let keyed = self.keyed.as_deref()?;
        Some(keyed.workers.get_or_inherit(|parents| Arc::new(parents.forked())))
    }

    /// Returns where this process counts what it does.
    pub fn counters(&self) -> &Counters {
        self.keyed.as_ref().map_or_else(|| self.counters.get(Counters::default), |keyed| keyed.counters())
    }

    /// Returns this process's events of the store.
    pub fn events(&self) -> &Arc<Events> {
        self.events.get(|| Events::of(&self.store))
    }
}

impl Settings {
    /// Returns the number of the token's name, the same for all managers of that name.
    pub fn name_hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.name.hash(&mut hasher);
        hasher.finish()
    }

    /// Returns under which name is counted what is done for the token.
    #[cfg(feature = "metrics")]
    pub fn counted_as(&self) -> &TokenName {
        self.keyed.as_ref().map_or(&self.name, |keyed| &keyed.name)
    }

    /// Logs an event and tells the observer, whose panic is its own affair.
    pub fn emit(&self, event: Event) {
        log::log!(target: "token_manager", event.level(), "{}: {event}", self.name);
        if let Some(observer) = &self.observer {
            let _ = catch_unwind(AssertUnwindSafe(|| observer(&event)));
        }
    }

    /// Returns what the store knows of the token.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub fn inspect_store(&self) -> Result<Inspection, StoreError> {
        self.store.inspect(&self.name, &self.egress)
    }
}
