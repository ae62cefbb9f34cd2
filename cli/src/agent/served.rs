//! A token that an agent serves, and how that goes.

use crate::keeper::Keeper;
use std::sync::{Arc, Mutex, PoisonError};
use token_manager::Store;
use token_manager::store::TokenName;

/// A token that is kept.
pub struct Served {
    pub keeper: Keeper,
    pub state: State,
    pub store: Arc<dyn Store>,
    pub place: TokenName,
}

/// What became of the token last; nothing before anything did.
#[derive(Clone)]
pub struct State(Arc<Mutex<Option<Result<(), String>>>>);

impl State {
    pub fn new() -> State {
        State(Arc::new(Mutex::new(None)))
    }

    pub fn set(&self, outcome: Result<(), String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
    }

    fn look<T>(&self, look: impl FnOnce(&Option<Result<(), String>>) -> T) -> T {
        look(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Served {
    /// Returns whether it was got, or could not be got, for the first time.
    pub fn settled(&self) -> bool {
        self.state.look(Option::is_some)
    }

    pub fn failed(&self) -> bool {
        self.state.look(|state| matches!(state, Some(Err(_))))
    }
}
