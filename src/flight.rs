//! One flight at a time: who leads, who follows, and how followers learn the outcome. Knows nothing of tokens; runs no
//! code of others under its lock.

use crate::sync::{Condvar, Mutex};
use std::sync::Arc;
use std::time::Instant;

/// Where the threads of a process meet to wait for one flight.
pub struct SingleFlight<T> {
    state: Mutex<State<T>>,
    landed: Condvar,
    /// What followers are told if a leader vanishes.
    lost: T,
}

struct State<T> {
    /// How many flights have started; the number of the one in the air.
    started: u64,
    /// How many have landed: all, or all but one.
    ended: u64,
    /// Until when anybody waits for the flight in the air.
    patience: Option<Instant>,
    outcome: Option<T>,
}

/// What a thread that wants a flight's outcome is to do.
pub enum Joined<T: Clone> {
    Lead(Leader<T>),
    /// Wait for the flight of this number.
    Follow(u64),
}

impl<T: Clone> SingleFlight<T> {
    pub fn new(lost: T) -> Arc<SingleFlight<T>> {
        let state = State { started: 0, ended: 0, patience: None, outcome: None };
        Arc::new(SingleFlight { state: Mutex::new(state), landed: Condvar::new(), lost })
    }

    /// Joins the flight in the air and lets it go on until `patience` at least, or leads a new one.
    pub fn join(self: &Arc<Self>, patience: Instant) -> Joined<T> {
        let mut state = self.state.lock();
        state.patience = state.patience.max(Some(patience));
        if state.started > state.ended {
            return Joined::Follow(state.started);
        }
        state.started += 1;
        state.patience = Some(patience);
        Joined::Lead(Leader { flights: self.clone(), number: state.started, landed: false })
    }

    /// Waits for the flight's outcome, or that of a later one; `None` if the deadline passes first.
    pub fn wait(&self, number: u64, deadline: Instant) -> Option<T> {
        let mut state = self.state.lock();
        while state.ended < number {
            if self.landed.wait_until(&mut state, deadline).timed_out() && state.ended < number {
                return None;
            }
        }
        state.outcome.clone()
    }

    /// Returns whether a flight is in the air.
    pub fn flying(&self) -> bool {
        let state = self.state.lock();
        state.started > state.ended
    }

    /// Returns how many flights have landed, for a later [`rest`](SingleFlight::rest).
    pub fn landed(&self) -> u64 {
        self.state.lock().ended
    }

    /// Waits until then, or until more flights have landed than so many.
    pub fn rest(&self, landed: u64, until: Instant) {
        self.wait(landed + 1, until);
    }

    /// Waits until no flight is in the air; false if the deadline passes first.
    pub fn idle(&self, deadline: Instant) -> bool {
        let started = self.state.lock().started;
        self.wait(started, deadline);
        let state = self.state.lock();
        state.started == state.ended
    }

    fn land(&self, outcome: T) {
        let mut state = self.state.lock();
        state.ended = state.started;
        state.patience = None;
        let last = state.outcome.replace(outcome);
        drop(state);
        self.landed.notify_all();
        drop(last);
    }
}

/// The duty to land the flight: dropping it undone tells the followers that it was lost.
pub struct Leader<T: Clone> {
    flights: Arc<SingleFlight<T>>,
    number: u64,
    landed: bool,
}

impl<T: Clone> Leader<T> {
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Returns until when anybody waits for this flight.
    pub fn patience(&self) -> Option<Instant> {
        self.flights.state.lock().patience
    }

    /// Ends the flight and wakes its followers.
    pub fn land(mut self, outcome: T) {
        self.landed = true;
        self.flights.land(outcome);
    }
}

impl<T: Clone> Drop for Leader<T> {
    fn drop(&mut self) {
        if !self.landed {
            self.flights.land(self.flights.lost.clone());
        }
    }
}
