//! What an observer is told, and what the log says: the decisions of the library, never a secret.

use crate::error::FailureClass;
use crate::store::StoreErrorKind;
use log::Level;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Something that happened to a token in this process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// This process is the updater now and asks the issuer.
    Granted {
        /// The number of the grant.
        generation: u64,
        /// The UUID of this process in the store.
        owner: String,
    },
    /// The issuer answered with a token.
    Fetched {
        /// The number of the grant.
        generation: u64,
        /// How long the source took.
        took: Duration,
        /// The life that the issuer gave it.
        lifetime: Duration,
    },
    /// The token is in the store.
    Committed {
        /// The number of the grant.
        generation: u64,
        /// Whether the lease had been lost, so that the token is doubted.
        late: bool,
    },
    /// This process uses this token from now on.
    Adopted {
        /// The number of the grant.
        generation: u64,
        /// Whether it is to be refreshed at once.
        doubted: bool,
    },
    /// Another process is the updater; this one waits for it.
    Waiting {
        /// What is left of the updater's lease.
        lease_left: Duration,
    },
    /// The source failed in this process.
    Failed {
        /// How it failed.
        class: FailureClass,
        /// How long nobody asks the issuer now.
        retry_after: Duration,
    },
    /// The lease could not be renewed or was lost while the source ran.
    LeaseLost {
        /// The number of the grant.
        generation: u64,
    },
    /// The source overran its limit and was left to itself.
    Abandoned {
        /// The number of the grant.
        generation: u64,
    },
    /// The token took more than half of its life to fetch; its time is counted from its receipt.
    Slow {
        /// The number of the grant.
        generation: u64,
        /// How long the source took.
        took: Duration,
        /// The life that the issuer gave it.
        lifetime: Duration,
    },
    /// The budget forbids asking the issuer now.
    Limited {
        /// How long nobody asks the issuer now.
        retry_after: Duration,
    },
    /// Every generation up to this one was invalidated.
    Invalidated {
        /// The number of the grant.
        generation: u64,
    },
    /// The store could not be asked.
    StoreFailed {
        /// What it was asked to do.
        doing: &'static str,
        /// Why it could not.
        kind: StoreErrorKind,
    },
}

/// What [`Builder::observer`](crate::Builder::observer) was given.
pub(crate) type Observer = Arc<dyn Fn(&Event) + Send + Sync>;

impl Event {
    /// Returns at which level the event is logged.
    pub(crate) fn level(&self) -> Level {
        match self {
            Event::Failed { .. } | Event::LeaseLost { .. } | Event::Abandoned { .. } | Event::Slow { .. } => {
                Level::Warn
            }
            Event::StoreFailed { .. } | Event::Limited { .. } | Event::Committed { late: true, .. } => Level::Warn,
            Event::Granted { .. } | Event::Fetched { .. } | Event::Committed { .. } => Level::Info,
            Event::Adopted { .. } | Event::Waiting { .. } | Event::Invalidated { .. } => Level::Debug,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Granted { generation, owner } => write!(f, "{owner} is updating the token, generation {generation}"),
            Event::Fetched { generation, took, lifetime } => {
                write!(f, "fetched generation {generation} in {took:.1?}, it lives {lifetime:.1?}")
            }
            Event::Committed { generation, late: false } => write!(f, "committed generation {generation}"),
            Event::Committed { generation, late: true } => {
                write!(f, "committed generation {generation} late: the lease was lost, the token is doubted")
            }
            Event::Adopted { generation, doubted: false } => write!(f, "adopted generation {generation}"),
            Event::Adopted { generation, doubted: true } => write!(f, "adopted generation {generation}, doubted"),
            Event::Waiting { lease_left } => write!(f, "waiting for the updater, its lease has {lease_left:.1?} left"),
            Event::Failed { class, retry_after } => {
                write!(f, "token source failed ({class}), the fleet pauses for {retry_after:.1?}")
            }
            Event::LeaseLost { generation } => write!(f, "lost the lease while fetching generation {generation}"),
            Event::Abandoned { generation } => write!(f, "abandoned the source fetching generation {generation}"),
            Event::Slow { generation, took, lifetime } => {
                write!(f, "generation {generation} took {took:.1?} of its life of {lifetime:.1?} to fetch")
            }
            Event::Limited { retry_after } => write!(f, "the budget forbids a fetch for {retry_after:.1?}"),
            Event::Invalidated { generation } => write!(f, "generation {generation} was invalidated"),
            Event::StoreFailed { doing, .. } => write!(f, "token store failed to {doing}"),
        }
    }
}
