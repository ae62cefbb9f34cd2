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
//! - **expired, invalidated, absent**: the caller waits for the process's one flight, within its own deadline;
//! - **failed**: everyone who waits gets the flight's error, unless the old token is still valid; a used-up budget is waited
//!   for if the deadline allows.
//!
//! It is an efficiency lock with a correct value, never a mutex: at most one fetch per token life while the store is well,
//! and no more than the [`Budget`] whatever fails. [`documents`] has the promises and the reasons.
//!
//! The feature `tls`, on by default, has `rediss://`; `pool` adds [`RedisStore`]`::from_pool`; `contract` adds [`store`]`::contract`,
//! the checks that a store of your own has to pass; `sealed` adds [`store`]`::SealedStore`, in which tokens lie encrypted;
//! `metrics` tells the recorder of the crate of that name what [`Stats`] counts.
//!
//! # The files
//!
//! Imports only go down this table, row by row:
//!
//! | layer | files | duty |
//! |---|---|---|
//! | 10 | `managers` | what programs with many tokens call |
//! | 9 | `builder` `keys` `openmetrics` | the settings of a manager, one by one, and the one place that refuses them; the map of many tokens; what managers count, as text |
//! | 8 | `manager` | what programs call |
//! | 7 | `acquire` `keep_fresh` `keep_fresh/scheduler` `keep_fresh/step` `keep_fresh/keeper` | a caller's slow path; the thread that follows every commit |
//! | 6 | `flight` `flight/run` | the course of a flight |
//! | 5 | `flight/fetch` `flight/updater_wait` | running the source; waiting for another process |
//! | 4 | `flight/settle` | commits and failures |
//! | 3 | `state` | what one process knows of one token |
//! | 2 | `slot` `cache` `failures` `facade` `uncommitted` `settings` `events` `events/mailbox` `identity` `reentrancy` `flight/single` `store/redis` `store/file` `store/memory` `store/sealed` `store/when_away` | its parts; the stores |
//! | 1 | `decide` `store/rules` `store` `store/messages` `store/feed` `store/error` `source` `event` `stats` `policy` | decisions and the protocol, pure; the seams to store, issuer and observer; numbers |
//! | 0 | `token` `error` `clock` `fork` `locks` `sync` `threads` `workers` `bytes` `journal` | secrets, errors, time, one value a process, locks, threads, bytes, files |
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod acquire;
mod builder;
mod bytes;
mod cache;
mod clock;
mod decide;
mod error;
mod event;
mod events;
#[cfg(feature = "metrics")]
mod facade;
mod failures;
mod flight;
mod fork;
mod identity;
mod journal;
mod keep_fresh;
mod keys;
mod locks;
mod manager;
mod managers;
mod openmetrics;
mod policy;
mod reentrancy;
mod settings;
mod slot;
mod source;
mod state;
mod stats;
pub mod store;
mod sync;
mod threads;
mod token;
mod uncommitted;
mod workers;

pub use builder::Builder;
pub use error::{Error, ErrorKind, FailureClass};
pub use event::Event;
pub use keep_fresh::FreshGuard;
pub use manager::{TokenManager, Verdict};
pub use managers::{KeyedBuilder, TokenManagers};
pub use openmetrics::{Counted, openmetrics};
pub use policy::{Budget, Execution, Portion};
pub use source::{Attempt, FetchError, Fetched, TokenSource};
pub use stats::{ByClass, ByKind, Histogram, Stats};
pub use store::Store;
pub use store::file::FileStore;
pub use store::memory::MemoryStore;
pub use store::redis::{Login, RedisOptions, RedisStore, Tls};
pub use token::Token;

/// The pure parts, for this project's own models, simulations, benches and C ABI. Not part of the public face: any release
/// may change it.
#[doc(hidden)]
pub mod internals {
    pub use crate::clock::Moment;
    pub use crate::fork::PerProcess;
    #[cfg(target_os = "linux")]
    pub use crate::store::file::remote_kind;
    pub mod decide {
        pub use crate::decide::*;
    }
    pub mod policy {
        pub use crate::policy::*;
    }
}

/// The project's documents.
#[cfg(doc)]
pub mod documents {
    #[doc = include_str!("../DESIGN.md")]
    pub mod design {}
    #[doc = include_str!("../PROMISES.md")]
    pub mod promises {}
    #[doc = include_str!("../doc/operating.md")]
    pub mod operating {}
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
