//! The course of a flight: claim, then fetch and commit, or wait for the updater and claim again.

use crate::clock::{self, Moment};
use crate::core::{Aboard, Core, Counters, Outcome, Settings};
use crate::decide::{self, Step, Usable};
use crate::error::{Error, FailureClass};
use crate::event::Event;
use crate::fetch::{self, Brought};
use crate::flight::{Joined, Leader};
use crate::locks::Mutex;
use crate::policy::{FIRST_COOL_DOWN, Flights, MOST_ABANDONED, STORE_PAUSE};
use crate::slot::Slot;
use crate::source::FetchError;
use crate::store::{Change, Claim, Committed, Grant, Lease, Listener, StoreError, Stored};
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
    if core.settings.policy.flights == Flights::OwnThread {
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

/// Flies on this thread and lands with an outcome, come what may. If it is a caller's thread, he has until his deadline,
/// however patient those are who wait with him.
fn fly(core: &Arc<Core>, leader: Leader<Outcome>, callers_deadline: Option<Instant>) {
    let _aboard = Aboard::board(core);
    Counters::count(&core.counters.flights);
    core.slot.postpone(None);
    let outcome = catch_unwind(AssertUnwindSafe(|| course(core, &leader, callers_deadline)))
        .unwrap_or_else(|_| Err(Error::store("the token store panicked")));
    core.note(&outcome);
    leader.land(outcome);
}

fn course(core: &Arc<Core>, leader: &Leader<Outcome>, callers_deadline: Option<Instant>) -> Outcome {
    let policy = &core.settings.policy;
    let lease = if callers_deadline.is_some() { policy.inline_lease() } else { policy.renewed_lease() };
    let attempt = core.next_attempt();
    let mut watch = Watch { listener: None, round: 0 };
    loop {
        let stuck = core.stuck();
        let asked_at = Moment::now();
        let claim = Claim {
            owner: &core.owner,
            attempt,
            newer_than: core.slot.newer_than(),
            lease,
            budget: if stuck { None } else { Some(policy.budget) },
            egress: &core.settings.egress,
        };
        let claimed = match core.settings.store.claim(&core.settings.name, &claim) {
            Ok(claimed) => claimed,
            Err(error) => return Err(core.store_failed("claim", error)),
        };
        match decide::after_claim(claimed, stuck) {
            Step::Adopt(stored) => {
                core.adopt(stored, asked_at);
                return Ok(());
            }
            Step::Fetch { generation, carry } => {
                let lease = Lease { owner: core.owner.clone(), attempt, generation };
                core.emit(Event::Granted { generation, owner: core.owner.to_string() });
                return match fetch::run(core, &lease, carry, callers_deadline) {
                    Ok(brought) => {
                        commit(core, &lease, brought);
                        Ok(())
                    }
                    Err(error) => Err(give_up(core, &lease, error)),
                };
            }
            Step::Watch { lease_left } => {
                core.emit(Event::Waiting { lease_left });
                let patience = callers_deadline.or_else(|| leader.patience()).map_or(Duration::ZERO, clock::left);
                if patience.is_zero() {
                    return Ok(());
                }
                watch.wait(core, attempt, lease_left, patience);
            }
            Step::Cool(cooling) => return Err(Error::cooling(cooling.class, cooling.retry_after)),
            Step::Limit { retry_after } => {
                core.emit(Event::Limited { retry_after });
                return Err(Error::limited(retry_after));
            }
            Step::Stuck => {
                let message = format!("{MOST_ABANDONED} earlier calls of the token source never returned");
                return Err(Error::source(FailureClass::UnknownOutcome, Some(FIRST_COOL_DOWN), message));
            }
        }
    }
}

/// How a flight waits for another process: subscribed if it can be, polling if not.
struct Watch {
    listener: Option<Box<dyn Listener>>,
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
                let listener = self.listener.insert(store.listen(name)?);
                // The event may have passed before the subscription stood: then nobody is at work any more.
                if !store.busy(name).unwrap_or(false) {
                    return Ok(());
                }
                listener
            }
        };
        listen(&mut **listener, at_most)
    }
}

/// Waits for an event that calls for another claim.
fn listen(listener: &mut dyn Listener, at_most: Duration) -> Result<(), StoreError> {
    let until = clock::deadline(at_most);
    loop {
        match listener.wait(clock::left(until))? {
            // What casts doubt on a token does not bring one.
            Some(Change::Doubted(_)) if !clock::left(until).is_zero() => {}
            _ => return Ok(()),
        }
    }
}

/// Puts the fetched token where the fleet finds it. If the store is out of reach the process goes on with it alone.
pub fn commit(core: &Core, lease: &Lease, Brought { fetched, asked_at }: Brought) {
    let generation = lease.generation;
    let (now, lifetime) = (Moment::now(), fetched.lifetime);
    let took = now.since(asked_at);
    let Usable { left, slow } = decide::usable(lifetime, took);
    core.emit(Event::Fetched { generation, took, lifetime });
    if slow {
        core.emit(Event::Slow { generation, took, lifetime });
    }
    let grant = Grant {
        value: fetched.secret.clone(),
        left,
        life: lifetime,
        age: Some(took),
        carry: fetched.carry,
        carry_lifetime: fetched.carry_lifetime,
    };
    let fresh = |doubted| Stored { generation, value: fetched.secret, left, life: lifetime, doubted };
    match core.settings.store.commit(&core.settings.name, lease, &grant) {
        Ok(Committed::Written { doubted }) => {
            core.emit(Event::Committed { generation, late: doubted });
            core.adopt(fresh(doubted), now)
        }
        Ok(Committed::Superseded(stored)) => core.adopt(stored, now),
        Ok(Committed::Void) => {}
        Err(error) => {
            core.store_failed("commit", error);
            core.adopt(fresh(false), now)
        }
    }
}

/// Tells the fleet of the failure.
fn give_up(core: &Core, lease: &Lease, FetchError { class, retry_after, cause }: FetchError) -> Error {
    Counters::count(&core.counters.failures);
    let pause = match core.settings.store.fail(&core.settings.name, lease, class, retry_after) {
        Ok(Some(cooling)) => cooling.retry_after,
        Ok(None) => retry_after.unwrap_or(FIRST_COOL_DOWN),
        Err(error) => {
            // The lease ends by itself.
            core.store_failed("record a failure", error);
            retry_after.unwrap_or(FIRST_COOL_DOWN)
        }
    };
    core.emit(Event::Failed { class, retry_after: pause });
    log::warn!(target: "token_manager", "{}: {cause}", core.settings.name);
    Error::source(class, Some(pause), cause)
}

/// Tells the fleet, after the flight has ended, that nobody knows what the issuer granted to it.
pub fn cast_doubt(core: &Core, lease: &Lease) {
    let told = core.settings.store.fail(&core.settings.name, lease, FailureClass::UnknownOutcome, None);
    if let Err(error) = told {
        core.store_failed("record a failure", error);
    }
}

/// Returns until when a flight goes on that nobody waits for.
pub fn unhurried(core: &Core) -> Instant {
    clock::deadline(core.settings.policy.deadline)
}
