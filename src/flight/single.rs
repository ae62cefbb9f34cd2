//! One flight at a time: who leads, who follows, and how followers learn the outcome. Knows nothing of tokens; runs no
//! code of others under its lock.

use crate::sync::{Condvar, Mutex};
use std::sync::Arc;
use std::time::Instant;

/// Where the threads of a process meet to wait for one flight.
pub struct SingleFlight<T> {
    state: Mutex<State<T>>,
    finished: Condvar,
    /// What followers are told if a leader vanishes.
    lost: T,
}

struct State<T> {
    /// How many flights have started, which is the number of the one that runs.
    started: u64,
    /// How many have finished: all, or all but one.
    finished: u64,
    /// Until when anybody waits for the flight that runs.
    deadline: Option<Instant>,
    /// That of the last that has finished.
    outcome: T,
    /// What is called when the flight that runs has finished; boxed, because mostly there is nothing.
    calls: Option<Box<Calls>>,
}

/// Called once, without a lock.
pub type Call = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Calls(Vec<Call>);

impl<T> State<T> {
    fn is_running(&self) -> bool {
        self.started > self.finished
    }
}

/// What a thread that wants a flight's outcome is to do.
pub enum Joined<T: Clone> {
    Lead(Leader<T>),
    /// Wait for the flight of this number.
    Follow(u64),
}

impl<T: Clone> SingleFlight<T> {
    pub fn new(lost: T) -> Arc<SingleFlight<T>> {
        let state = State { started: 0, finished: 0, deadline: None, outcome: lost.clone(), calls: None };
        Arc::new(SingleFlight { state: Mutex::new(state), finished: Condvar::new(), lost })
    }

    /// Joins the flight that runs and lets it go on until `deadline` at least, or leads a new one.
    pub fn join(self: &Arc<Self>, deadline: Instant) -> Joined<T> {
        let mut state = self.state.lock();
        state.deadline = state.deadline.max(Some(deadline));
        if state.is_running() {
            return Joined::Follow(state.started);
        }
        state.started += 1;
        state.deadline = Some(deadline);
        Joined::Lead(Leader { flights: self.clone(), number: state.started, is_finished: false })
    }

    /// Waits for the flight's outcome, or that of a later one; `None` if the deadline passes first.
    pub fn wait(&self, number: u64, deadline: Instant) -> Option<T> {
        let mut state = self.state.lock();
        while state.finished < number {
            if self.finished.wait_until(&mut state, deadline).timed_out() && state.finished < number {
                return None;
            }
        }
        Some(state.outcome.clone())
    }

    /// Returns the outcome of this flight, or of a later one, if it has finished.
    pub fn outcome(&self, number: u64) -> Option<T> {
        let state = self.state.lock();
        (state.finished >= number).then(|| state.outcome.clone())
    }

    /// Calls this when the flight has finished, which may be now.
    pub fn when_finished(&self, number: u64, call: Call) {
        let mut state = self.state.lock();
        if state.finished >= number {
            drop(state);
            return call();
        }
        state.calls.get_or_insert_default().0.push(call);
    }

    /// Returns whether a flight runs.
    pub fn is_running(&self) -> bool {
        self.state.lock().is_running()
    }

    /// Returns how many flights have finished, for a later [`wait_for_next`](SingleFlight::wait_for_next).
    pub fn finished(&self) -> u64 {
        self.state.lock().finished
    }

    /// Waits until more flights than so many have finished, or until the deadline.
    pub fn wait_for_next(&self, finished: u64, deadline: Instant) {
        self.wait(finished + 1, deadline);
    }

    /// Waits until no flight runs; false if the deadline passes first.
    pub fn wait_until_idle(&self, deadline: Instant) -> bool {
        let started = self.state.lock().started;
        self.wait(started, deadline);
        !self.is_running()
    }

    fn finish(&self, outcome: T) {
        let mut state = self.state.lock();
        state.finished = state.started;
        state.deadline = None;
        let last = std::mem::replace(&mut state.outcome, outcome);
        let calls = std::mem::take(&mut state.calls);
        drop(state);
        self.finished.notify_all();
        drop(last);
        calls.into_iter().flat_map(|calls| calls.0).for_each(|call| call());
    }
}

/// The duty to finish the flight: dropping it undone tells the followers that it was lost.
pub struct Leader<T: Clone> {
    flights: Arc<SingleFlight<T>>,
    number: u64,
    is_finished: bool,
}

impl<T: Clone> Leader<T> {
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Returns until when anybody waits for this flight.
    pub fn deadline(&self) -> Option<Instant> {
        self.flights.state.lock().deadline
    }

    /// Ends the flight and wakes its followers.
    pub fn finish(mut self, outcome: T) {
        self.is_finished = true;
        self.flights.finish(outcome);
    }
}

impl<T: Clone> Drop for Leader<T> {
    fn drop(&mut self) {
        if !self.is_finished {
            self.flights.finish(self.flights.lost.clone());
        }
    }
}
