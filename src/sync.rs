//! The lock and the condition variable of `flight.rs`, named here so that a schedule explorer can bring its own.

pub use parking_lot::{Condvar, Mutex};
