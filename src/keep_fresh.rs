//! `keep_fresh`: this process follows every commit, and nobody ever waits.

use crate::error::{Error, ErrorKind};
use crate::fork::PerProcess;
use crate::settings::Common;
use crate::state::State;
use keeper::Keeper;
use scheduler::Scheduler;
use std::sync::{Arc, Weak};

mod keeper;
mod scheduler;
mod step;

/// Keeps this process's tokens fresh until it is dropped. Made by [`TokenManager::keep_fresh`](crate::TokenManager::keep_fresh) and
/// [`TokenManagers::keep_fresh`](crate::TokenManagers::keep_fresh).
///
/// Dropping it waits for nothing; what it began ends within a tenth of a second, or with the store call it is in.
#[must_use = "dropping the guard ends it"]
pub struct FreshGuard {
    _kept: PerProcess<Kept>,
}

/// What a guard keeps.
struct Kept {
    life: Option<Arc<()>>,
    scheduler: Arc<Scheduler>,
    _state: Option<Arc<State>>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.life = None;
        self.scheduler.forget_dead();
    }
}

/// Keeps one token fresh.
///
/// # Errors
/// When the system has no thread left.
pub fn keep(state: Arc<State>) -> Result<FreshGuard, Error> {
    let (guard, lives) = guard(&state.settings, Some(state.clone()));
    keep_while(&state, lives)?;
    Ok(guard)
}

/// Makes a guard of tokens with these settings, which may be still to come, and what tells that it lives.
pub fn guard(common: &Common, state: Option<Arc<State>>) -> (FreshGuard, Weak<()>) {
    let (life, scheduler) = (Arc::new(()), Scheduler::of(common));
    let lives = Arc::downgrade(&life);
    (FreshGuard { _kept: PerProcess::new(Kept { life: Some(life), scheduler, _state: state }) }, lives)
}

/// Keeps one token fresh while the guard lives and anybody has the token.
///
/// # Errors
/// When the system has no thread left.
pub fn keep_while(state: &Arc<State>, lives: Weak<()>) -> Result<(), Error> {
    let scheduler = Scheduler::of(&state.settings);
    let added = scheduler.add(lives.clone(), |number| {
        let scheduler = Arc::downgrade(&scheduler);
        let poke = move || scheduler.upgrade().iter().for_each(|scheduler| scheduler.poke(number));
        Keeper::new(state, lives, Arc::new(poke))
    });
    added.map_err(|error| Error::new(ErrorKind::Config, format!("no thread for keep_fresh: {error}")))
}
