//! Runs the source, on a thread of its own while the lease is renewed here, and lets go of one that overruns its limit.

use crate::clock::{self, Moment};
use crate::event::Event;
use crate::flight::settle::{self, TimedFetch};
use crate::policy::UNSEEN;
use crate::reentrancy::ReentrancyGuard;
use crate::settings::Common;
use crate::source::{Attempt, FetchError};
use crate::state::{State, retry_while_exhausted};
use crate::stats::Count;
use crate::store::{Carried, Follow, Lease, Topic};
use crate::workers::Place;
use crossbeam::channel::{Receiver, RecvTimeoutError, SendError, bounded};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What came with the right to fetch, how long that holds, and the moment before it was claimed.
#[derive(Clone)]
pub struct Claimed {
    pub carry: Option<Carried>,
    pub lease: Duration,
    pub at: Moment,
}

type FetchResult = Result<TimedFetch, FetchError>;

/// Runs the source once, on the calling thread, until the fetch limit or `deadline` if that is sooner.
pub fn fetch_here(state: &State, lease: &Lease, claimed: Claimed, deadline: Instant) -> FetchResult {
    state.count(Count::Fetch);
    call_source(state, lease, claimed, deadline.min(fetch_deadline(state)))
}

/// By what the other processes see that the updater is there, if they can see it.
pub type Shown = Option<Box<dyn Send>>;

/// Runs the source once, on a thread of its own, and returns what it brought within the fetch limit. Meanwhile the updater is
/// `shown` to the others.
pub fn fetch_on_own_thread(
    state: &Arc<State>,
    lease: &Lease,
    claimed: Claimed,
    shown: &mut Shown,
    place: &Place,
) -> FetchResult {
    state.count(Count::Fetch);
    let deadline = fetch_deadline(state);
    // Without capacity a message is either taken or given back: what a source brings is never lost between the two.
    let (tx, rx) = bounded(0);
    let source = {
        let (state, lease, claimed, place) = (state.clone(), lease.clone(), claimed.clone(), place.clone());
        move || {
            let _place = place; // until the source has returned
            let result = call_source(&state, &lease, claimed, deadline);
            if let Err(SendError(late)) = tx.send(result) {
                let _returned = AbandonedGuard(&state);
                match late {
                    Ok(fetch) => settle::commit(&state, &lease, fetch),
                    Err(error) => drop(settle::report_failure(&state, &lease, error, None)),
                }
            }
        }
    };
    let policy = &state.settings.policy;
    if place.spawn("tkm-source", &state.threads, source).is_err() {
        // No thread to be had: fetch on this one, under a lease that needs no renewal.
        renew(state, lease, policy.inline_lease());
        return call_source(state, lease, claimed, deadline);
    }
    let mut running = AbandonOnDrop { state, lease, rx, is_answered: false };
    running.answer_until(deadline.min(clock::deadline(UNSEEN))).unwrap_or_else(|| {
        *shown = show(state, lease);
        running.wait(deadline)
    })
}

fn fetch_deadline(state: &State) -> Instant {
    clock::deadline(state.settings.policy.fetch_limit)
}

/// A source that runs on its own thread; whoever lets go of it without its answer, by a panic too, abandons it.
struct AbandonOnDrop<'a> {
    state: &'a State,
    lease: &'a Lease,
    rx: Receiver<FetchResult>,
    is_answered: bool,
}

impl AbandonOnDrop<'_> {
    /// Waits for the source's answer and renews the lease meanwhile.
    fn wait(&mut self, deadline: Instant) -> FetchResult {
        let lease_length = self.state.settings.policy.renewed_lease();
        loop {
            if let Some(answer) = self.answer_until(deadline.min(clock::deadline(lease_length / 3))) {
                return answer;
            }
            if clock::left(deadline).is_zero() {
                return Err(FetchError::unknown_outcome("the token source overran its limit"));
            }
            renew(self.state, self.lease, lease_length);
        }
    }

    /// Waits for the source's answer until then.
    fn answer_until(&mut self, until: Instant) -> Option<FetchResult> {
        let answer = match self.rx.recv_deadline(until) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => return None,
            Err(RecvTimeoutError::Disconnected) => {
                Err(FetchError::unknown_outcome("the thread of the token source ended without an answer"))
            }
        };
        self.is_answered = true;
        Some(answer)
    }
}

impl Drop for AbandonOnDrop<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            self.state.abandon(self.lease);
        }
    }
}

/// The duty of an abandoned source's thread to say that it has returned, even by a panic.
struct AbandonedGuard<'a>(&'a State);

impl Drop for AbandonedGuard<'_> {
    fn drop(&mut self) {
        self.0.abandoned_returned();
    }
}

/// Calls the source on this thread and refuses what cannot be used.
fn call_source(state: &State, lease: &Lease, claimed: Claimed, deadline: Instant) -> FetchResult {
    let _inside = ReentrancyGuard::enter(state.id);
    let Claimed { carry, lease: lease_length, at: claimed_at } = claimed;
    let (name, owner, generation) = (state.settings.name.name.clone(), lease.owner.clone(), lease.generation);
    let attempt = Attempt { name, owner, generation, carry, claimed_at, lease: lease_length, deadline };
    let asked_at = Moment::now();
    // The panic's message may quote the secret; the program's panic hook has shown it as far as it likes.
    let fetched = catch_unwind(AssertUnwindSafe(|| state.settings.source.fetch(&attempt)))
        .unwrap_or_else(|_| Err(FetchError::unknown_outcome("the token source panicked")))?;
    match fetched.fault() {
        None => Ok(TimedFetch { fetched, asked_at }),
        Some(fault) => Err(FetchError::unknown_outcome(fault)),
    }
}

fn show(state: &State, lease: &Lease) -> Shown {
    let (name, Common { store, policy, .. }) = (&state.settings.name, &*state.settings.common);
    // The lease alone stands for an updater that cannot be seen.
    let events = state.settings.events();
    let follow = |topic: &Topic| events.follow(topic.clone(), None).map(|followed| Box::new(followed) as Box<dyn Send>);
    let follow = store.has_feed().then_some(&follow as Follow<'_>);
    store.show_presence(name, lease, policy.renewed_lease(), follow).unwrap_or_else(|error| {
        log::debug!(target: "token_manager", "{name}: fetching unseen: {error}");
        None
    })
}

fn renew(state: &State, lease: &Lease, length: Duration) {
    let until = clock::deadline(length / 3);
    match retry_while_exhausted(until, || state.settings.store.renew(&state.settings.name, lease, length)) {
        Ok(true) => {}
        Ok(false) => state.settings.emit(Event::LeaseLost { generation: lease.generation }),
        // The next renewal may succeed in time; if none does, the commit is late and says so.
        Err(error) => drop(state.store_failed("renew the lease", error)),
    }
}
