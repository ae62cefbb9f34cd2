//! The token at hand, read without writing a cache line that another thread uses: each thread keeps its own clone, under
//! a reference count of its own, and compares one number that only an adoption or a rejection changes.

use crate::clock::Moment;
use crate::decide::{self, AtHand};
use crate::policy::FLIGHT_CHECK;
use crate::sync::{AtomicU64, Ordering, RwLock, thread_local};
use crate::token::{Secret, Token};
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{self, AtomicUsize};

/// In how many places a thread keeps tokens; managers that share a place take turns in it.
const PLACES: usize = 64;

thread_local! {
    static OWN: RefCell<Vec<Option<Own>>> = const { RefCell::new(Vec::new()) };
}

/// A thread's clone of a token, and the version of the slot it was taken from.
struct Own {
    version: u64,
    /// The token's, here so that a hit need not wait for the token's own cache line.
    refresh_at: Moment,
    token: Token,
}

/// What a hit reads: one cache line, written only when the token changes or a flight starts or ends. Not padded to two,
/// as for a line that is written often: what lies beside it is its own reference count, at rest while managers are.
#[repr(align(64))]
pub struct Face {
    /// Changes with the token, and is never the same in two slots; 0 while there is no token.
    version: AtomicU64,
    /// When the next refresh may start, in nanoseconds of the monotonic clock.
    not_before: AtomicU64,
    place: usize,
}

impl Face {
    pub fn new() -> Arc<Face> {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let place = MADE.fetch_add(1, Ordering::Relaxed) % PLACES;
        Arc::new(Face { version: AtomicU64::new(0), not_before: AtomicU64::new(0), place })
    }

    /// Returns the calling thread's clone of the token if it is to be served as it is: the whole of a hit.
    #[inline]
    pub fn hit(&self) -> Option<Token> {
        // Before all else, so that nothing has to be saved across the calls to the clock.
        let now = Moment::now();
        OWN.try_with(|own| {
            let own = own.borrow();
            let own = own.get(self.place)?.as_ref()?;
            if own.version != self.version.load(Ordering::Acquire) {
                return None;
            }
            if !now.reached(own.refresh_at) {
                return Some(own.token.clone());
            }
            match self.at_hand(now, &own.token) {
                AtHand::Fresh => Some(own.token.clone()),
                AtHand::Due | AtHand::Gone => None,
            }
        })
        .ok()
        .flatten()
    }

    #[inline]
    fn at_hand(&self, now: Moment, token: &Token) -> AtHand {
        decide::at_hand(now, token.refresh_at(), token.expires_at(), self.not_before.load(Ordering::Relaxed))
    }

    /// Returns the calling thread's clone if it is of the token still.
    fn own(&self) -> Option<Token> {
        let own = OWN.try_with(|own| {
            let own = own.borrow();
            let own = own.get(self.place)?.as_ref()?;
            (own.version == self.version.load(Ordering::Acquire)).then(|| own.token.clone())
        });
        own.ok().flatten()
    }

    /// Keeps a clone for the calling thread's next hits.
    fn keep(&self, version: u64, token: &Token) {
        // A thread that is ending has no place any more, and needs none.
        let _ = OWN.try_with(|own| {
            let mut own = own.borrow_mut();
            if own.len() <= self.place {
                own.resize_with(self.place + 1, || None);
            }
            own[self.place] = Some(Own { version, refresh_at: token.refresh_at(), token: token.unshared() });
        });
    }
}

/// The process's token and what it knows of generations.
pub struct Slot {
    face: Arc<Face>,
    held: RwLock<Held>,
}

#[derive(Clone, Default)]
struct Held {
    token: Option<Token>,
    /// The highest generation that this process has had.
    seen: u64,
    /// The highest generation that this process has rejected.
    invalidated: u64,
}

impl Slot {
    /// Makes an empty slot behind a new face.
    pub fn new(face: Arc<Face>) -> Slot {
        Slot { face, held: RwLock::default() }
    }

    /// Makes the slot of a forked child, behind the same face: it goes on with what its parent had. It never waits for the
    /// parent's lock, which a thread that the child does not have may hold; then the calling thread's clone has to do.
    pub fn forked(&self) -> Slot {
        let inherited = self.held.try_read().map(|held| held.clone()).unwrap_or_else(|| {
            let token = self.face.own();
            Held { seen: token.as_ref().map_or(0, Token::generation), token, invalidated: 0 }
        });
        let slot = Slot::new(self.face.clone());
        let mut held = slot.held.write();
        *held = inherited;
        slot.publish(&held);
        // Whatever the parent was about to do, the child has no flight.
        self.face.not_before.store(0, Ordering::Relaxed);
        drop(held);
        slot
    }

    /// Returns the token that may be served now, and whether it is due.
    pub fn look(&self) -> Option<(Token, AtHand)> {
        let held = self.held.read();
        let token = held.token.as_ref()?;
        let at_hand = self.face.at_hand(Moment::now(), token);
        if at_hand == AtHand::Gone {
            return None;
        }
        // Under the lock the version and the token belong together.
        self.face.keep(self.face.version.load(Ordering::Acquire), token);
        Some((token.clone(), at_hand))
    }

    /// Takes a token into use unless it is invalid or older than one this process has had; returns whether it did.
    pub fn adopt(&self, token: Token) -> bool {
        let mut held = self.held.write();
        if token.generation() <= held.invalidated || token.generation() < held.seen {
            return false;
        }
        // The store's clock may have been set back since the token was taken first: its end does not move.
        let token = match &held.token {
            Some(last) if last.generation() == token.generation() => token.ending_no_later_than(last),
            _ => token,
        };
        held.seen = token.generation();
        held.token = Some(token);
        self.publish(&held);
        true
    }

    /// Rejects every generation up to this one; false if it was rejected before.
    pub fn reject(&self, generation: u64) -> bool {
        let mut held = self.held.write();
        if generation <= held.invalidated {
            return false;
        }
        held.invalidated = generation;
        held.token.take_if(|token| token.generation() <= generation);
        self.publish(&held);
        true
    }

    /// Makes the token due at once if its generation is doubted.
    pub fn doubt(&self, generation: u64) {
        let mut held = self.held.write();
        let Some(token) = held.token.as_mut().filter(|token| token.generation() <= generation) else { return };
        *token = token.due_from(Moment::now());
        self.publish(&held);
    }

    /// Returns which generations are no answer to the next claim.
    pub fn newer_than(&self) -> u64 {
        let held = self.held.read();
        let now = Moment::now();
        let last = held.token.as_ref().filter(|token| decide::wants_a_newer_one(now, token.expires_at()));
        decide::newer_than(last.map(Token::generation), held.seen, held.invalidated)
    }

    /// Returns whether this is the secret of the token at hand, which has an earlier generation.
    pub fn has_had(&self, secret: &Secret, generation: u64) -> bool {
        let held = self.held.read();
        held.token.as_ref().is_some_and(|token| token.generation() < generation && token.secret() == secret.reveal())
    }

    /// Returns a number that changes with the token and what is known of it.
    pub fn state(&self) -> u64 {
        self.face.version.load(Ordering::Acquire)
    }

    /// Returns whether this is the generation at hand.
    pub fn holds(&self, generation: u64) -> bool {
        self.held.read().token.as_ref().is_some_and(|token| token.generation() == generation)
    }

    /// Returns whether a token of this generation would be taken into use.
    pub fn wants(&self, generation: u64) -> bool {
        let held = self.held.read();
        generation > held.invalidated && generation >= held.seen
    }

    /// Returns the highest generation that this process has had.
    pub fn seen(&self) -> u64 {
        self.held.read().seen
    }

    /// Lets no refresh start before then; `None` while a flight is running, which is to be looked at again now and then.
    pub fn postpone(&self, until: Option<Moment>) {
        let until = until.unwrap_or_else(|| Moment::now().after(FLIGHT_CHECK));
        self.face.not_before.store(until.mono, Ordering::Relaxed);
    }

    /// Postpones the next look if a flight is still running; one that lands meanwhile has the last word. Returns whether
    /// it is.
    pub fn postpone_while(&self, running: impl FnOnce() -> bool) -> bool {
        let last = self.face.not_before.load(Ordering::Relaxed);
        let runs = running();
        if runs {
            let next = Moment::now().after(FLIGHT_CHECK).mono;
            let _ = self.face.not_before.compare_exchange(last, next, Ordering::Relaxed, Ordering::Relaxed);
        }
        runs
    }

    /// Gives the present state a version of its own; the caller holds the write lock.
    fn publish(&self, held: &Held) {
        static VERSIONS: atomic::AtomicU64 = atomic::AtomicU64::new(1);
        let version = if held.token.is_some() { VERSIONS.fetch_add(1, Ordering::Relaxed) } else { 0 };
        self.face.version.store(version, Ordering::Release);
    }
}
