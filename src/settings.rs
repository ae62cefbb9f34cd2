//! What a manager was built with; a forked child takes it over.

use crate::event::{Event, Observer};
use crate::events::Events;
use crate::fork::PerProcess;
use crate::journal::Journal;
use crate::policy::Policy;
use crate::source::TokenSource;
use crate::store::{Inspection, Store, StoreError, TokenName};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// The settings of one token.
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
}

impl Deref for Settings {
    type Target = Common;

    fn deref(&self) -> &Common {
        &self.common
    }
}

impl Common {
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
