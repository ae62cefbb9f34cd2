//! One fresh token for every thread of every process. Blocking, no async runtime.
#![forbid(unsafe_code)]

mod builder;
mod clock;
mod core;
mod decide;
mod error;
mod event;
mod fetch;
mod flight;
mod fork;
mod fresh;
mod manager;
mod policy;
mod refresh;
mod slot;
mod source;
mod store;
mod sync;
mod token;

pub use builder::Builder;
pub use error::{Error, ErrorKind, FailureClass};
pub use event::Event;
pub use fresh::FreshGuard;
pub use manager::{Stats, TokenManager, Verdict};
pub use policy::{Budget, Flights};
pub use source::{Attempt, FetchError, Fetched, TokenSource};
pub use store::memory::MemoryStore;
pub use store::redis::{RedisOptions, RedisStore};
pub use store::{
    Change, Claim, Claimed, Committed, Cooling, Grant, Inspection, Lease, Listener, Store, StoreError, StoreErrorKind,
    Stored, TokenName,
};
pub use token::{Secret, Token};

/// The pure parts, for this project's own models, simulations and benches. Not part of the public face: any release may
/// change it.
#[doc(hidden)]
pub mod internals {
    pub use crate::clock::Moment;
    pub mod decide {
        pub use crate::decide::*;
    }
    pub mod rules {
        pub use crate::store::rules::*;
    }
    pub mod policy {
        pub use crate::policy::*;
    }
}
