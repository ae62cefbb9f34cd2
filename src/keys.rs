//! The tokens of many keys in one process: found by key, no more than a greatest number, and forgotten when nobody asks for them.
//! What a hit reads lies in the map itself. No code of others runs under its locks.

use crate::cache::CachedToken;
use crate::clock::Moment;
use crate::locks::RwLock;
use crate::manager::TokenManager;
use crate::token::Token;
use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

/// So many parts of the map have a lock of their own.
const SHARDS: usize = 64;
/// A map that is full gives up this part of its keys at once, so that it need not look for the next one each time.
const EVICTED_AT_ONCE: usize = 64;

pub struct Keys {
    /// How long what stands before each key in a name is.
    prefix: usize,
    hasher: DefaultHashBuilder,
    shards: Box<[RwLock<HashTable<Entry>>]>,
    count: AtomicUsize,
}

struct Entry {
    name: Arc<str>,
    manager: TokenManager,
    /// How many of the manager's handles are the maps' own: one in each process from here up to the first.
    own_handles: u32,
    /// In ticks of the monotonic clock.
    used_at: AtomicU32,
    cached: Option<CachedToken>,
}

/// A tick is 2^28 nanoseconds, a quarter of a second: a key that is asked for all the time is seldom written to, and a number of 32 bits
/// lasts for 36 years.
const TICK: u32 = 28;

/// Returns in which tick a moment is.
fn tick(moment: Moment) -> u32 {
    u32::try_from(moment.mono >> TICK).unwrap_or(u32::MAX)
}

impl Entry {
    /// Notes that it was asked for: seldom a write, since ticks are long.
    fn touch(&self, now: Moment) {
        let now = tick(now);
        if self.used_at.load(Ordering::Relaxed) != now {
            self.used_at.store(now, Ordering::Relaxed);
        }
    }

    /// Returns whether nobody would miss it: no handle outside, no flight, nothing that only this process has.
    fn is_idle(&self) -> bool {
        self.manager.handles() <= self.own_handles as usize && self.manager.is_idle()
    }
}

impl Keys {
    /// Makes an empty map of tokens whose names are a key behind a prefix of this length.
    pub fn new(prefix: usize) -> Keys {
        let shards = (0..SHARDS).map(|_| RwLock::default()).collect();
        Keys { prefix, hasher: DefaultHashBuilder::default(), shards, count: AtomicUsize::new(0) }
    }

    /// Makes the map of a forked child, which goes on with what its parent had. It never waits for the parent's locks: what a
    /// thread was changing that the child does not have is left out.
    pub fn forked(&self) -> Keys {
        let child = Keys::new(self.prefix);
        for shard in self.shards.iter().filter_map(RwLock::try_read) {
            for entry in shard.iter() {
                child.insert_if_new(Entry {
                    name: entry.name.clone(),
                    manager: entry.manager.clone(),
                    own_handles: entry.own_handles + 1,
                    used_at: AtomicU32::new(entry.used_at.load(Ordering::Relaxed)),
                    cached: None,
                });
            }
        }
        child
    }

    /// Returns a clone of the token of this key if it is to be served as it is: the whole of a hit by key. Waits for no lock.
    #[inline]
    pub fn hit(&self, key: &str) -> Option<Token> {
        let now = Moment::now();
        let hash = self.hasher.hash_one(key);
        let shard = self.shard(hash).try_read()?;
        let entry = shard.find(hash, |entry| self.is_of(entry, key))?;
        let token = entry.manager.header().get_shared(now, entry.cached.as_ref()?)?;
        entry.touch(now);
        Some(token)
    }

    /// Returns the manager of this key, if there is one.
    pub fn find(&self, key: &str) -> Option<TokenManager> {
        let hash = self.hasher.hash_one(key);
        let shard = self.shard(hash).read();
        let entry = shard.find(hash, |entry| self.is_of(entry, key))?;
        entry.touch(Moment::now());
        Some(entry.manager.clone())
    }

    /// Keeps a manager, unless its key has one; returns the one that it has then.
    pub fn insert(&self, manager: TokenManager) -> TokenManager {
        let (name, used_at) = (manager.name().name.clone(), AtomicU32::new(tick(Moment::now())));
        self.insert_if_new(Entry { name, manager, own_handles: 1, used_at, cached: None })
    }

    fn insert_if_new(&self, entry: Entry) -> TokenManager {
        let hash = self.hash(&entry);
        let mut shard = self.shard(hash).write();
        if let Some(known) = shard.find(hash, |known| known.name == entry.name) {
            return known.manager.clone();
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        shard.insert_unique(hash, entry, |entry| self.hash(entry)).get().manager.clone()
    }

    /// Returns all managers.
    pub fn managers(&self) -> Vec<TokenManager> {
        let managers = |shard: &RwLock<HashTable<Entry>>| {
            shard.read().iter().map(|entry| entry.manager.clone()).collect::<Vec<_>>()
        };
        self.shards.iter().flat_map(managers).collect()
    }

    /// Lets hits by key find the manager's present token.
    pub fn publish(&self, key: &str, manager: &TokenManager) {
        let (hash, cached) = (self.hasher.hash_one(key), manager.snapshot());
        let mut shard = self.shard(hash).write();
        let entry = shard.find_mut(hash, |entry| self.is_of(entry, key)).filter(|entry| entry.manager.is(manager));
        let last = entry.and_then(|entry| std::mem::replace(&mut entry.cached, cached));
        drop(shard);
        drop(last);
    }

    /// Forgets this key, whoever uses it.
    pub fn forget(&self, key: &str) -> bool {
        let hash = self.hasher.hash_one(key);
        let mut shard = self.shard(hash).write();
        let forgotten = shard.find_entry(hash, |entry| self.is_of(entry, key)).ok().map(|entry| entry.remove().0);
        self.give_memory_back(&mut shard);
        drop(shard);
        self.count.fetch_sub(usize::from(forgotten.is_some()), Ordering::Relaxed);
        forgotten.is_some()
    }

    /// Forgets idle keys that nobody has asked for in such a time.
    pub fn forget_unused_for(&self, span: Duration) {
        let now = Moment::now();
        self.forget_idle(|used_at| u128::from(tick(now).saturating_sub(used_at)) << TICK >= span.as_nanos());
    }

    /// Makes place for one more key below `max` by forgetting those of the idle that nobody has asked for the longest.
    pub fn make_place(&self, max: usize) {
        let count = self.len();
        if count < max {
            return;
        }
        let mut used: Vec<u32> = Vec::with_capacity(count);
        for shard in &self.shards {
            used.extend(
                shard.read().iter().filter(|entry| entry.is_idle()).map(|entry| entry.used_at.load(Ordering::Relaxed)),
            );
        }
        let surplus = (count + 1 - max).max(max / EVICTED_AT_ONCE).min(used.len());
        if let Some(last) = surplus.checked_sub(1) {
            let (_, newest, _) = used.select_nth_unstable(last);
            let newest = *newest;
            let left = std::cell::Cell::new(surplus);
            // Of those asked for in one tick of the clock, no more than are to go.
            self.forget_idle(|used_at| {
                let goes = used_at <= newest && left.get() > 0;
                left.set(left.get() - usize::from(goes));
                goes
            });
        }
    }

    fn forget_idle(&self, goes: impl Fn(u32) -> bool) {
        for shard in &self.shards {
            let mut shard = shard.write();
            let forgotten: Vec<Entry> =
                shard.extract_if(|entry| entry.is_idle() && goes(entry.used_at.load(Ordering::Relaxed))).collect();
            self.give_memory_back(&mut shard);
            drop(shard);
            self.count.fetch_sub(forgotten.len(), Ordering::Relaxed);
        }
    }

    fn give_memory_back(&self, shard: &mut HashTable<Entry>) {
        if shard.len() < shard.capacity() / 4 {
            shard.shrink_to_fit(|entry| self.hash(entry));
        }
    }

    /// Returns how many keys there are.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    fn shard(&self, hash: u64) -> &RwLock<HashTable<Entry>> {
        // The table takes its places from the lowest bits and its tags from the highest.
        &self.shards[(hash >> 32) as usize % SHARDS]
    }

    fn is_of(&self, entry: &Entry, key: &str) -> bool {
        entry.name.as_bytes()[self.prefix..] == *key.as_bytes()
    }

    fn hash(&self, entry: &Entry) -> u64 {
        self.hasher.hash_one(&entry.name[self.prefix..])
    }
}
