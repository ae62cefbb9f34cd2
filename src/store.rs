//! The seam to the place where the fleet meets: the verbs of the protocol and what they say. Durations only, no dates.

use crate::error::{Cause, FailureClass};
use crate::policy::Budget;
pub use crate::token::Secret;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub(crate) mod memory;
pub(crate) mod redis;
pub mod rules;

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

    /// Returns whether an updater is at work. Called by a flight that has just subscribed: if one is, its event is still to
    /// come; if not, the flight claims again. False is always a safe answer. Defaults to false.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be asked or refuses.
    fn has_updater(&self, name: &TokenName) -> Result<bool, StoreError> {
        let _ = name;
        Ok(false)
    }

    /// Returns the longest single exchange with the store; a verb may take several. The lease must be at least three times as
    /// long.
    fn timeout(&self) -> Duration;
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

/// Where a token lives in a store: all tokens of one namespace and group may share a budget.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TokenName {
    pub namespace: Arc<str>,
    pub group: Arc<str>,
    pub name: Arc<str>,
}

impl fmt::Display for TokenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{{{}}}:{}", self.namespace, self.group, self.name)
    }
}

/// What a flight asks for.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// The process that asks, and which of its flights.
    pub owner: &'a str,
    pub attempt: u64,
    /// Only a token of a higher generation than this is an answer.
    pub newer_than: u64,
    /// How long the lease is to last if one is granted.
    pub lease: Duration,
    /// What a fetch is charged to, if allowed to be charged at all: without a budget the claim is never granted.
    pub budget: Option<Budget>,
    pub egress: &'a str,
}

impl Claim<'_> {
    /// Returns the microseconds that one fetch uses up and how many may be made at once: none without a budget.
    pub(crate) fn emission_and_burst(&self) -> (u64, u32) {
        self.budget.map_or((1_000_000, 0), |budget| (budget.emission_micros(), budget.burst_size()))
    }
}

/// What the store answers to a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// There is a token newer than the one named.
    Token(Stored),
    /// The asker is the updater now: it fetches the token of this generation.
    Granted { generation: u64, carry: Option<Secret> },
    /// Another updater is fetching.
    Busy { lease_left: Duration },
    /// The last fetch failed, and the fleet pauses.
    Paused(Pause),
    /// The budget is used up.
    Limited { retry_after: Duration },
}

/// A token as the store holds it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stored {
    pub generation: u64,
    pub value: Secret,
    /// How long it may still be used.
    pub left: Duration,
    /// The whole life that the issuer gave it.
    pub life: Duration,
    /// Whether a later grant may have revoked it.
    pub doubted: bool,
}

/// A failed fetch on its way to the store.
#[derive(Clone, Copy, Debug)]
pub struct Failure<'a> {
    pub class: FailureClass,
    /// How long the issuer asked to be left alone. A shorter time than the first cool-down counts as that.
    pub retry_after: Option<Duration>,
    /// The egress that the issuer counted the request for: being throttled concerns it alone.
    pub egress: &'a str,
}

/// The pause after a failed fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    pub retry_after: Duration,
    pub class: FailureClass,
}

/// The proof of being the updater.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    pub owner: Arc<str>,
    pub attempt: u64,
    pub generation: u64,
}

impl fmt::Display for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.generation, self.owner, self.attempt)
    }
}

/// A fetched token on its way to the store.
#[derive(Clone, Debug)]
pub struct Grant {
    pub value: Secret,
    /// How long it may be used from now.
    pub left: Duration,
    /// The whole life that the issuer gave it.
    pub life: Duration,
    /// How long ago the fetch began, if known. A store that may carry out a commit late, because it was stopped
    /// meanwhile, takes off what it sees of that delay: more time has passed for it since the grant than this.
    pub age: Option<Duration>,
    pub carry: Option<Secret>,
    /// How long the carried secret is kept; `None` for ever.
    pub carry_lifetime: Option<Duration>,
}

/// What became of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Committed {
    /// The token is in the store; doubted if the lease had been lost.
    Written { doubted: bool },
    /// A newer token was there and stays.
    Superseded(Stored),
    /// The generation is invalid already; it was not written.
    Invalid,
}

/// What happened to a token in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// A token of this generation was committed.
    Committed(u64),
    /// Every generation up to this one is doubted.
    Doubted(u64),
    /// Every generation up to this one is invalid.
    Invalidated(u64),
    /// A fetch failed.
    Failed(FailureClass),
}

/// What the store knows of a token; for operators. Holds no secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inspection {
    /// The stored token: its generation, and how long it may still be used.
    pub token: Option<(u64, Duration)>,
    /// The updater key as written, `<generation>:<owner>:<attempt>`, and what is left of its lease.
    pub updater: Option<(String, Duration)>,
    /// The last generation granted; 0 if none is known.
    pub granted: u64,
    /// The highest invalid generation; 0 if none.
    pub invalidated: u64,
    /// The highest doubted generation; 0 if none.
    pub doubted: u64,
    /// The pause after a failure, of the fleet or of this egress, if one stands; the one that ends last.
    pub pause: Option<Pause>,
    /// How many fetches have failed in a row.
    pub fails: u64,
    /// Whether a secret is carried for the next fetch.
    pub carries: bool,
    /// How far ahead of time the budget is spent.
    pub budget_spent: Duration,
}

/// What kind of trouble the store has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// It cannot be reached, or did not answer in time.
    Unreachable,
    /// It refuses these credentials or commands (WRONGPASS, NOAUTH, NOPERM).
    Denied,
    /// It cannot write now (READONLY, LOADING, OOM, MISCONF).
    NotWritable,
    /// All its connections are in use; the same call may succeed as soon as one is free.
    Exhausted,
    /// A key holds something that this library did not write, or an answer has the wrong form.
    Malformed,
    /// Anything else; the message tells.
    Other,
}

/// Why the store did not do as asked. Holds no secret.
#[derive(Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    message: String,
    cause: Option<Cause>,
}

impl StoreError {
    /// Makes an error; the message says in words what is wrong and what to do.
    pub fn new(kind: StoreErrorKind, message: impl Into<String>) -> StoreError {
        StoreError { kind, message: message.into(), cause: None }
    }

    /// Adds the cause.
    pub fn because(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
        self.cause = Some(cause.into());
        self
    }

    /// Returns what kind of trouble it is.
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as &(dyn std::error::Error + 'static))
    }
}
