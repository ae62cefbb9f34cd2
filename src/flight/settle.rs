//! How a fetch ends for the fleet: its token is committed, and kept until it is; or its failure is recorded, and paused for.

use crate::clock::{self, Moment};
use crate::decide::{self, Usable};
use crate::error::Error;
use crate::event::Event;
use crate::policy::POLL;
use crate::settings::Settings;
use crate::source::{FetchError, Fetched};
use crate::state::{State, retry_while_exhausted};
use crate::stats::Count;
use crate::store::{Committed, Failure, Lease, StoreError, StoreErrorKind};
use crate::uncommitted::Uncommitted;
use std::thread;
use std::time::Instant;

/// What a source got, and the moment before it asked.
pub struct TimedFetch {
    pub fetched: Fetched,
    pub asked_at: Moment,
}

/// Puts the fetched token where the fleet finds it. If the store does not take it, the process goes on with it alone and keeps
/// it for [`commit_kept`].
pub fn commit(state: &State, lease: &Lease, TimedFetch { fetched, asked_at }: TimedFetch) {
    let (received_at, generation, lifetime) = (Moment::now(), lease.generation, fetched.lifetime);
    let took = received_at.since(asked_at);
    let Usable { left: usable, slow } = decide::usable(&state.settings.policy.window, lifetime, took);
    state.fetched_in(took);
    state.settings.emit(Event::Fetched { generation, took, lifetime });
    if slow {
        state.settings.emit(Event::Slow { generation, took, lifetime });
    }
    let mut result = Uncommitted { lease: lease.clone(), fetched, asked_at, received_at, usable, entry: None };
    let (journal, name, store) = (&state.settings.journal, &state.settings.name, &state.settings.store);
    if let Some(journal) = journal {
        let file = format!("{generation}-{}-{}", lease.owner, lease.attempt);
        match journal.write(&file, &result.encode(&store.place(), name)) {
            Ok(entry) => result.entry = Some(entry),
            Err(error) => log::error!(target: "token_manager", "{name}: not in the journal, on to the commit: {error}"),
        }
    }
    match try_commit(state, &result) {
        Ok(()) => result.settled(),
        Err(error) => {
            let (now, is_retriable) = (Moment::now(), decide::is_retriable(error.kind()));
            let stored = result.stored(now, false);
            state.store_failed("commit", error);
            if is_retriable {
                state.uncommitted.put(result);
            }
            state.adopt(stored, now);
        }
    }
}

/// Commits what an earlier commit could not, if there is anything and it is still of use.
///
/// # Errors
/// When the store does not take it now either; it is kept on.
pub fn commit_kept(state: &State) -> Result<(), StoreError> {
    for kept in state.uncommitted.take().into_iter().chain(orphans(&state.settings)) {
        commit_late(state, kept)?;
    }
    Ok(())
}

/// Takes up what dead processes of this host have left in the journal.
fn orphans(settings: &Settings) -> Vec<Uncommitted> {
    let Some(journal) = &settings.journal else { return Vec::new() };
    let place = settings.store.place();
    let read = |bytes: &[u8]| Uncommitted::decode(bytes, &place, &settings.name);
    let left = journal.orphans(|bytes| read(bytes).is_some()).into_iter();
    left.filter_map(|(entry, bytes)| Some(Uncommitted { entry: Some(entry), ..read(&bytes)? })).collect()
}

fn commit_late(state: &State, kept: Uncommitted) -> Result<(), StoreError> {
    let is_accepted = state.slot.accepts(kept.generation());
    if kept.is_outdated(Moment::now()) || (!is_accepted && kept.fetched.carry.is_none()) {
        kept.settled();
        return Ok(());
    }
    let (store, name) = (&state.settings.store, &state.settings.name);
    // Where only the secret that it carries is of use, its token must not come back.
    let invalidated = if is_accepted { Ok(()) } else { store.invalidate(name, kept.generation()) };
    match invalidated.and_then(|()| try_commit(state, &kept)) {
        Ok(()) => {
            kept.settled();
            Ok(())
        }
        Err(error) => {
            log::debug!(target: "token_manager", "{name}: not committed yet: {error}");
            state.uncommitted.put(kept);
            Err(error)
        }
    }
}

/// Repeats a commit that failed until the lease, which nobody renews any more, must have ended.
pub fn repeat_commit(state: &State) {
    let until = clock::deadline(state.settings.policy.renewed_lease());
    let mut round = 0;
    while !state.uncommitted.is_empty() && !clock::left(until).is_zero() {
        let pause = decide::backoff(round, POLL.1, state.fraction(u64::from(round)));
        thread::sleep(pause.min(clock::left(until)));
        // Who stays away from a full pool loses its place in the queue.
        round += u32::from(commit_kept(state).is_err_and(|error| error.kind() != StoreErrorKind::Exhausted));
    }
}

fn try_commit(state: &State, result: &Uncommitted) -> Result<(), StoreError> {
    let (now, generation) = (Moment::now(), result.generation());
    match state.settings.store.commit(&state.settings.name, &result.lease, &result.grant(now))? {
        Committed::Written { doubted } => {
            state.settings.emit(Event::Committed { generation, late: doubted });
            if !state.slot.holds(generation) {
                state.adopt(result.stored(now, doubted), now);
            } else if doubted {
                state.count(Count::Doubt);
                state.slot.doubt(generation);
            }
        }
        Committed::Superseded(stored) => state.adopt(stored, now),
        Committed::Invalid => drop(state.slot.invalidate(generation)),
    }
    Ok(())
}

/// Tells the fleet of the failure; the error says how long this process pauses.
pub fn give_up(state: &State, lease: &Lease, error: FetchError, until: Option<Instant>) -> Error {
    state.failed(error.class);
    let (class, error) = (error.class, report_failure(state, lease, error, until));
    state.settings.emit(Event::Failed { class, retry_after: error.retry_after().unwrap_or_default() });
    error
}

/// Tells the fleet what became of a source: after the flight has ended too, because the issuer may have granted after the
/// doubt that was cast then, or have asked to be left alone. Tries until the lease has ended, or until `until`.
pub fn report_failure(state: &State, lease: &Lease, error: FetchError, until: Option<Instant>) -> Error {
    let FetchError { class, retry_after, cause } = error;
    let failure = Failure { class, retry_after, egress: &state.settings.egress };
    // The lease keeps others from asking meanwhile.
    let lease_end = clock::deadline(state.settings.policy.renewed_lease());
    let until = until.map_or(lease_end, |until| until.min(lease_end));
    let told =
        retry_while_exhausted(until, || state.settings.store.record_failure(&state.settings.name, lease, &failure));
    // If it could not be told, the lease ends by itself.
    let told = told.map_err(|error| drop(state.store_failed("record a failure", error)));
    let pause = decide::pause_after(class, retry_after, told);
    log::warn!(target: "token_manager", "{}: {cause}", state.settings.name);
    let error = Error::source(class, Some(pause.length), cause);
    if pause.own {
        state.failures.pause(error.clone(), pause.length);
    }
    error
}
