//! A lock and a condition variable of the standard library in parking_lot's shape: their broadcast serves 100 threads in
//! two thirds of the time, because parking_lot has each thread wake the next.

use crate::clock;
use std::ops::{Deref, DerefMut};
use std::sync::{self, PoisonError, WaitTimeoutResult};
use std::time::Instant;

/// A lock that a panic does not spoil: no code of others runs under it.
pub struct Mutex<T>(sync::Mutex<T>);

impl<T> Mutex<T> {
    pub fn new(value: T) -> Mutex<T> {
        Mutex(sync::Mutex::new(value))
    }

    pub fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard(Some(self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// Holds the lock; empty only while its thread waits.
pub struct MutexGuard<'a, T>(Option<sync::MutexGuard<'a, T>>);

const HELD: &str = "the lock is held";

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect(HELD)
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect(HELD)
    }
}

/// Wakes threads that wait for a change of what a lock guards.
#[derive(Default)]
pub struct Condvar(sync::Condvar);

impl Condvar {
    pub fn new() -> Condvar {
        Condvar::default()
    }

    /// Waits for a notification with the lock given back meanwhile, until the deadline at most.
    pub fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, deadline: Instant) -> WaitTimeoutResult {
        let held = guard.0.take().expect(HELD);
        let (held, timeout) = self.0.wait_timeout(held, clock::left(deadline)).unwrap_or_else(PoisonError::into_inner);
        guard.0 = Some(held);
        timeout
    }

    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}
