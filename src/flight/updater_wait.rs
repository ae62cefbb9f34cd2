//! How a flight waits for the process that fetches: subscribed to its token's changes if it can be, polling if not.

use crate::clock;
use crate::decide;
use crate::policy::Execution;
use crate::settings::Settings;
use crate::state::State;
use crate::store::{Change, StoreError, Subscription};
use std::thread;
use std::time::Duration;

/// The waits of one flight.
pub struct UpdaterWait {
    attempt: u64,
    round: u32,
    subscription: Option<Box<dyn Subscription>>,
}

impl UpdaterWait {
    pub fn new(attempt: u64) -> UpdaterWait {
        UpdaterWait { attempt, round: 0, subscription: None }
    }

    /// Waits until another claim is worth its while: a change, the end of the lease, or a timer. No longer than `at_most`.
    pub fn wait(&mut self, state: &State, lease_left: Duration, at_most: Duration) {
        self.round += 1;
        let fraction = state.fraction(self.attempt << 32 | u64::from(self.round));
        if let Err(error) = self.wait_for_event(&state.settings, decide::watch(lease_left, at_most, fraction)) {
            log::debug!(target: "token_manager", "{}: polling, for lack of events: {error}", state.settings.name);
            self.subscription = None;
            thread::sleep(decide::poll(self.round - 1, at_most));
        }
    }

    fn wait_for_event(&mut self, settings: &Settings, at_most: Duration) -> Result<(), StoreError> {
        let (store, name) = (&settings.store, &settings.name);
        let subscription = match &mut self.subscription {
            Some(subscription) => subscription,
            None => {
                let subscribed = match settings.policy.execution {
                    Execution::Background => settings.events().subscribe(name, None)?,
                    // The events' thread would be foreign to such a host.
                    Execution::Inline => store.subscribe(name)?,
                };
                let subscription = self.subscription.insert(subscribed);
                // The event may have passed before the subscription stood: then nobody fetches any more.
                if !store.has_updater(name).unwrap_or(false) {
                    return Ok(());
                }
                subscription
            }
        };
        let until = clock::deadline(at_most);
        loop {
            match subscription.wait(clock::left(until))? {
                // What casts doubt on a token does not bring one.
                Some(Change::Doubted(_)) if !clock::left(until).is_zero() => {}
                _ => return Ok(()),
            }
        }
    }
}
