//! One process's side of one token: what its flights, its source and its callers share. A forked child makes its own.

use crate::clock::{self, Moment};
use crate::decide;
use crate::error::{Error, ErrorKind, FailureClass};
use crate::event::Event;
#[cfg(feature = "metrics")]
use crate::facade;
use crate::failures::Failures;
use crate::flight::single::SingleFlight;
use crate::identity::identity;
use crate::policy::{self, MAX_ABANDONED, MAX_LIFE, POLL, STORE_PAUSE};
use crate::settings::Settings;
use crate::slot::Slot;
use crate::stats::{Count, Counters};
use crate::store::{Lease, StoreError, StoreErrorKind, Stored};
use crate::threads::Running;
use crate::token::Token;
use crate::uncommitted::Kept;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

/// How a flight ended: look at the slot again, or an error for everyone who waits.
pub type Outcome = Result<(), Error>;

pub struct State {
    pub settings: Settings,
    pub slot: Slot,
    pub flights: Arc<SingleFlight<Outcome>>,
    pub threads: Arc<Running>,
    pub failures: Failures,
    pub uncommitted: Kept,
    /// The number of this state, unlike that of any other in this process.
    pub id: u64,
    abandoned: AtomicUsize,
}

impl State {
    pub fn new(settings: Settings, slot: Slot) -> Arc<State> {
        static IDS: AtomicU64 = AtomicU64::new(0);
        // One for all, which have it at hand for as long as they live.
        static LOST: OnceLock<Error> = OnceLock::new();
        let lost = LOST.get_or_init(|| Error::new(ErrorKind::Store, "the flight ended without an outcome"));
        Arc::new(State {
            slot,
            flights: SingleFlight::new(Err(lost.clone())),
            threads: settings.workers().map(|workers| workers.threads().clone()).unwrap_or_default(),
            failures: Failures::default(),
            uncommitted: Kept::default(),
            id: IDS.fetch_add(1, Ordering::Relaxed),
            abandoned: AtomicUsize::new(0),
            settings,
        })
    }

    /// Returns a number from 0 to 1 that is the same each time for the same `of`, and another one in another process or manager.
    pub fn fraction(&self, of: u64) -> f64 {
        policy::fraction(identity().seed() ^ self.id.rotate_right(8) ^ of)
    }

    /// Returns whether the token is of this manager's name: generations of two names cannot be compared.
    pub fn is_of_name(&self, token: &Token) -> bool {
        token.name() == self.settings.name_hash()
    }

    /// Returns whether no flight or abandoned source is at work, and the store has all that was fetched.
    pub fn is_idle(&self) -> bool {
        !self.flights.is_running() && self.abandoned() == 0 && self.uncommitted.is_empty()
    }

    /// Takes a token into use, of which so much was left at `asked_at`, unless the slot has had or refuses it.
    pub fn adopt(&self, stored: Stored, asked_at: Moment) {
        let Stored { generation, value, left, life, doubted } = stored;
        // Whatever a store says.
        let (left, life) = (left.min(MAX_LIFE), life.min(MAX_LIFE));
        let window = &self.settings.policy.window;
        let fraction = decide::refresh_fraction(policy::fraction(generation), self.fraction(generation));
        let (mut refresh_at, expires_at) = decide::times(window, asked_at, left, life, doubted, fraction);
        if !doubted && self.slot.holds_secret(&value, generation) {
            refresh_at = decide::refresh_of_same(asked_at, refresh_at, expires_at);
            let name = &self.settings.name;
            log::debug!(target: "token_manager", "{name}: generation {generation} has the secret of the last one");
        }
        let token = Token::new(value, self.settings.name_hash(), generation, refresh_at, expires_at);
        if self.slot.adopt(token) {
            self.slot.note_life(life);
            self.count(Count::Adopted);
            if doubted {
                self.count(Count::Doubt);
            }
            self.settings.emit(Event::Adopted { generation, doubted });
        }
    }

    /// Returns the slot's token as a store holds it.
    pub fn as_stored(&self, token: &Token) -> Stored {
        let (generation, value, left) = (token.generation(), token.share_secret(), token.expires_in());
        Stored { generation, value, left, life: self.slot.life(), doubted: false }
    }

    /// Notes what a flight's outcome means for the callers and refreshes to come; `seen` is what the slot had seen before it.
    pub fn note_outcome(&self, outcome: &Outcome, seen: u64) {
        let pause = match outcome {
            Err(error) => decide::refresh_pause(error.retry_after()),
            // It brought nothing: a due token is served on for a while before the next flight starts.
            Ok(()) if self.slot.seen() == seen => STORE_PAUSE,
            Ok(()) => Duration::ZERO,
        };
        self.slot.postpone_refresh(Moment::now().after(pause));
        self.failures.note(outcome);
    }

    /// Returns where it is counted what is done for the token.
    pub fn counters(&self) -> &Counters {
        self.settings.counters()
    }

    pub fn count(&self, what: Count) {
        self.counters().count(what);
        #[cfg(feature = "metrics")]
        facade::count(self.settings.counted_as(), what);
    }

    /// Counts a failed call of the source.
    pub fn failed(&self, class: FailureClass) {
        self.counters().failed(class);
        #[cfg(feature = "metrics")]
        facade::failed(self.settings.counted_as(), class);
    }

    /// Counts how long a caller had to wait.
    pub fn waited(&self, span: Duration) {
        self.counters().waited(span);
        #[cfg(feature = "metrics")]
        facade::waited(self.settings.counted_as(), span);
    }

    /// Counts how long a call of the source took that brought a token.
    pub fn fetched_in(&self, span: Duration) {
        self.counters().fetched_in(span);
        #[cfg(feature = "metrics")]
        facade::fetched_in(self.settings.counted_as(), span);
    }

    /// Forgets every failure and pause of this process.
    pub fn clear_failures(&self) {
        self.failures.clear();
        self.slot.postpone_refresh(Moment::now());
    }

    /// Tells the log and the observer that the store failed.
    pub fn store_failed(&self, doing: &'static str, error: StoreError) -> Error {
        let kind = error.kind();
        self.counters().store_failed(kind);
        #[cfg(feature = "metrics")]
        facade::store_failed(self.settings.counted_as(), kind);
        self.settings.emit(Event::StoreFailed { doing, kind });
        log::warn!(target: "token_manager", "{}: {error}", self.settings.name);
        Error::store(error)
    }

    /// Counts a source that overran its limit and still runs.
    pub fn abandon(&self, lease: &Lease) {
        self.abandoned.fetch_add(1, Ordering::Relaxed);
        self.settings.emit(Event::Abandoned { generation: lease.generation });
    }

    /// Counts an abandoned source that has returned.
    pub fn abandoned_returned(&self) {
        self.abandoned.fetch_sub(1, Ordering::Relaxed);
    }

    /// Returns how many abandoned sources still run.
    pub fn abandoned(&self) -> usize {
        self.abandoned.load(Ordering::Relaxed)
    }

    /// Returns whether so many abandoned sources still run that no further one is started.
    pub fn has_too_many_abandoned(&self) -> bool {
        self.abandoned() >= MAX_ABANDONED
    }
}

/// Calls the store, and again while all its connections are in use, until then.
pub fn retry_while_exhausted<T>(until: Instant, verb: impl Fn() -> Result<T, StoreError>) -> Result<T, StoreError> {
    loop {
        match verb() {
            Err(error) if error.kind() == StoreErrorKind::Exhausted && !clock::left(until).is_zero() => {
                thread::sleep(POLL.0.min(clock::left(until)));
            }
            answer => return answer,
        }
    }
}
