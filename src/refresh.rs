//! The course of a flight: claim, then fetch and commit, or wait for the updater and claim again.

use crate::clock::{self, Moment};
use crate::core::{Core, Counters, Outcome, Settings};
use crate::decide::{self, Barred, Step};
use crate::error::{Error, FailureClass};
use crate::event::Event;
use crate::fetch;
use crate::flight::{Joined, Leader};
use crate::locks::Mutex;
use crate::policy::{Execution, FIRST_PAUSE, MAX_ABANDONED, SAFETY_POLL, STORE_PAUSE};
use crate::reentrancy::ReentrancyGuard;
use crate::settle;
use crate::slot::Slot;
use crate::store::{Change, Claim, Claimed, Lease, StoreError, Subscription};
use crate::threads;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Joins the flight in the air, or starts one if it is `needed` now; returns the flight's number. It goes on until
/// `patience` at least; should it have to fly on this thread, until `deadline`.
pub fn join(core: &Arc<Core>, patience: Instant, deadline: Instant, needed: impl FnOnce(&Slot) -> bool) -> u64 {
    match core.flights.join(patience) {
        Joined::Follow(number) => number,
        Joined::Lead(leader) => {
            let number = leader.number();
            // A flight may have landed between the look that led here and the join: another one would fetch again.
            if needed(&core.slot) {
                start(core, leader, deadline);
            } else {
                leader.land(Ok(()));
            }
            number
        }
    }
}

/// Flies on a thread of its own, or on this one where the settings or the system leave no other, until `deadline`.
fn start(core: &Arc<Core>, leader: Leader<Outcome>, deadline: Instant) {
    // The leader goes through a lock, because a thread that cannot be started keeps what it was given.
    let duty = Arc::new(Mutex::new(Some(leader)));
    if core.settings.policy.execution == Execution::Background {
        let (own, duty) = (core.clone(), duty.clone());
        let flight = move || {
            let leader = duty.lock().take();
            if let Some(leader) = leader {
                fly(&own, leader, None);
            }
        };
        if threads::spawn("tkm-flight", &core.running, flight).is_ok() {
            return;
        }
    }
    let Some(leader) = duty.lock().take() else { return };
    if clock::left(deadline).is_zero() {
        // This caller must not block. Others may, and will fly themselves when the token is gone.
        core.slot.postpone(Some(Moment::now().after(STORE_PAUSE)));
        return leader.land(Ok(()));
    }
    fly(core, leader, Some(deadline));
}

/// Flies on this thread and lands with an outcome, come what may. A caller's thread flies until that caller's deadline, however
/// patient those are who wait with it.
fn fly(core: &Arc<Core>, leader: Leader<Outcome>, callers_deadline: Option<Instant>) {
    let _inside = ReentrancyGuard::enter(core);
    Counters::count(&core.counters.flights);
    core.slot.postpone(None);
    let seen = core.slot.seen();
    let outcome = catch_unwind(AssertUnwindSafe(|| course(core, &leader, callers_deadline)))
        .unwrap_or_else(|_| Err(Error::store("the token store panicked")));
    core.note(&outcome);
    if outcome.is_ok() && core.slot.seen() == seen {
        // It brought nothing: a due token is served on for a while before the next one starts.
        core.slot.postpone(Some(Moment::now().after(STORE_PAUSE)));
    }
    leader.land(outcome);
    if callers_deadline.is_none() {
        settle::repeat_commit(core);
    }
}

fn course(core: &Arc<Core>, leader: &Leader<Outcome>, callers_deadline: Option<Instant>) -> Outcome {
    let policy = &core.settings.policy;
    let lease = if callers_deadline.is_some() { policy.inline_lease() } else { policy.renewed_lease() };
    let attempt = core.next_attempt();
    let mut watch = Watch { listener: None, round: 0 };
    loop {
        let _ = settle::commit_kept(core); // the claim tells whether the store is well
        let left = callers_deadline.map(clock::left);
        let barred = decide::barred(core.stuck(), core.own_pause().is_some(), left, policy.fetch_limit);
        let asked_at = Moment::now();
        let claim = Claim {
            owner: &core.owner,
            attempt,
            newer_than: core.slot.newer_than(),
            lease,
            budget: if barred.is_some() { None } else { Some(policy.budget) },
            egress: &core.settings.egress,
        };
        let until = patience(core, leader, callers_deadline);
        let claimed = settle::patiently(until, || core.settings.store.claim(&core.settings.name, &claim));
        let claimed = claimed.map_err(|error| core.store_failed("claim", error))?;
        let lease_left = match decide::after_claim(claimed, barred) {
            Step::Adopt(stored) => {
                core.adopt(stored, asked_at);
                return Ok(());
            }
            Step::Fetch { generation, carry } => {
                let lease = Lease { owner: core.owner.clone(), attempt, generation };
                core.emit(Event::Granted { generation, owner: core.owner.to_string() });
                let fetched = fetch::run(core, &lease, carry, callers_deadline);
                return match fetched {
                    Ok(brought) => {
                        settle::commit(core, &lease, brought);
                        Ok(())
                    }
                    Err(error) => Err(settle::give_up(core, &lease, error, callers_deadline)),
                };
            }
            Step::Watch { lease_left } => {
                core.emit(Event::Waiting { lease_left });
                lease_left
            }
            // Somebody with more time may become the updater at any moment.
            Step::Bar(Barred::Hurried) => SAFETY_POLL,
            Step::Bar(Barred::Paused) => return core.own_pause().map_or(Ok(()), Err),
            Step::Bar(Barred::Stuck) => {
                let message = format!("{MAX_ABANDONED} earlier calls of the token source never returned");
                return Err(Error::source(FailureClass::UnknownOutcome, Some(FIRST_PAUSE), message));
            }
            Step::Cool(cooling) => return Err(Error::cooling(cooling.class, cooling.retry_after)),
            Step::Limit { retry_after } => {
                core.emit(Event::Limited { retry_after });
                return Err(Error::limited(retry_after));
            }
        };
        let left = clock::left(patience(core, leader, callers_deadline));
        if left.is_zero() {
            return Ok(());
        }
        watch.wait(core, attempt, lease_left, left);
    }
}

/// Returns until when the flight may go on waiting: a caller on whose thread it runs does not wait beside a valid token.
fn patience(core: &Core, leader: &Leader<Outcome>, callers_deadline: Option<Instant>) -> Instant {
    let until = match callers_deadline {
        Some(deadline) => Some(deadline).filter(|_| core.slot.look().is_none()),
        None => leader.patience(),
    };
    until.unwrap_or_else(Instant::now)
}

/// How a flight waits for another process: subscribed if it can be, polling if not.
struct Watch {
    listener: Option<Box<dyn Subscription>>,
    round: u32,
}

impl Watch {
    fn wait(&mut self, core: &Core, attempt: u64, lease_left: Duration, patience: Duration) {
        self.round += 1;
        let fraction = core.fraction(attempt << 32 | u64::from(self.round));
        if let Err(error) = self.hear(core, decide::watch(lease_left, patience, fraction)) {
            log::debug!(target: "token_manager", "{}: polling, for lack of events: {error}", core.settings.name);
            self.listener = None;
            thread::sleep(decide::poll(self.round - 1, patience));
        }
    }

    fn hear(&mut self, core: &Core, at_most: Duration) -> Result<(), StoreError> {
        let Settings { store, name, .. } = &*core.settings;
        let listener = match &mut self.listener {
            Some(listener) => listener,
            None => {
                let listener = self.listener.insert(store.subscribe(name)?);
                // The event may have passed before the subscription stood: then nobody is at work any more.
                if !store.has_updater(name).unwrap_or(false) {
                    return Ok(());
                }
                listener
            }
        };
        listen(&mut **listener, at_most)
    }
}

/// Waits for an event that calls for another claim.
fn listen(listener: &mut dyn Subscription, at_most: Duration) -> Result<(), StoreError> {
    let until = clock::deadline(at_most);
    loop {
        match listener.wait(clock::left(until))? {
            // What casts doubt on a token does not bring one.
            Some(Change::Doubted(_)) if !clock::left(until).is_zero() => {}
            _ => return Ok(()),
        }
    }
}

/// Takes over what the store has, without the right to fetch: what to do upon an event, which anybody may forge.
///
/// # Errors
/// When the store cannot be asked.
pub fn take_over(core: &Core) -> Result<(), StoreError> {
    let (asked_at, policy) = (Moment::now(), &core.settings.policy);
    let claim = Claim {
        owner: &core.owner,
        attempt: core.next_attempt(),
        newer_than: core.slot.newer_than(),
        lease: policy.renewed_lease(),
        budget: None,
        egress: &core.settings.egress,
    };
    if let Claimed::Token(stored) = core.settings.store.claim(&core.settings.name, &claim)? {
        core.adopt(stored, asked_at);
    }
    Ok(())
}

/// Returns until when a flight goes on that nobody waits for.
pub fn unhurried(core: &Core) -> Instant {
    clock::deadline(core.settings.policy.deadline)
}
