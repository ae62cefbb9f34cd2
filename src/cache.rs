//! The hot path of `get`: each thread keeps a clone of the token, under a reference count of its own, and compares one number
//! that only a new token or an invalidation changes. Nothing here takes a lock or writes a cache line that another thread uses.

use crate::clock::Moment;
use crate::decide::{self, Serve};
use crate::sync::{AtomicU64, Ordering, thread_local};
use crate::token::Token;
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{self, AtomicUsize};
use std::time::Duration;

/// How many tokens a thread keeps at most. Its table grows with the managers that it asks.
const CACHE_SIZE: usize = 4096;
/// How far apart the places are in which a manager's token may lie, of which there are four.
const STRIDE: usize = CACHE_SIZE / 4;

thread_local! {
    static CACHE: RefCell<Vec<Option<CachedToken>>> = const { RefCell::new(Vec::new()) };
}

/// A thread's clone of a token, and the version of the slot it was taken from.
pub struct CachedToken {
    version: u64,
    /// The token's, here so that a hit need not wait for the token's own cache line.
    refresh_at: Moment,
    token: Token,
}

impl CachedToken {
    /// Wraps a token of the slot's version at this time.
    pub fn new(version: u64, token: Token) -> CachedToken {
        CachedToken { version, refresh_at: token.refresh_at(), token }
    }
}

/// What a hit reads: one cache line, written only when the token changes or a flight starts or ends. Not padded to two,
/// as for a line that is written often: what lies beside it is its own reference count, at rest while managers are.
#[repr(align(64))]
pub struct SlotHeader {
    /// Changes with the token, and is never the same in two slots; 0 while there is no token.
    version: AtomicU64,
    /// When the next refresh may start, in nanoseconds of the monotonic clock.
    not_before: AtomicU64,
    /// Its first place in the threads' tables.
    place: usize,
    /// The whole life of the token, in nanoseconds: no hit reads it, but the line has room for it.
    life: AtomicU64,
}

type Table = Vec<Option<CachedToken>>;

impl SlotHeader {
    pub fn new() -> Arc<SlotHeader> {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let place = MADE.fetch_add(1, Ordering::Relaxed) % CACHE_SIZE;
        let [version, not_before, life] = [0; 3].map(AtomicU64::new);
        Arc::new(SlotHeader { version, not_before, place, life })
    }

    /// Returns the calling thread's clone of the token if it is to be served as it is: the whole of a hit.
    #[inline]
    pub fn get_cached(&self) -> Option<Token> {
        // Before all else, so that nothing has to be saved across the calls to the clock.
        let now = Moment::now();
        CACHE
            .try_with(|cache| {
                let cache = cache.borrow();
                self.get_shared(now, cache.get(self.place)?.as_ref()?)
            })
            .ok()
            .flatten()
    }

    /// As [`get_cached`](SlotHeader::get_cached), where the first place is another's: apart, so that a hit in the first is short.
    pub fn get_displaced(&self) -> Option<Token> {
        let now = Moment::now();
        let found = CACHE.try_with(|cache| self.get_shared(now, self.find(&cache.borrow())?));
        found.ok().flatten()
    }

    /// Returns a clone of a cached token if it is of the present version and to be served as it is.
    #[inline]
    pub fn get_shared(&self, now: Moment, cached: &CachedToken) -> Option<Token> {
        if cached.version != self.version.load(Ordering::Acquire) {
            return None;
        }
        if !now.reached(cached.refresh_at) {
            return Some(cached.token.clone());
        }
        match self.serve(now, &cached.token) {
            Serve::Now => Some(cached.token.clone()),
            Serve::NowAndRefresh | Serve::Wait => None,
        }
    }

    /// The places in which this slot's token may lie.
    fn places(&self) -> [usize; 4] {
        [0, 1, 2, 3].map(|way| (self.place + way * STRIDE) % CACHE_SIZE)
    }

    fn find<'a>(&self, table: &'a Table) -> Option<&'a CachedToken> {
        let version = self.version.load(Ordering::Acquire);
        self.places()
            .into_iter()
            .find_map(|place| table.get(place)?.as_ref().filter(|cached| cached.version == version))
    }

    /// Returns the calling thread's clone, due or expired though it may be, if it is of the present token.
    pub fn peek_cached(&self) -> Option<Token> {
        let cached = CACHE.try_with(|cache| {
            let cache = cache.borrow();
            self.find(&cache).map(|cached| cached.token.clone())
        });
        cached.ok().flatten()
    }

    /// Keeps a clone for the calling thread's next hits.
    pub fn put_cached(&self, version: u64, token: &Token) {
        // A thread that is ending has no cache any more, and needs none.
        let _ = CACHE.try_with(|cache| {
            let mut cache = cache.borrow_mut();
            let place = self.place_in(&cache, token);
            if cache.len() <= place {
                cache.resize_with(place + 1, || None);
            }
            cache[place] = Some(CachedToken::new(version, token.unshared()));
        });
    }

    /// Chooses the place for this slot's token: where its last one lies, one that is free, or, of four taken ones, any.
    fn place_in(&self, table: &Table, token: &Token) -> usize {
        let places = self.places();
        let held = |place: usize| table.get(place).and_then(Option::as_ref);
        let own =
            places.into_iter().find(|place| held(*place).is_some_and(|cached| cached.token.name() == token.name()));
        let free = || places.into_iter().find(|place| held(*place).is_none());
        own.or_else(free).unwrap_or(places[token.generation() as usize % places.len()])
    }

    #[inline]
    pub fn serve(&self, now: Moment, token: &Token) -> Serve {
        decide::serve(now, token.refresh_at(), token.expires_at(), self.not_before.load(Ordering::Relaxed))
    }

    /// Returns the present version.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Makes all threads' clones stale; the caller holds the slot's write lock.
    pub fn publish(&self, has_token: bool) {
        static VERSIONS: atomic::AtomicU64 = atomic::AtomicU64::new(1);
        let version = if has_token { VERSIONS.fetch_add(1, Ordering::Relaxed) } else { 0 };
        self.version.store(version, Ordering::Release);
    }

    /// Notes the whole life of the token.
    pub fn note_life(&self, life: Duration) {
        self.life.store(u64::try_from(life.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Returns the whole life of the token.
    pub fn life(&self) -> Duration {
        Duration::from_nanos(self.life.load(Ordering::Relaxed))
    }

    /// Lets no refresh start before then.
    pub fn postpone(&self, until: Moment) {
        self.not_before.store(until.mono, Ordering::Relaxed);
    }

    /// Lets a refresh start at any time.
    pub fn allow_refresh(&self) {
        self.not_before.store(0, Ordering::Relaxed);
    }

    /// Postpones the next refresh to `until` if `running` says that one is under way; a flight that finishes meanwhile has the
    /// last word. Returns what `running` said.
    pub fn postpone_while(&self, until: Moment, running: impl FnOnce() -> bool) -> bool {
        let last = self.not_before.load(Ordering::Relaxed);
        let runs = running();
        if runs {
            let _ = self.not_before.compare_exchange(last, until.mono, Ordering::Relaxed, Ordering::Relaxed);
        }
        runs
    }
}
