//! The seam to the place where the fleet meets: one method a verb of the protocol.

pub use crate::token::Secret;
pub use error::{StoreError, StoreErrorKind};
pub use feed::{Feed, Follow, Heard, Topic, Tuner};
pub use messages::{
    Carried, Change, Claim, Claimed, Committed, Failure, Grant, Inspection, Lease, Pause, Presence, Stored, TokenName,
};
pub use redis::LogEntry;
#[cfg(feature = "sealed")]
pub use sealed::{Keyring, SealedStore, SealingKey};
pub use state_store::{StateBackend, StateStore, Step};
use std::time::Duration;

#[cfg(feature = "contract")]
pub mod contract;
mod error;
mod feed;
pub(crate) mod file;
mod forward;
pub(crate) mod memory;
mod messages;
pub(crate) mod redis;
pub mod rules;
#[cfg(feature = "sealed")]
mod sealed;
mod state_store;
pub(crate) mod when_away;

/// Keeps the token of a fleet and decides who fetches the next one.
///
/// All verbs are called without any lock held, from any thread, several at a time; each may block for as long as the
/// store's own timeouts let it. Each must be atomic, and must answer the same when the same owner and attempt repeat it.
/// A panic is reported to the waiting callers as an error.
pub trait Store: Send + Sync + 'static {
    /// Asks for a token newer than the claim names, or for the right to fetch one. Called by every flight.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be asked or refuses.
    fn claim(&self, name: &TokenName, claim: &Claim<'_>) -> Result<Claimed, StoreError>;

    /// Returns the tokens of these names, each as a claim of it without a budget would tell it. Called where a process is about
    /// to need many. Defaults to a claim for each; a store that can tell them in fewer exchanges should.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be asked or refuses.
    fn read(&self, names: &[TokenName]) -> Result<Vec<Option<Stored>>, StoreError> {
        let lease = Duration::from_millis(1);
        let claim = Claim { owner: "reader", attempt: 0, newer_than: 0, lease, budget: None, egress: "default" };
        let read = |name| match self.claim(name, &claim)? {
            Claimed::Token(stored) => Ok(Some(stored)),
            _ => Ok(None),
        };
        names.iter().map(read).collect()
    }

    /// Extends the lease to `length` from now; false if it is not this updater's any more. Called by the updater's
    /// flight while its source runs.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be asked or refuses.
    fn renew(&self, name: &TokenName, lease: &Lease, length: Duration) -> Result<bool, StoreError>;

    /// Puts the fetched token where the fleet finds it and gives the lease back. Called by the updater's flight, or
    /// late by the thread of an abandoned source.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be asked or refuses.
    fn commit(&self, name: &TokenName, lease: &Lease, grant: &Grant) -> Result<Committed, StoreError>;

    /// Records that the fetch failed and gives the lease back; returns the pause that this process has to keep, if there is
    /// one. Called by the updater's flight, and by the thread of an abandoned source, whose lease is over.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be asked or refuses.
    fn record_failure(
        &self,
        name: &TokenName,
        lease: &Lease,
        failure: &Failure<'_>,
    ) -> Result<Option<Pause>, StoreError>;

    /// Makes every generation up to this one invalid. Called by the caller whose API refused the token.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be asked or refuses.
    fn invalidate(&self, name: &TokenName, generation: u64) -> Result<(), StoreError>;

    /// Puts back a token that the store has lost, where nothing that the store knows speaks against it: no updater at work, no
    /// newer grant, no doubt, not invalid. Returns whether the store holds it now. Called by `keep_fresh`, which has followed
    /// every change up to the loss. Defaults to taking nothing back; the token is then fetched anew.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be asked or refuses.
    fn offer(&self, name: &TokenName, token: &Stored) -> Result<bool, StoreError> {
        let _ = (name, token);
        Ok(false)
    }

    /// Ends the pauses after failures, that of the fleet and that of this egress. Called by operators.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be asked or refuses.
    fn lift_pause(&self, name: &TokenName, egress: &str) -> Result<(), StoreError>;

    /// Returns what the store knows, changing nothing. Called by operators, and by `keep_fresh` to notice lost data.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be asked or refuses.
    fn inspect(&self, name: &TokenName, egress: &str) -> Result<Inspection, StoreError>;

    /// Subscribes to the token's changes; the listener is subscribed when it is returned. Called by a flight that has
    /// to wait for another updater, and by `keep_fresh`.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot subscribe; the flight then polls.
    fn subscribe(&self, name: &TokenName) -> Result<Box<dyn Subscription>, StoreError>;

    /// Returns whether [`feed`](Store::feed) tells of many tokens at once. Defaults to false: then each token that a process
    /// follows has a [subscription](Store::subscribe) of its own.
    fn has_feed(&self) -> bool {
        false
    }

    /// Subscribes to the changes of many tokens, of none at first. Called by the one thread that reads a store's events in a
    /// process. Defaults to an error.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot subscribe; the thread then tries again, ever more rarely.
    fn feed(&self) -> Result<Box<dyn Feed>, StoreError> {
        Err(StoreError::new(StoreErrorKind::Other, "this store has no feed"))
    }

    /// Returns a number that all clones of this store have in common, and no other store of the process: what is on one store shares
    /// its threads and its subscription. Defaults to none, so that each manager has its own.
    fn number(&self) -> Option<u64> {
        None
    }

    /// Returns whether an updater is at work. Called by a flight that has just subscribed: if one is, its event is still to
    /// come; if not, the flight claims again. False is always a safe answer. Defaults to false.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be asked or refuses.
    fn has_updater(&self, name: &TokenName) -> Result<bool, StoreError> {
        let _ = name;
        Ok(false)
    }

    /// Lets the others see that this updater is there, until what is returned is dropped or the process dies, however it dies; the
    /// lease is extended to `length` from now, as by `renew`. Called by the updater's flight once, while its source runs, unless that answers at once; and
    /// dropped when the flight has ended. The store may do so by having the process's [feed](Store::feed) follow the
    /// [presence](Topic::Presence), with `follow`, where there is one. Defaults to `None`, which this may always answer: an updater that dies is then
    /// replaced when its lease ends.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be asked or refuses; the updater goes on unseen.
    fn show_presence(
        &self,
        name: &TokenName,
        lease: &Lease,
        length: Duration,
        follow: Option<Follow<'_>>,
    ) -> Result<Option<Box<dyn Send>>, StoreError> {
        let _ = (name, lease, length, follow);
        Ok(None)
    }

    /// Looks whether the updater is there. Where it is missing and its lease is the one that is `missed`, because an earlier look
    /// found it missing, the lease ends. Called now and then by a flight that waits for it. A store may be
    /// wrong: the updater's commit is then late, and doubt settles which token is the last. Defaults to
    /// [`Presence::Unknown`], after which that flight looks no more.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be asked or refuses; that flight looks no more.
    fn presence(&self, name: &TokenName, missed: Option<&Lease>) -> Result<Presence, StoreError> {
        let _ = (name, missed);
        Ok(Presence::Unknown)
    }

    /// Names the place in which the tokens are, without secrets: what a process has left in a
    /// [journal](crate::Builder::journal) is committed to the same place only. Defaults to an empty name.
    fn place(&self) -> String {
        String::new()
    }

    /// Returns the longest single exchange with the store; a verb may take several. The lease must be at least three times as
    /// long.
    fn timeout(&self) -> Duration;
}

/// Returns a number for [`Store::number`].
pub(crate) fn next_number() -> u64 {
    static NUMBERS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    NUMBERS.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

/// A subscription to one token's changes. Dropping it ends it.
pub trait Subscription: Send {
    /// Waits for the next change, at most so long; `None` when none came. Called by the thread that holds it.
    ///
    /// # Errors
    /// [`StoreError`] when the subscription is lost; the listener is then dropped and another is made.
    fn wait(&mut self, at_most: Duration) -> Result<Option<Change>, StoreError>;

    /// Makes sure that the subscription still stands, keeping changes that come meanwhile for later waits. Called by
    /// `keep_fresh` each time it looks at the store. Defaults to success.
    ///
    /// # Errors
    /// [`StoreError`] when the subscription is lost; the listener is then dropped and another is made.
    fn check(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}
