//! One token that is kept fresh: what is known of it from one step to the next.

use crate::clock::Moment;
use crate::state::State;
use crate::store::{Change, Subscription};
use crate::threads::Ticket;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// The highest generations that were announced: hints, which anybody may forge and nobody acts on without the store's word.
#[derive(Default, PartialEq)]
pub struct Announced {
    pub committed: u64,
    pub doubted: u64,
    pub invalidated: u64,
}

impl Announced {
    pub fn note(&mut self, change: Change) {
        let (highest, generation) = match change {
            Change::Committed(generation) => (&mut self.committed, generation),
            Change::Doubted(generation) => (&mut self.doubted, generation),
            Change::Invalidated(generation) => (&mut self.invalidated, generation),
            Change::Failed(_) => return,
        };
        *highest = generation.max(*highest);
    }
}

/// One token that is kept fresh.
pub struct Keeper {
    pub state: Weak<State>,
    /// Dead when the guard is dropped.
    pub lives: Weak<()>,
    /// Has the next step taken at once.
    pub poke: Arc<dyn Fn() + Send + Sync>,
    pub subscription: Option<Box<dyn Subscription>>,
    pub announced: Announced,
    /// When the store was inspected; `None` to inspect it as soon as `inspect_after` allows.
    pub inspected_at: Option<Moment>,
    pub inspect_after: Moment,
    pub flight_after: Moment,
    /// The flight that it waits for.
    pub flight: Option<u64>,
    /// How often in a row the store could not be followed, and how many flights from here have failed.
    pub errors: u32,
    pub failures: u32,
    /// Whether the last announcement meant nothing to this process.
    pub was_noise: bool,
    /// The generation that the store held when it was last followed, if this process held it too.
    pub confirmed: Option<u64>,
    /// The generation that the store has lost and this process may not offer, and since when.
    pub lost: Option<(u64, Moment)>,
    /// Last, so that it is counted until all else is gone.
    _ticket: Ticket,
}

/// What a keeper's step was like for the others of its store.
#[derive(Default)]
pub struct Stepped {
    /// How long until the next one.
    pub next: Duration,
    /// Whether the store cannot be asked now, by anybody.
    pub store_is_down: bool,
    /// Whether the store is well.
    pub store_is_well: bool,
    /// How soon the next look is due that one token has for all.
    pub look_again: Duration,
    /// Whether the store has lost a token.
    pub found_loss: bool,
}

/// What a step is done under.
pub struct Round {
    /// Among how many tokens of this store this one is looked at: one where it is looked at for all.
    pub tokens: usize,
    /// Looks before this moment count as none: the store has lost something since.
    pub suspected_at: Option<Moment>,
    /// How long a step may wait for events that nobody pokes for.
    pub listen: Duration,
}

impl Keeper {
    pub fn new(state: &Arc<State>, lives: Weak<()>, poke: Arc<dyn Fn() + Send + Sync>) -> Keeper {
        let now = Moment::now();
        Keeper {
            state: Arc::downgrade(state),
            lives,
            poke,
            subscription: None,
            announced: Announced::default(),
            inspected_at: None,
            inspect_after: now,
            flight_after: now,
            flight: None,
            errors: 0,
            failures: 0,
            was_noise: false,
            confirmed: None,
            lost: None,
            _ticket: Ticket::take(&state.threads),
        }
    }
}
