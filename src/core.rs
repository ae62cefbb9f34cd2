//! One process's side of one token: what its flights, its source and its callers share.

use crate::clock::{self, Moment};
use crate::decide;
use crate::error::{Error, ErrorKind};
use crate::event::{Event, Observer};
use crate::flight::SingleFlight;
use crate::locks::Mutex;
use crate::policy::{self, MAX_ABANDONED, Policy};
use crate::settle::Uncommitted;
use crate::slot::Slot;
use crate::source::TokenSource;
use crate::store::{Lease, Store, StoreError, Stored, TokenName};
use crate::threads::Running;
use crate::token::Token;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What a manager was built with; a forked child takes it over.
pub struct Settings {
    pub name: TokenName,
    pub egress: String,
    pub policy: Policy,
    pub store: Box<dyn Store>,
    pub source: Box<dyn TokenSource>,
    pub observer: Option<Observer>,
}

/// How a flight ended: look at the slot again, or an error for everyone who waits.
pub type Outcome = Result<(), Error>;

/// The state of one process; a forked child makes its own.
pub struct Core {
    pub settings: Arc<Settings>,
    pub owner: Arc<str>,
    pub slot: Slot,
    pub flights: Arc<SingleFlight<Outcome>>,
    pub running: Arc<Running>,
    pub counters: Counters,
    /// The number of this state, unlike that of any other in this process.
    pub side: u64,
    /// The number of the token's name, the same for all managers of that name.
    name: u64,
    seed: u64,
    /// The whole life of the token at hand, in nanoseconds.
    life: AtomicU64,
    attempts: AtomicU64,
    abandoned: AtomicUsize,
    failure: Mutex<Option<Failure>>,
    /// The pause that this process keeps by itself, whatever the fleet does.
    own_pause: Mutex<Option<Failure>>,
    uncommitted: Mutex<Option<Uncommitted>>,
}

/// A failure that callers are told of without another flight.
struct Failure {
    error: Error,
    remembered_until: Instant,
    /// When its pause is over, if it has one.
    retry_at: Option<Instant>,
}

impl Failure {
    /// Returns the error with what is left of its pause, as long as it is remembered.
    fn told(&self) -> Option<Error> {
        let retry_after = self.retry_at.map(clock::left);
        (!clock::left(self.remembered_until).is_zero()).then(|| self.error.with_retry_after(retry_after))
    }
}

#[derive(Default)]
pub struct Counters {
    pub flights: AtomicU64,
    pub fetches: AtomicU64,
    pub failures: AtomicU64,
    pub adopted: AtomicU64,
    pub waits: AtomicU64,
    pub timeouts: AtomicU64,
}

impl Counters {
    pub fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl Core {
    pub fn new(settings: Arc<Settings>, slot: Slot) -> Arc<Core> {
        static SIDES: AtomicU64 = AtomicU64::new(0);
        let mut name = DefaultHasher::new();
        settings.name.hash(&mut name);
        let mut random = [0; 16];
        if getrandom::fill(&mut random).is_err() {
            // Without the system's randomness, time and pid still keep two processes apart.
            random[..8].copy_from_slice(&clock::steady_micros().to_le_bytes());
            random[8..12].copy_from_slice(&std::process::id().to_le_bytes());
        }
        let lost = Error::new(ErrorKind::Store, "the flight ended without an outcome");
        Arc::new(Core {
            settings,
            owner: uuid::Builder::from_random_bytes(random).into_uuid().to_string().into(),
            slot,
            flights: SingleFlight::new(Err(lost)),
            running: Arc::default(),
            counters: Counters::default(),
            side: SIDES.fetch_add(1, Ordering::Relaxed),
            name: name.finish(),
            seed: u64::from_le_bytes(random[8..].try_into().expect("eight bytes")),
            life: AtomicU64::new(0),
            attempts: AtomicU64::new(0),
            abandoned: AtomicUsize::new(0),
            failure: Mutex::new(None),
            own_pause: Mutex::new(None),
            uncommitted: Mutex::new(None),
        })
    }

    /// Logs an event and tells the observer, whose panic is its own affair.
    pub fn emit(&self, event: Event) {
        log::log!(target: "token_manager", event.level(), "{}: {event}", self.settings.name);
        if let Some(observer) = &self.settings.observer {
            let _ = catch_unwind(AssertUnwindSafe(|| observer(&event)));
        }
    }

    pub fn store_failed(&self, doing: &'static str, error: StoreError) -> Error {
        self.emit(Event::StoreFailed { doing });
        log::warn!(target: "token_manager", "{}: {error}", self.settings.name);
        Error::store(error)
    }

    /// Returns the number of a new flight of this process.
    pub fn next_attempt(&self) -> u64 {
        self.attempts.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Returns a number from 0 to 1 that is the same each time for the same `of`, and another in another process.
    pub fn fraction(&self, of: u64) -> f64 {
        policy::fraction(self.seed ^ of)
    }

    /// Takes a token into use, of which so much was left at `asked_at`, unless this process has had or rejected a newer one.
    pub fn adopt(&self, stored: Stored, asked_at: Moment) {
        let Stored { generation, value, left, life, doubted } = stored;
        let (window, fraction) = (&self.settings.policy.window, self.fraction(generation));
        let (mut refresh_at, expires_at) = decide::times(window, asked_at, left, life, doubted, fraction);
        if !doubted && self.slot.has_had(&value, generation) {
            refresh_at = decide::refresh_of_same(asked_at, refresh_at, expires_at);
            let name = &self.settings.name;
            log::debug!(target: "token_manager", "{name}: generation {generation} has the secret of the last one");
        }
        let token = Token::new(value, self.name, generation, refresh_at, expires_at);
        if self.slot.adopt(token) {
            self.life.store(u64::try_from(life.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
            Counters::count(&self.counters.adopted);
            self.emit(Event::Adopted { generation, doubted });
        }
    }

    /// Returns a token at hand as a store holds it.
    pub fn as_stored(&self, token: &Token) -> Stored {
        let life = Duration::from_nanos(self.life.load(Ordering::Relaxed));
        let (generation, value, left) = (token.generation(), token.share_secret(), token.expires_in());
        Stored { generation, value, left, life, doubted: false }
    }

    /// Returns whether a flight is in the air already; if so, hits are let off looking for a while.
    pub fn refreshing(&self) -> bool {
        self.slot.postpone_while(|| self.flights.flying())
    }

    /// Returns whether the token is of this manager's name: generations of two names cannot be compared.
    pub fn knows(&self, token: &Token) -> bool {
        token.name() == self.name
    }

    /// Remembers what a flight's outcome means for the callers to come.
    pub fn note(&self, outcome: &Outcome) {
        let now = Moment::now();
        let (pause, failure) = match outcome {
            Ok(()) => (Duration::ZERO, None),
            Err(error) => {
                let pause = error.retry_after();
                let remembered_until = clock::deadline(decide::remembered(pause));
                let failure = Failure { error: error.clone(), remembered_until, retry_at: pause.map(clock::deadline) };
                (decide::refresh_pause(pause), Some(failure))
            }
        };
        self.slot.postpone(Some(now.after(pause)));
        *self.failure.lock() = failure;
    }

    /// Returns the last failure while it is remembered, with what is left of its pause.
    pub fn failure(&self) -> Option<Error> {
        self.failure.lock().as_ref().and_then(Failure::told)
    }

    /// Lets no flight of this process fetch for so long, for this reason.
    pub fn pause(&self, error: Error, length: Duration) {
        let until = clock::deadline(length);
        let mut pause = self.own_pause.lock();
        if pause.as_ref().is_none_or(|pause| pause.remembered_until < until) {
            *pause = Some(Failure { error, remembered_until: until, retry_at: Some(until) });
        }
    }

    /// Returns why no flight of this process may fetch now, with what is left of the pause.
    pub fn own_pause(&self) -> Option<Error> {
        self.own_pause.lock().as_ref().and_then(Failure::told)
    }

    /// Forgets every failure and pause of this process.
    pub fn forgive(&self) {
        *self.own_pause.lock() = None;
        *self.failure.lock() = None;
        self.slot.postpone(Some(Moment::now()));
    }

    /// Keeps what could not be committed, unless something newer is kept already.
    pub fn keep_uncommitted(&self, fetched: Uncommitted) {
        let mut kept = self.uncommitted.lock();
        if kept.as_ref().is_none_or(|kept| kept.generation() <= fetched.generation()) {
            *kept = Some(fetched);
        }
    }

    pub fn take_uncommitted(&self) -> Option<Uncommitted> {
        self.uncommitted.lock().take()
    }

    pub fn has_uncommitted(&self) -> bool {
        self.uncommitted.lock().is_some()
    }

    /// Returns whether too many sources never returned.
    pub fn stuck(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed) >= MAX_ABANDONED
    }

    pub fn abandon(&self, lease: &Lease) {
        self.abandoned.fetch_add(1, Ordering::Relaxed);
        self.emit(Event::Abandoned { generation: lease.generation });
    }

    pub fn returned(&self) {
        self.abandoned.fetch_sub(1, Ordering::Relaxed);
    }

    pub fn abandoned(&self) -> usize {
        self.abandoned.load(Ordering::Relaxed)
    }
}
