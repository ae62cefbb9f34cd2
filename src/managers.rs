//! Many tokens on one store and one source, each under a key: what multi-tenant programs call.

use crate::builder::Builder;
use crate::clock::{self, Moment};
use crate::error::Error;
use crate::fork::PerProcess;
use crate::keep_fresh::{self, FreshGuard};
use crate::keys::Keys;
use crate::locks::Mutex;
use crate::manager::{TokenManager, Verdict, call_with_token};
use crate::openmetrics::Counted;
use crate::settings::{Common, Keyed};
use crate::source::{Attempt, FetchError, Fetched};
use crate::stats::Stats;
use crate::store::TokenName;
use crate::token::Token;
use crate::workers::{self, Workers};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Hands out the tokens of many keys: of tenants, users, audiences. Made by [`Builder::keyed`]. Clones share everything; any thread
/// may use any clone.
///
/// Each key has a token, a flight, failures and pauses of its own, as if it had a [`TokenManager`] of its own; what fails for one
/// hurts no other. The fleet meets under the name `<name of the builder>:<key>`. Without a [group](Builder::group) each key is a
/// group by itself, with its own budget, and its keys lie where a Redis Cluster puts them; with one, all keys share its budget and
/// its slot.
#[derive(Clone)]
pub struct TokenManagers(Arc<Shared>);

struct Shared {
    builder: Builder,
    common: Arc<Common>,
    keyed: Arc<Keyed>,
    each: Option<Box<Each>>,
    max_keys: usize,
    forget_after: Duration,
    keys: PerProcess<Keys>,
    /// Who keeps all tokens fresh.
    fresh: PerProcess<Mutex<Vec<Weak<()>>>>,
    /// When unused keys are looked for again, in nanoseconds of the monotonic clock.
    sweep_at: AtomicU64,
}

/// How many keys are taken over in one go: not more than a process can do without that keeps few.
const LOADED_AT_ONCE: usize = 256;

type Each = dyn Fn(&str, Builder) -> Builder + Send + Sync;

/// The settings of [`TokenManagers`], changed one by one and checked by [`build`](KeyedBuilder::build).
#[must_use]
pub struct KeyedBuilder {
    builder: Builder,
    each: Option<Box<Each>>,
    max_keys: usize,
    forget_after: Duration,
    workers: usize,
    workers_per_group: usize,
}

impl Builder {
    /// Makes these the settings of many tokens, each under a key, which this source fetches by key. The builder's name is put
    /// before each key.
    pub fn keyed(
        self,
        source: impl Fn(&str, &Attempt) -> Result<Fetched, FetchError> + Send + Sync + 'static,
    ) -> KeyedBuilder {
        let prefix = self.prefix().len();
        let builder = self.source(move |attempt: &Attempt| source(&attempt.name()[prefix..], attempt));
        KeyedBuilder {
            builder,
            each: None,
            max_keys: 100_000,
            forget_after: Duration::from_secs(3600),
            workers: 64,
            workers_per_group: 16,
        }
    }
}

impl KeyedBuilder {
    /// Changes the settings of some keys: called with each key that is asked for first, and with the settings that all have.
    /// Called on the thread that asks, with no lock held. Defaults to the same settings for all.
    pub fn each(mut self, settings: impl Fn(&str, Builder) -> Builder + Send + Sync + 'static) -> KeyedBuilder {
        self.each = Some(Box::new(settings));
        self
    }

    /// Limits how many keys this process keeps: for one more, idle ones are forgotten that nobody has asked for the longest. Those
    /// with a [handle](TokenManagers::manager) outside, or a flight at work, are kept in any number. Defaults to 100,000.
    pub fn max_keys(mut self, count: usize) -> KeyedBuilder {
        self.max_keys = count;
        self
    }

    /// Sets how long this process keeps a key that nobody asks for; the store keeps its token all the same. Defaults to an hour.
    pub fn forget_after(mut self, span: Duration) -> KeyedBuilder {
        self.forget_after = span;
        self
    }

    /// Limits how many threads run flights and their sources, for all keys of this process together; a flight needs two, and one
    /// that is abandoned keeps them until its source returns. Further flights wait for their turn: those first that a caller waits for, the
    /// [groups](Builder::group) one after the other. Defaults to 64.
    pub fn workers(mut self, threads: usize) -> KeyedBuilder {
        self.workers = threads;
        self
    }

    /// Limits how many of them work for one [group](Builder::group), so that an issuer that is slow for one tenant leaves some for the
    /// others. Without a group each key is a group by itself, and needs no more than six: many such keys whose issuer hangs can take all workers until
    /// their sources return. Defaults to 16.
    pub fn workers_per_group(mut self, threads: usize) -> KeyedBuilder {
        self.workers_per_group = threads;
        self
    }

    /// Makes the managers; never talks to the store or the issuer.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) as [`Builder::build`], and if not one key may be kept, or none for a
    /// millisecond, or if there are not workers enough for one flight.
    pub fn build(mut self) -> Result<TokenManagers, Error> {
        if self.max_keys == 0 {
            return Err(Error::config("max_keys is 0; it must be 1 or more"));
        }
        if self.forget_after < Duration::from_millis(1) {
            return Err(Error::config(format!("forget_after is {:?}; it must be 1 ms or longer", self.forget_after)));
        }
        for (setting, threads) in [("workers", self.workers), ("workers_per_group", self.workers_per_group)] {
            if threads < workers::OF_FLIGHT {
                let rule = format!("a flight needs {}, one for itself and one for its source", workers::OF_FLIGHT);
                return Err(Error::config(format!("{setting} is {threads}; {rule}")));
            }
        }
        let workers = Workers::new(self.workers, self.workers_per_group);
        let keyed = Arc::new(Keyed::new(self.builder.token_name()?, workers));
        self.builder = self.builder.among(keyed.clone());
        let common = self.builder.common()?;
        let keys = PerProcess::new(Keys::new(self.builder.prefix().len()));
        let KeyedBuilder { builder, each, max_keys, forget_after, .. } = self;
        let sweep_at = AtomicU64::new(0);
        Ok(TokenManagers(Arc::new(Shared {
            builder,
            common,
            keyed,
            each,
            max_keys,
            forget_after,
            keys,
            fresh: PerProcess::default(),
            sweep_at,
        })))
    }
}

impl TokenManagers {
    /// Returns a token of this key that is valid now, waiting for one no longer than the deadline of the settings (15 seconds by
    /// default).
    ///
    /// # Errors
    /// As [`TokenManager::get_within`], and [`ErrorKind::Config`](crate::ErrorKind::Config) if the key cannot be part of a name (1
    /// to 200 bytes with the builder's, without braces, spaces and control characters) or its settings contradict each other.
    #[inline]
    pub fn get(&self, key: &str) -> Result<Token, Error> {
        match self.0.keys.latest().hit(key) {
            Some(token) => Ok(token),
            None => self.acquire(key, None),
        }
    }

    /// As [`get`](TokenManagers::get), waiting no longer than this; with zero it never blocks, as
    /// [`TokenManager::get_within`].
    ///
    /// # Errors
    /// As [`get`](TokenManagers::get).
    #[inline]
    pub fn get_within(&self, key: &str, within: Duration) -> Result<Token, Error> {
        match self.0.keys.latest().hit(key) {
            Some(token) => Ok(token),
            None => self.acquire(key, Some(within)),
        }
    }

    #[cold]
    fn acquire(&self, key: &str, within: Option<Duration>) -> Result<Token, Error> {
        let manager = self.manager(key)?;
        let token = manager.get_uncached(within)?;
        self.keys().publish(key, &manager);
        Ok(token)
    }

    /// Takes over, in few exchanges, the tokens of these keys that the store has, so that many need not be asked for one by one: at the
    /// start of a program. Returns how many keys have a valid token then. Fetches nothing; a key whose settings name another store is left
    /// alone. In a Redis Cluster the exchanges are few where keys share a [group](Builder::group).
    ///
    /// # Errors
    /// [`ErrorKind::Store`](crate::ErrorKind::Store) when the store cannot be asked; what has been taken over stays.
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), as [`get`](TokenManagers::get).
    pub fn load<K: AsRef<str>>(&self, keys: impl IntoIterator<Item = K>) -> Result<usize, Error> {
        let (mut keys, mut valid) = (keys.into_iter().fuse().peekable(), 0);
        while keys.peek().is_some() {
            let wanted = keys.by_ref().take(LOADED_AT_ONCE).map(|key| Ok((self.manager(key.as_ref())?, key)));
            let mut wanted = wanted.collect::<Result<Vec<_>, Error>>()?;
            wanted.retain(|(manager, _)| {
                let is_cold = !manager.has_token();
                valid += usize::from(!is_cold);
                is_cold && Arc::ptr_eq(&manager.settings().store, &self.0.common.store)
            });
            let names: Vec<TokenName> = wanted.iter().map(|(manager, _)| manager.name().clone()).collect();
            let asked_at = Moment::now();
            let found = self.0.common.store.read(&names).map_err(Error::store)?;
            for ((manager, key), stored) in wanted.iter().zip(found) {
                let Some(stored) = stored else { continue };
                manager.adopt(stored, asked_at);
                self.keys().publish(key.as_ref(), manager);
                valid += usize::from(manager.has_token());
            }
        }
        Ok(valid)
    }

    /// Returns the manager of this key: the fastest way to a token that is asked for often, and to all that a manager can do. As
    /// long as a clone of it lives, its key is not forgotten. What it counts it counts for all keys together.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), as [`get`](TokenManagers::get).
    pub fn manager(&self, key: &str) -> Result<TokenManager, Error> {
        let keys = self.keys();
        self.sweep(keys);
        if let Some(manager) = keys.find(key) {
            return Ok(manager);
        }
        if key.is_empty() {
            return Err(Error::config("the key is empty; each token needs one"));
        }
        let Shared { builder, common, each, max_keys, .. } = &*self.0;
        let builder = builder.for_name(&format!("{}{key}", builder.prefix()), common);
        let builder = each.iter().fold(builder, |builder, each| each(key, builder));
        let manager = builder.build()?;
        keys.make_place(*max_keys);
        let kept = keys.insert(manager.clone());
        if kept.is(&manager) {
            let fresh = self.fresh().lock();
            fresh
                .iter()
                .filter(|lives| lives.strong_count() > 0)
                .try_for_each(|lives| kept.keep_while(lives.clone()))?;
        }
        Ok(kept)
    }

    /// Tells the fleet that the API refused this token of this key, as [`TokenManager::invalidate`].
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), as [`get`](TokenManagers::get).
    pub fn invalidate(&self, key: &str, token: &Token) -> Result<(), Error> {
        self.manager(key)?.invalidate(token);
        Ok(())
    }

    /// Calls an API with a token of this key, as [`TokenManager::with_token`].
    ///
    /// # Errors
    /// As [`get`](TokenManagers::get), for the first token and for the second.
    pub fn with_token<T>(&self, key: &str, call: impl FnMut(&Token) -> Verdict<T>) -> Result<T, Error> {
        call_with_token(|| self.get(key), |token| self.invalidate(key, token), call)
    }

    /// Forgets a key in this process, at once and whoever uses it; the store keeps its token. Handles go on. Returns whether
    /// the key was there.
    pub fn forget(&self, key: &str) -> bool {
        self.keys().forget(key)
    }

    /// Returns how many keys this process keeps.
    pub fn len(&self) -> usize {
        self.keys().len()
    }

    /// Returns whether this process keeps no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns what this process has done so far, for all keys together.
    pub fn stats(&self) -> Stats {
        let abandoned = self.keys().managers().iter().map(TokenManager::abandoned).sum::<usize>() as u64;
        Stats { abandoned, ..self.0.keyed.counters().stats() }
    }

    /// Waits until this process has neither a flight nor a thread for any key, as [`TokenManager::quiesce`]; false if that took longer
    /// than this.
    pub fn quiesce(&self, within: Duration) -> bool {
        let deadline = clock::deadline(within);
        self.0.common.workers().is_none_or(|workers| workers.threads().wait_until_none(deadline))
            && self.keys().managers().iter().all(|manager| manager.quiesce(clock::left(deadline)))
            && self.0.common.events().rest(deadline)
    }

    /// Keeps the tokens of all keys fresh that this process keeps, and of those to come, until the guard is dropped: takes over
    /// what any process commits, and refreshes what nobody asks for before it expires, until its key is forgotten. One thread does
    /// so for all, with one subscription. After a fork the child has to call it again.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) when the system has no thread left.
    pub fn keep_fresh(&self) -> Result<FreshGuard, Error> {
        let (guard, lives) = keep_fresh::guard(&self.0.common, None);
        let mut fresh = self.fresh().lock();
        fresh.retain(|lives| lives.strong_count() > 0);
        fresh.push(lives.clone());
        drop(fresh);
        self.keys().managers().iter().try_for_each(|manager| manager.keep_while(lives.clone()))?;
        Ok(guard)
    }

    fn fresh(&self) -> &Mutex<Vec<Weak<()>>> {
        self.0.fresh.get(Default::default)
    }

    fn sweep(&self, keys: &Keys) {
        let Shared { forget_after, sweep_at, .. } = &*self.0;
        let (now, last) = (Moment::now(), sweep_at.load(Ordering::Relaxed));
        if now.mono < last {
            return;
        }
        let next = now.after(*forget_after / 4).mono;
        // Another thread that was here first does it.
        if sweep_at.compare_exchange(last, next, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            keys.forget_unused_for(*forget_after);
        }
    }

    fn keys(&self) -> &Keys {
        self.0.keys.get_or_inherit(Keys::forked)
    }
}

impl fmt::Debug for TokenManagers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenManagers").field("prefix", &self.0.builder.prefix()).field("keys", &self.len()).finish()
    }
}

impl Counted for TokenManagers {
    fn counted_as(&self) -> &TokenName {
        &self.0.keyed.name
    }

    fn stats(&self) -> Stats {
        self.stats()
    }
}
