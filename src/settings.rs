//! What a manager was built with; a forked child takes it over.

use crate::event::{Event, Observer};
use crate::journal::Journal;
use crate::policy::Policy;
use crate::source::TokenSource;
use crate::store::{Inspection, Store, StoreError, TokenName};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};

pub struct Settings {
    pub name: TokenName,
    pub egress: String,
    pub policy: Policy,
    pub store: Box<dyn Store>,
    pub source: Box<dyn TokenSource>,
    pub observer: Option<Observer>,
    pub journal: Option<Journal>,
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
