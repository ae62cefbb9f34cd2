//! What `flight/single.rs`, `cache.rs` and `slot.rs` share between threads, named here so that a schedule explorer can bring its own.

pub use crate::locks::{Condvar, Mutex, RwLock};
pub use std::sync::atomic::{AtomicU64, Ordering};
pub use std::thread_local;
