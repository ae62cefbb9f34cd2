//! How a flight waits for the process that fetches: subscribed to its token's changes if it can be, polling if not; now and then it
//! looks whether that process is still there.

use crate::clock;
use crate::decide;
use crate::policy::{Execution, LISTENERS, SECOND_LOOK};
use crate::state::State;
use crate::store::{Change, Lease, Presence, StoreError, Subscription};
use std::thread;
use std::time::{Duration, Instant};

/// The waits of one flight.
pub struct UpdaterWait {
    attempt: u64,
    round: u32,
    /// Whether the last wait ended without a word.
    is_silent: bool,
    looks: u32,
    subscription: Option<Box<dyn Subscription>>,
    /// When to look for the updater next; `None` where that is no use.
    next_look: Option<Instant>,
    /// The updater that the last look did not find.
    missed: Option<Lease>,
}

impl UpdaterWait {
    pub fn new(state: &State, attempt: u64) -> UpdaterWait {
        let (subscription, next_look, missed) = (None, None, None);
        let mut wait = UpdaterWait { attempt, round: 0, is_silent: false, looks: 0, subscription, next_look, missed };
        wait.look_later(state, LISTENERS);
        wait
    }

    /// Returns whether there was an updater to wait for, of which nothing was heard.
    pub fn is_silent(&self) -> bool {
        self.is_silent
    }

    /// Waits until another claim is worth its while: a change, the end of the lease, or a timer. No longer than `at_most`.
    pub fn wait(&mut self, state: &State, lease_left: Duration, at_most: Duration) {
        self.round += 1;
        let change = self.wait_for_event(state, decide::watch(lease_left, at_most, self.fraction(state)));
        self.is_silent = !matches!(change, Ok(Some(_)));
        if let Err(error) = change {
            log::debug!(target: "token_manager", "{}: polling, for lack of events: {error}", state.settings.name);
            self.subscription = None;
            thread::sleep(decide::poll(self.round - 1, at_most));
        }
    }

    fn wait_for_event(&mut self, state: &State, at_most: Duration) -> Result<Option<Change>, StoreError> {
        let (store, name) = (&state.settings.store, &state.settings.name);
        if self.subscription.is_none() {
            self.subscription = Some(match state.settings.policy.execution {
                Execution::Background => state.settings.events().subscribe(name, None)?,
                // The events' thread would be foreign to such a host.
                Execution::Inline => store.subscribe(name)?,
            });
            // The event may have passed before the subscription stood: then nobody fetches any more.
            if !store.has_updater(name).unwrap_or(false) {
                return Ok(None);
            }
        }
        let until = clock::deadline(at_most);
        loop {
            let pause = clock::left(self.next_look.map_or(until, |next_look| next_look.min(until)));
            match self.subscription.as_mut().map(|subscription| subscription.wait(pause)).transpose()?.flatten() {
                // What casts doubt on a token does not bring one.
                Some(Change::Doubted(_)) if !clock::left(until).is_zero() => {}
                change @ Some(_) => return Ok(change),
                None if clock::left(until).is_zero() => return Ok(None),
                None if self.look(state) => return Ok(None),
                None => {}
            }
        }
    }

    /// Looks for the updater if it is time to; returns whether it does not fetch any more.
    fn look(&mut self, state: &State) -> bool {
        if self.next_look.is_none_or(|next_look| !clock::left(next_look).is_zero()) {
            return false;
        }
        let missed = self.missed.take();
        match state.settings.store.presence(&state.settings.name, missed.as_ref()) {
            Ok(Presence::Ended) => {
                self.look_later(state, LISTENERS);
                return true;
            }
            Ok(Presence::Assumed { listeners }) => self.look_later(state, listeners),
            Ok(Presence::Missing(lease)) => {
                self.missed = Some(lease);
                self.next_look = Some(clock::deadline(SECOND_LOOK));
            }
            Ok(Presence::Unknown) | Err(_) => self.next_look = None,
        }
        false
    }

    fn look_later(&mut self, state: &State, listeners: u64) {
        self.looks += 1;
        self.next_look = Some(clock::deadline(decide::look(listeners, self.fraction(state))));
    }

    fn fraction(&self, state: &State) -> f64 {
        state.fraction(self.attempt << 32 | u64::from(self.looks) << 16 | u64::from(self.round))
    }
}
