//! What `flight.rs` and `slot.rs` share between threads, named here so that a schedule explorer can bring its own.

pub use crate::condvar::{Condvar, Mutex};
pub use parking_lot::RwLock;
pub use std::sync::atomic::{AtomicU64, Ordering};
pub use std::thread_local;
