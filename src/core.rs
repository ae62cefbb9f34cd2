//! One process's side of one token: what its flights, its source and its callers share.

use crate::clock::{self, Moment};
use crate::decide;
use crate::error::{Error, ErrorKind};
use crate::event::{Event, Observer};
use crate::flight::SingleFlight;
use crate::fork::PerProcess;
use crate::locks::Mutex;
use crate::policy::{self, MOST_ABANDONED, Policy};
use crate::slot::Slot;
use crate::source::TokenSource;
use crate::store::{Lease, Store, StoreError, Stored, TokenName};
use crate::threads::Running;
use crate::token::Token;
use std::cell::RefCell;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
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
    side: u64,
    /// The number of the token's name, the same for all managers of that name.
    name: u64,
    seed: u64,
    attempts: AtomicU64,
    abandoned: AtomicUsize,
    failure: Mutex<Option<Failure>>,
}

/// A failure that callers are told of without another flight.
struct Failure {
    error: Error,
    remembered_until: Instant,
    /// When its pause is over, if it has one.
    retry_at: Option<Instant>,
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
        waits(); // Made here, so that no fork meets it half made.
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
            attempts: AtomicU64::new(0),
            abandoned: AtomicUsize::new(0),
            failure: Mutex::new(None),
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
        let (refresh_at, expires_at) = decide::times(asked_at, left, life, doubted, self.fraction(generation));
        let token = Token::new(value, self.name, generation, refresh_at, expires_at);
        if self.slot.adopt(token) {
            Counters::count(&self.counters.adopted);
            self.emit(Event::Adopted { generation, doubted });
        }
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

    /// Returns the last failure while it is remembered, and what is left of its pause.
    pub fn failure(&self) -> Option<(Option<Duration>, Error)> {
        let failure = self.failure.lock();
        let failure = failure.as_ref().filter(|failure| !clock::left(failure.remembered_until).is_zero())?;
        Some((failure.retry_at.map(clock::left), failure.error.clone()))
    }

    /// Returns whether too many sources never returned.
    pub fn stuck(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed) >= MOST_ABANDONED
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

thread_local! {
    /// On whose behalf this thread runs code of others, innermost last: the states' numbers.
    static ABOARD: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// Marks the thread as running a flight, so that waiting for that flight on it is an error and not a deadlock.
pub struct Aboard;

impl Aboard {
    pub fn board(core: &Core) -> Aboard {
        // A thread that is ending may have lost its list; then it is taken for one that runs no flight.
        let _ = ABOARD.try_with(|aboard| aboard.borrow_mut().push(core.side));
        Aboard
    }

    pub fn is(core: &Core) -> bool {
        ABOARD.try_with(|aboard| aboard.borrow().contains(&core.side)).unwrap_or(false)
    }
}

impl Drop for Aboard {
    fn drop(&mut self) {
        let _ = ABOARD.try_with(|aboard| aboard.borrow_mut().pop());
    }
}

/// Who waits, and for whom.
type Waits = Vec<(u64, u64)>;

/// The waits of all threads that run a flight themselves. A forked child begins with none.
static WAITS: OnceLock<PerProcess<Mutex<Waits>>> = OnceLock::new();

fn waits() -> &'static Mutex<Waits> {
    WAITS.get_or_init(Default::default).get(Default::default)
}

/// A wait for a flight, noted until it is over if the thread runs a flight itself.
pub struct Waiting(Waits);

impl Waiting {
    /// Notes that this thread is going to wait for the flight of `core`.
    ///
    /// # Errors
    /// If that flight waits, through however many others, for one that this thread runs: neither would ever end.
    pub fn begin(core: &Core) -> Result<Waiting, Error> {
        let aboard = ABOARD.try_with(|aboard| aboard.borrow().clone()).unwrap_or_default();
        let own: Waits = aboard.iter().map(|side| (*side, core.side)).collect();
        if own.is_empty() {
            return Ok(Waiting(own));
        }
        let mut waits = waits().lock();
        let mut awaited = vec![core.side];
        let mut next = 0;
        while let Some(&side) = awaited.get(next) {
            if aboard.contains(&side) {
                return Err(Error::reentrant());
            }
            let further = waits.iter().filter(|(waiter, _)| *waiter == side).map(|(_, awaited)| *awaited);
            let new: Vec<_> = further.filter(|side| !awaited.contains(side)).collect();
            awaited.extend(new);
            next += 1;
        }
        waits.extend(&own);
        Ok(Waiting(own))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.0.is_empty() {
            return;
        }
        let mut waits = waits().lock();
        for wait in &self.0 {
            // Not there in a child that was forked meanwhile.
            if let Some(at) = waits.iter().position(|noted| noted == wait) {
                waits.swap_remove(at);
            }
        }
    }
}
