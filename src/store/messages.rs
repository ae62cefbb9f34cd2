//! What managers and stores say to each other. Durations only, no dates: clocks of two machines are never compared.

use crate::error::FailureClass;
use crate::policy::Budget;
use crate::token::Secret;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Where a token lives in a store: all tokens of one namespace and group may share a budget.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TokenName {
    /// The word that all keys of a fleet begin with.
    pub namespace: Arc<str>,
    /// What the tokens that share budgets and pauses have in common.
    pub group: Arc<str>,
    /// The token's own name.
    pub name: Arc<str>,
    /// The name of its [grant](crate::Builder::grant): the token's own where it shares none.
    pub grant: Arc<str>,
}

impl TokenName {
    /// Names the grant: the same for all tokens that share the updater, the carried secret, the pause and the events.
    pub fn of_grant(&self) -> TokenName {
        TokenName { name: self.grant.clone(), ..self.clone() }
    }
}

impl fmt::Display for TokenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{{{}}}:{}", self.namespace, self.group, self.name)
    }
}

/// What a flight asks for.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// The process that asks.
    pub owner: &'a str,
    /// Which of its flights asks.
    pub attempt: u64,
    /// Only a token of a higher generation than this is an answer.
    pub newer_than: u64,
    /// How long the lease is to last if one is granted.
    pub lease: Duration,
    /// What a fetch is charged to, if allowed to be charged at all: without a budget the claim is never granted.
    pub budget: Option<Budget>,
    /// The egress that a fetch is charged to.
    pub egress: &'a str,
}

/// What the store answers to a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// There is a token newer than the one named.
    Token(Stored),
    /// The asker is the updater now: it fetches the token of this generation.
    Granted {
        /// The number of the grant.
        generation: u64,
        /// The secret for this fetch, if the last one left any.
        carry: Option<Carried>,
    },
    /// Another updater is fetching.
    Busy {
        /// What is left of the other one's lease.
        lease_left: Duration,
    },
    /// The last fetch failed, and the fleet pauses.
    Paused(Pause),
    /// The budget is used up.
    Limited {
        /// When it allows the next fetch.
        retry_after: Duration,
    },
}

/// A secret that the last fetch left for this one, such as a rotating refresh token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// The secret text.
    pub secret: Secret,
    /// The fetch that left it.
    pub generation: u64,
    /// How long ago another fetch first presented it to the issuer, if one did and nobody knows that it was not consumed.
    pub presented: Option<Duration>,
}

/// A token as the store holds it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stored {
    /// The number of its grant.
    pub generation: u64,
    /// The secret text.
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
    /// How the fetch failed.
    pub class: FailureClass,
    /// How long the issuer asked to be left alone. A time below one second counts as that.
    pub retry_after: Option<Duration>,
    /// The egress that the issuer counted the request for: being throttled concerns it alone.
    pub egress: &'a str,
}

/// The pause after a failed fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// What is left of it.
    pub retry_after: Duration,
    /// How the fetch failed.
    pub class: FailureClass,
}

/// The proof of being the updater.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The process.
    pub owner: Arc<str>,
    /// Which of its flights.
    pub attempt: u64,
    /// The number of the grant that it was given.
    pub generation: u64,
}

impl fmt::Display for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.generation, self.owner, self.attempt)
    }
}

/// What a look for the updater found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Nobody fetches, or not any more: it is time to claim.
    Ended,
    /// The updater is there, or has not said that it can be seen.
    Assumed {
        /// How many listen to the token's changes, and may look as well.
        listeners: u64,
    },
    /// The updater has said that it can be seen, and is not there.
    Missing(Lease),
    /// This store, or this user of it, cannot tell.
    Unknown,
}

/// A fetched token on its way to the store.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The secret text.
    pub value: Secret,
    /// How long it may be used from now.
    pub left: Duration,
    /// The whole life that the issuer gave it.
    pub life: Duration,
    /// How long ago the fetch began, if known. A store that may carry out a commit late, because it was stopped
    /// meanwhile, takes off what it sees of that delay: more time has passed for it since the grant than this.
    pub age: Option<Duration>,
    /// The secret for the next fetch, kept by its generation whatever becomes of the token; `None` leaves the last one.
    pub carry: Option<Secret>,
    /// How long the carried secret is kept; `None` for ever.
    pub carry_lifetime: Option<Duration>,
}

/// What became of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Committed {
    /// The token is in the store; doubted if others may have been granted one since.
    Written {
        /// Whether a later grant may have revoked the token.
        doubted: bool,
    },
    /// A newer token was there and stays.
    Superseded(Stored),
    /// The generation has been invalidated, or its time is over; it was not written.
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
    /// Every generation up to this one is invalidated.
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
    /// The highest invalidated generation; 0 if none.
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
