//! The lock and the condition variable of `flight.rs`, named here so that a schedule explorer can bring its own.

pub use crate::condvar::{Condvar, Mutex};
