//! The course of a flight: claim, then fetch and commit, or wait for the updater and claim again.

use crate::clock::{self, Moment};
use crate::decide::{self, NoFetch, Serve, Step};
use crate::error::{Error, FailureClass};
use crate::event::Event;
use crate::flight::fetch::{self, Shown};
use crate::flight::settle;
use crate::flight::single::{Joined, Leader};
use crate::flight::updater_wait::UpdaterWait;
use crate::identity::identity;
use crate::locks::Mutex;
use crate::policy::{Execution, FIRST_PAUSE, MAX_ABANDONED, SAFETY_POLL, STORE_PAUSE};
use crate::reentrancy::ReentrancyGuard;
use crate::slot::Slot;
use crate::state::{Outcome, State, retry_while_exhausted};
use crate::stats::Count;
use crate::store::{Claim, Claimed, Lease, StoreError};
use crate::threads;
use crate::workers::Place;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

/// Why somebody wants a flight.
#[derive(Clone, Copy)]
pub enum Need {
    /// There is no token to serve.
    Token,
    /// The token is due.
    Refresh,
    /// The store has lost the token of this generation.
    Replacement(u64),
}

impl Need {
    /// Returns whether it still stands: a flight may have finished since it was found.
    pub fn stands(self, slot: &Slot) -> bool {
        match self {
            Need::Token => slot.peek().is_none(),
            Need::Refresh => matches!(slot.peek(), Some((_, Serve::NowAndRefresh))),
            Need::Replacement(generation) => slot.seen() == generation,
        }
    }
}

/// Whether a flight may use the calling thread, where the settings or the system leave no other.
#[derive(Clone, Copy)]
pub enum CallingThread {
    Spared,
    LentUntil(Instant),
}

/// On which thread a flight runs.
enum RunsOn {
    /// A thread of its own, with this right to be under way.
    OwnThread(Place),
    /// That of a caller, for as long as that caller waits, however long others would.
    CallersThread { until: Instant },
}

impl RunsOn {
    fn until(&self) -> Option<Instant> {
        match self {
            RunsOn::OwnThread(_) => None,
            RunsOn::CallersThread { until } => Some(*until),
        }
    }
}

/// Returns until when a flight goes on that nobody waits for.
pub fn default_flight_deadline(state: &State) -> Instant {
    clock::deadline(state.settings.policy.deadline)
}

/// Joins the flight that runs, or starts one if the need still stands; returns the flight's number. It goes on until
/// `flight_deadline` at least.
pub fn join(state: &Arc<State>, need: Need, flight_deadline: Instant, calling_thread: CallingThread) -> u64 {
    match state.flights.join(flight_deadline) {
        Joined::Follow(number) => number,
        Joined::Lead(leader) => {
            let number = leader.number();
            let seen = state.slot.seen();
            // A flight may have finished between the look that led here and the join: another one would fetch again.
            if need.stands(&state.slot) {
                start(state, leader, calling_thread, seen);
            } else {
                leader.finish(Ok(()));
            }
            number
        }
    }
}

/// Has a flight that still waits for its turn go first: a caller waits for it.
pub fn hurry(state: &State) {
    state.settings.workers().iter().for_each(|workers| workers.hurry(state.id));
}

/// Starts a flight for a newer token than the last `seen`.
fn start(state: &Arc<State>, leader: Leader<Outcome>, calling_thread: CallingThread, seen: u64) {
    // The leader goes through a cell, because a thread that cannot be started keeps what it was given.
    let leader_cell = Arc::new(Mutex::new(Some(leader)));
    if state.settings.policy.execution == Execution::Background {
        let (own, leader_cell) = (state.clone(), leader_cell.clone());
        let flight = move |place| {
            let leader = leader_cell.lock().take();
            if let Some(leader) = leader {
                run_flight(&own, leader, RunsOn::OwnThread(place), seen);
            }
        };
        let has_thread = match state.settings.workers() {
            Some(workers) => workers.run(state.id, &state.settings.name.group, Box::new(flight)),
            None => threads::spawn("tkm-flight", &state.threads, move || flight(Place::uncounted())).is_ok(),
        };
        if has_thread {
            return;
        }
    }
    let Some(leader) = leader_cell.lock().take() else { return };
    match calling_thread {
        CallingThread::LentUntil(until) if !clock::left(until).is_zero() => {
            run_flight(state, leader, RunsOn::CallersThread { until }, seen);
        }
        _ => {
            // This caller must not block. Others may, and will lend their threads when the token is gone.
            state.slot.postpone_refresh(Moment::now().after(STORE_PAUSE));
            leader.finish(Ok(()));
        }
    }
}

/// Runs the flight on this thread and finishes it with an outcome, come what may.
fn run_flight(state: &Arc<State>, leader: Leader<Outcome>, runs_on: RunsOn, seen: u64) {
    let _inside = ReentrancyGuard::enter(state.id);
    state.count(Count::Flight);
    state.slot.postpone_for_flight();
    // Held until nothing more is to be expected of this flight: whoever is missed is replaced.
    let mut shown = None;
    let outcome = catch_unwind(AssertUnwindSafe(|| run_attempt(state, &leader, &runs_on, seen, &mut shown)))
        .unwrap_or_else(|_| Err(Error::store("the token store panicked")));
    state.note_outcome(&outcome, seen);
    leader.finish(outcome);
    if let RunsOn::OwnThread(_) = runs_on {
        settle::repeat_commit(state);
    }
}

fn run_attempt(
    state: &Arc<State>,
    leader: &Leader<Outcome>,
    runs_on: &RunsOn,
    seen: u64,
    shown: &mut Shown,
) -> Outcome {
    let policy = &state.settings.policy;
    let attempt = identity().next_attempt();
    let mut updater_wait = UpdaterWait::new(state, attempt);
    loop {
        let _ = settle::commit_kept(state); // the claim tells whether the store is well
        let left = runs_on.until().map(clock::left);
        let (stuck, paused) = (state.has_too_many_abandoned(), state.failures.own_pause().is_some());
        let no_fetch = decide::no_fetch(stuck, paused, left, policy.fetch_limit);
        let asked_at = Moment::now();
        let claim = Claim {
            lease: left.map_or(policy.renewed_lease(), |_| policy.inline_lease()),
            budget: no_fetch.is_none().then_some(policy.budget),
            ..claim_without_fetch(state, attempt)
        };
        // A dead process had left the next token, or `keep_fresh` has taken it over: a claim for one that is newer would be granted.
        if state.slot.seen() > seen && matches!(state.slot.peek(), Some((_, Serve::Now))) {
            return Ok(());
        }
        let until = deadline(state, leader, runs_on);
        let claimed = retry_while_exhausted(until, || state.settings.store.claim(&state.settings.name, &claim))
            .map_err(|error| state.store_failed("claim", error))?;
        let lease_left = match decide::after_claim(claimed, no_fetch) {
            Step::Adopt(stored) => {
                state.adopt(stored, asked_at);
                return Ok(());
            }
            Step::Fetch { generation, carry } => {
                let owner = identity().owner().clone();
                if updater_wait.is_silent() {
                    state.count(Count::Takeover);
                }
                state.settings.emit(Event::Granted { generation, owner: owner.to_string() });
                let lease = Lease { owner, attempt, generation };
                let claimed = fetch::Claimed { carry, lease: claim.lease, at: asked_at };
                let fetched = match runs_on {
                    RunsOn::OwnThread(place) => fetch::fetch_on_own_thread(state, &lease, claimed, shown, place),
                    RunsOn::CallersThread { until } => fetch::fetch_here(state, &lease, claimed, *until),
                };
                return match fetched {
                    Ok(fetch) => {
                        settle::commit(state, &lease, fetch);
                        Ok(())
                    }
                    Err(error) => Err(settle::give_up(state, &lease, error, runs_on.until())),
                };
            }
            Step::WaitForUpdater { lease_left } => {
                state.settings.emit(Event::Waiting { lease_left });
                lease_left
            }
            // A process with more time may become the updater at any moment.
            Step::NoFetch(NoFetch::TooLittleTime) => SAFETY_POLL,
            Step::NoFetch(NoFetch::OwnPause) => return state.failures.own_pause().map_or(Ok(()), Err),
            Step::NoFetch(NoFetch::TooManyAbandoned) => {
                let message = format!("{MAX_ABANDONED} earlier calls of the token source never returned");
                return Err(Error::source(FailureClass::UnknownOutcome, Some(FIRST_PAUSE), message));
            }
            Step::Pause(pause) => return Err(Error::paused(pause.class, pause.retry_after)),
            Step::Limited { retry_after } => {
                state.count(Count::Limited);
                state.settings.emit(Event::Limited { retry_after });
                return Err(Error::limited(retry_after));
            }
        };
        let left = clock::left(deadline(state, leader, runs_on));
        if left.is_zero() {
            return Ok(());
        }
        updater_wait.wait(state, lease_left, left);
    }
}

/// Returns until when the flight may go on waiting: a caller on whose thread it runs does not wait beside a valid token.
fn deadline(state: &State, leader: &Leader<Outcome>, runs_on: &RunsOn) -> Instant {
    let until = match runs_on {
        RunsOn::OwnThread(_) => leader.deadline(),
        RunsOn::CallersThread { until } => Some(*until).filter(|_| state.slot.peek().is_none()),
    };
    until.unwrap_or_else(Instant::now)
}

/// Takes over what the store has, on this thread and without the right to fetch: what to do upon an event, which anybody may
/// forge.
///
/// # Errors
/// When the store cannot be asked.
pub fn take_over(state: &State) -> Result<(), StoreError> {
    let asked_at = Moment::now();
    let claim = claim_without_fetch(state, identity().next_attempt());
    if let Claimed::Token(stored) = state.settings.store.claim(&state.settings.name, &claim)? {
        state.adopt(stored, asked_at);
    }
    Ok(())
}

fn claim_without_fetch(state: &State, attempt: u64) -> Claim<'_> {
    Claim {
        owner: identity().owner(),
        attempt,
        newer_than: state.slot.newer_than(),
        lease: state.settings.policy.renewed_lease(),
        budget: None,
        egress: &state.settings.egress,
    }
}
