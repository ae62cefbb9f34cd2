//! What the tests, examples and benches of token-manager run against: a real issuer, a real Redis, real processes, and stores
//! and proxies that fail when they are told to.

pub mod certificates;
pub mod child;
pub mod client;
pub mod fleet;
pub mod fleet_child;
pub mod gate;
pub mod hooked_store;
pub mod issuer;
pub mod keys;
pub mod oidc;
pub mod options;
pub mod proxy;
pub mod redis_cluster;
pub mod redis_server;
mod resp;
pub mod sentinels;
pub mod soak;
pub mod stand_in;
mod summary;
mod support;
pub mod tap;
pub mod waits;
pub mod worker;
pub mod worker_handle;

pub use support::{Backing, LONG, Script, commit_elsewhere, on_threads, threads_named, wait_until};
