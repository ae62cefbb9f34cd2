//! Runs the source, on a thread of its own while the lease is renewed here, and lets go of one that overruns its limit.

use crate::clock::{self, Moment};
use crate::core::{Core, Counters};
use crate::event::Event;
use crate::reentrancy::ReentrancyGuard;
use crate::settle;
use crate::source::{Attempt, FetchError, Fetched};
use crate::store::Lease;
use crate::threads;
use crate::token::Secret;
use crossbeam::channel::{Receiver, RecvTimeoutError, SendError, bounded};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

/// What a source got, and the moment before it asked.
pub struct Brought {
    pub fetched: Fetched,
    pub asked_at: Moment,
}

/// Runs the source once and returns what it brought within the fetch limit; on this thread if it is a caller's, who has
/// until its deadline.
pub fn run(
    core: &Arc<Core>,
    lease: &Lease,
    carry: Option<Secret>,
    callers_deadline: Option<Instant>,
) -> Result<Brought, FetchError> {
    Counters::count(&core.counters.fetches);
    let limit = clock::deadline(core.settings.policy.fetch_limit);
    if let Some(deadline) = callers_deadline {
        return ask(core, lease, carry, limit.min(deadline));
    }
    // Without capacity a message is either taken or given back: what a source brings is never lost between the two.
    let (give, take) = bounded(0);
    let source = {
        let (core, lease, carry) = (core.clone(), lease.clone(), carry.clone());
        move || {
            let brought = ask(&core, &lease, carry, limit);
            if let Err(SendError(late)) = give.send(brought) {
                let _returned = Returned(&core);
                match late {
                    Ok(brought) => settle::commit(&core, &lease, brought),
                    Err(error) => drop(settle::report(&core, &lease, error, None)),
                }
            }
        }
    };
    let policy = &core.settings.policy;
    if threads::spawn("tkm-source", &core.running, source).is_err() {
        // No thread to be had: fetch on this one, under a lease that needs no renewal.
        renew(core, lease, policy.inline_lease());
        return ask(core, lease, carry, limit);
    }
    let every = policy.renewed_lease() / 3;
    let mut awaited = Awaited { core, lease, take, answered: false };
    loop {
        match awaited.take.recv_deadline(limit.min(clock::deadline(every))) {
            Ok(brought) => {
                awaited.answered = true;
                return brought;
            }
            Err(RecvTimeoutError::Timeout) if clock::left(limit).is_zero() => {
                return Err(FetchError::unknown_outcome("the token source overran its limit"));
            }
            Err(RecvTimeoutError::Timeout) => renew(core, lease, policy.renewed_lease()),
            Err(RecvTimeoutError::Disconnected) => {
                awaited.answered = true;
                return Err(FetchError::unknown_outcome("the thread of the token source ended without an answer"));
            }
        }
    }
}

/// A source that runs on its own thread; whoever lets go of it without its answer, by a panic too, abandons it.
struct Awaited<'a> {
    core: &'a Core,
    lease: &'a Lease,
    take: Receiver<Result<Brought, FetchError>>,
    answered: bool,
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.core.abandon(self.lease);
        }
    }
}

/// The duty of an abandoned source's thread to say that it has returned, even by a panic.
struct Returned<'a>(&'a Core);

impl Drop for Returned<'_> {
    fn drop(&mut self) {
        self.0.returned();
    }
}

/// Runs the source on this thread and refuses what cannot be used.
fn ask(core: &Core, lease: &Lease, carry: Option<Secret>, deadline: Instant) -> Result<Brought, FetchError> {
    let _inside = ReentrancyGuard::enter(core);
    let attempt = Attempt { owner: lease.owner.clone(), generation: lease.generation, carry, deadline };
    let asked_at = Moment::now();
    // The panic's message may quote the secret; the program's panic hook has shown it as far as it likes.
    let fetched = catch_unwind(AssertUnwindSafe(|| core.settings.source.fetch(&attempt)))
        .unwrap_or_else(|_| Err(FetchError::unknown_outcome("the token source panicked")))?;
    match fetched.fault() {
        None => Ok(Brought { fetched, asked_at }),
        Some(fault) => Err(FetchError::unknown_outcome(fault)),
    }
}

fn renew(core: &Core, lease: &Lease, length: std::time::Duration) {
    let until = clock::deadline(length / 3);
    match settle::patiently(until, || core.settings.store.renew(&core.settings.name, lease, length)) {
        Ok(true) => {}
        Ok(false) => core.emit(Event::LeaseLost { generation: lease.generation }),
        // The next renewal may succeed in time; if none does, the commit is late and says so.
        Err(error) => drop(core.store_failed("renew the lease", error)),
    }
}
