//! One fresh token for every thread of every process. Blocking, no async runtime.
//!
//! ```
//! use std::time::Duration;
//! use token_manager::{Attempt, Fetched, MemoryStore, TokenManager};
//!
//! let manager = TokenManager::builder("billing-api")
//!     .store(MemoryStore::new()) // a fleet: .redis("redis://127.0.0.1:6379/")?
//!     .source(|_attempt: &Attempt| Ok(Fetched::new("ask the issuer here", Duration::from_secs(3600))))
//!     .build()?;
//! let token = manager.get()?;
//! assert_eq!(token.secret(), "ask the issuer here");
//! # Ok::<(), token_manager::Error>(())
//! ```
//!
//! The four paths of [`TokenManager::get`]:
//! - **fresh**: the token of this process is returned; no lock, no allocation, no system call;
//! - **due**: the same, and a flight is started to refresh it;
//! - **expired, rejected, absent**: the caller waits for the process's one flight, within its own deadline;
//! - **failed**: everyone who waits gets the flight's error, unless the old token is still valid; a used-up budget is waited
//!   for if the deadline allows.
//!
//! It is an efficiency lock with a correct value, never a mutex: at most one fetch per token life while the store is well,
//! and no more than the [`Budget`] whatever fails. The `README` has the promises, `DESIGN.md` the reasons.
//!
//! | floor | files | duty |
//! |---|---|---|
//! | 0 | `clock` `token` `error` `fork` `locks` `sync` `threads` | time, secrets, errors, one value a process, locks, threads |
//! | 1 | `policy` `source` `store` `event` | numbers; the seams to the issuer, the store and the observer |
//! | 2 | `decide` `store/rules` `store/memory` `store/redis` | decisions and the protocol, pure; the two stores |
//! | 3 | `flight` `slot` | who leads and who waits; the token at hand |
//! | 4 | `core` `refresh` `fetch` `fresh` | one process's state; the course of a flight; the source's thread; `keep_fresh` |
//! | 5 | `manager` `builder` | the blocking shell and its settings |
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
mod locks;
mod manager;
mod policy;
mod reentrancy;
mod refresh;
mod settle;
mod slot;
mod source;
pub mod store;
mod sync;
mod threads;
mod token;

pub use builder::Builder;
pub use error::{Error, ErrorKind, FailureClass};
pub use event::Event;
pub use fresh::FreshGuard;
pub use manager::{Stats, TokenManager, Verdict};
pub use policy::{Budget, Execution, Portion};
pub use source::{Attempt, FetchError, Fetched, TokenSource};
pub use store::Store;
pub use store::memory::MemoryStore;
pub use store::redis::{RedisOptions, RedisStore};
pub use token::Token;

/// The pure parts, for this project's own models, simulations and benches. Not part of the public face: any release may
/// change it.
#[doc(hidden)]
pub mod internals {
    pub use crate::clock::Moment;
    pub mod decide {
        pub use crate::decide::*;
    }
    pub mod policy {
        pub use crate::policy::*;
    }
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
