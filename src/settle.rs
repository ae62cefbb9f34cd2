//! How a fetch ends for the fleet: its token is committed, and kept until it is; or its failure is recorded, and paused for.

use crate::clock::{self, Moment};
use crate::core::{Core, Counters};
use crate::decide::{self, Usable};
use crate::error::Error;
use crate::event::Event;
use crate::fetch::Brought;
use crate::policy::POLL;
use crate::source::{FetchError, Fetched};
use crate::store::{Committed, Failure, Grant, Lease, StoreError, StoreErrorKind, Stored};
use std::thread;
use std::time::{Duration, Instant};

/// What a source brought, until the store has it.
pub struct Uncommitted {
    lease: Lease,
    fetched: Fetched,
    asked_at: Moment,
    received_at: Moment,
    /// How long the token could be used when it was received.
    usable: Duration,
}

impl Uncommitted {
    pub fn generation(&self) -> u64 {
        self.lease.generation
    }

    fn left(&self, now: Moment) -> Duration {
        self.usable.saturating_sub(now.since(self.received_at))
    }

    fn stored(&self, now: Moment, doubted: bool) -> Stored {
        let (value, life) = (self.fetched.secret.clone(), self.fetched.lifetime);
        Stored { generation: self.lease.generation, value, left: self.left(now), life, doubted }
    }

    fn grant(&self, now: Moment) -> Grant {
        let Fetched { secret, lifetime, carry, carry_lifetime } = &self.fetched;
        Grant {
            value: secret.clone(),
            left: self.left(now),
            life: *lifetime,
            age: Some(now.since(self.asked_at)),
            carry: carry.clone(),
            carry_lifetime: carry_lifetime.map(|lifetime| lifetime.saturating_sub(now.since(self.received_at))),
        }
    }

    fn commit(&self, core: &Core) -> Result<(), StoreError> {
        let (now, generation) = (Moment::now(), self.lease.generation);
        match core.settings.store.commit(&core.settings.name, &self.lease, &self.grant(now))? {
            Committed::Written { doubted } => {
                core.emit(Event::Committed { generation, late: doubted });
                if !core.slot.holds(generation) {
                    core.adopt(self.stored(now, doubted), now);
                } else if doubted {
                    core.slot.doubt(generation);
                }
            }
            Committed::Superseded(stored) => core.adopt(stored, now),
            Committed::Invalid => drop(core.slot.reject(generation)),
        }
        Ok(())
    }
}

/// Puts the fetched token where the fleet finds it. If the store does not take it, the process goes on with it alone and keeps
/// it for [`commit_kept`].
pub fn commit(core: &Core, lease: &Lease, Brought { fetched, asked_at }: Brought) {
    let (received_at, generation, lifetime) = (Moment::now(), lease.generation, fetched.lifetime);
    let took = received_at.since(asked_at);
    let Usable { left: usable, slow } = decide::usable(&core.settings.policy.window, lifetime, took);
    core.emit(Event::Fetched { generation, took, lifetime });
    if slow {
        core.emit(Event::Slow { generation, took, lifetime });
    }
    let fetched = Uncommitted { lease: lease.clone(), fetched, asked_at, received_at, usable };
    if let Err(error) = fetched.commit(core) {
        let (now, mends) = (Moment::now(), decide::mends(error.kind()));
        let stored = fetched.stored(now, false);
        core.store_failed("commit", error);
        if mends {
            core.keep_uncommitted(fetched);
        }
        core.adopt(stored, now);
    }
}

/// Commits what an earlier commit could not, if there is anything and it is still of use.
///
/// # Errors
/// When the store does not take it now either; it is kept on.
pub fn commit_kept(core: &Core) -> Result<(), StoreError> {
    let Some(kept) = core.take_uncommitted() else { return Ok(()) };
    let out_of_time = kept.left(Moment::now()).is_zero() && kept.fetched.carry.is_none();
    if out_of_time || !core.slot.wants(kept.lease.generation) {
        return Ok(());
    }
    kept.commit(core).inspect_err(|error| {
        log::debug!(target: "token_manager", "{}: not committed yet: {error}", core.settings.name);
        core.keep_uncommitted(kept);
    })
}

/// Repeats a commit that failed until the lease, which nobody renews any more, must have ended.
pub fn repeat_commit(core: &Core) {
    let until = clock::deadline(core.settings.policy.renewed_lease());
    let mut round = 0;
    while core.has_uncommitted() && !clock::left(until).is_zero() {
        let pause = decide::backoff(round, POLL.1, core.fraction(u64::from(round)));
        thread::sleep(pause.min(clock::left(until)));
        // Who stays away from a full pool loses its place in the queue.
        round += u32::from(commit_kept(core).is_err_and(|error| error.kind() != StoreErrorKind::Exhausted));
    }
}

/// Tells the fleet of the failure; the error says how long this process pauses.
pub fn give_up(core: &Core, lease: &Lease, error: FetchError, callers_deadline: Option<Instant>) -> Error {
    Counters::count(&core.counters.failures);
    let (class, error) = (error.class, report(core, lease, error, callers_deadline));
    core.emit(Event::Failed { class, retry_after: error.retry_after().unwrap_or_default() });
    error
}

/// Tells the fleet what became of a source: after the flight has ended too, because the issuer may have granted after the
/// doubt that was cast then, or have asked to be left alone.
pub fn report(core: &Core, lease: &Lease, error: FetchError, callers_deadline: Option<Instant>) -> Error {
    let FetchError { class, retry_after, cause } = error;
    let failure = Failure { class, retry_after, egress: &core.settings.egress };
    // The lease keeps others from asking meanwhile.
    let lease_end = clock::deadline(core.settings.policy.renewed_lease());
    let until = callers_deadline.map_or(lease_end, |deadline| deadline.min(lease_end));
    let told = patiently(until, || core.settings.store.record_failure(&core.settings.name, lease, &failure));
    // If it could not be told, the lease ends by itself.
    let told = told.map_err(|error| drop(core.store_failed("record a failure", error)));
    let pause = decide::pause_after(class, retry_after, told);
    log::warn!(target: "token_manager", "{}: {cause}", core.settings.name);
    let error = Error::source(class, Some(pause.length), cause);
    if pause.own {
        core.pause(error.clone(), pause.length);
    }
    error
}

/// Calls the store, and again while all its connections are in use, until then.
pub fn patiently<T>(until: Instant, verb: impl Fn() -> Result<T, StoreError>) -> Result<T, StoreError> {
    loop {
        match verb() {
            Err(error) if error.kind() == StoreErrorKind::Exhausted && !clock::left(until).is_zero() => {
                thread::sleep(POLL.0.min(clock::left(until)));
            }
            answer => return answer,
        }
    }
}
