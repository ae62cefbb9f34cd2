//! Who runs code of others on whose behalf, and who waits for whom: a source that asks for a token which only it could bring,
//! directly or through other managers, gets an error and not a deadlock.

use crate::error::Error;
use crate::fork::PerProcess;
use crate::locks::Mutex;
use std::cell::RefCell;
use std::sync::OnceLock;

thread_local! {
    /// On whose behalf this thread runs code of others, innermost last: the states' numbers.
    static INSIDE: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// Marks the thread as running a flight, so that waiting for that flight on it is an error and not a deadlock.
pub struct ReentrancyGuard;

impl ReentrancyGuard {
    pub fn enter(state: u64) -> ReentrancyGuard {
        // A thread that is ending may have lost its list; then it is taken for one that runs no flight.
        let _ = INSIDE.try_with(|inside| inside.borrow_mut().push(state));
        ReentrancyGuard
    }

    pub fn is_inside(state: u64) -> bool {
        INSIDE.try_with(|inside| inside.borrow().contains(&state)).unwrap_or(false)
    }
}

impl Drop for ReentrancyGuard {
    fn drop(&mut self) {
        let _ = INSIDE.try_with(|inside| inside.borrow_mut().pop());
    }
}

/// Who waits, and for whom.
type Waits = Vec<(u64, u64)>;

/// The waits of all threads that run a flight themselves. A forked child begins with none.
static WAITS: OnceLock<PerProcess<Mutex<Waits>>> = OnceLock::new();

pub fn waits() -> &'static Mutex<Waits> {
    WAITS.get_or_init(Default::default).get(Default::default)
}

/// A wait for a flight, noted until it is over if the thread runs a flight itself.
pub struct Waiting(Waits);

impl Waiting {
    /// Notes that this thread is going to wait for the flight of this state.
    ///
    /// # Errors
    /// If that flight waits, through however many others, for one that this thread runs: neither would ever end.
    pub fn begin(state: u64) -> Result<Waiting, Error> {
        let inside = INSIDE.try_with(|inside| inside.borrow().clone()).unwrap_or_default();
        let own: Waits = inside.iter().map(|running| (*running, state)).collect();
        if own.is_empty() {
            return Ok(Waiting(own));
        }
        let mut waits = waits().lock();
        let mut awaited = vec![state];
        let mut next = 0;
        while let Some(&next_state) = awaited.get(next) {
            if inside.contains(&next_state) {
                return Err(Error::reentrant());
            }
            let further = waits.iter().filter(|(waiter, _)| *waiter == next_state).map(|(_, awaited)| *awaited);
            let new: Vec<_> = further.filter(|state| !awaited.contains(state)).collect();
            awaited.extend(new);
            next += 1;
        }
        waits.extend(&own);
        Ok(Waiting(own))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.0.is_empty() {
            return;
        }
        let mut waits = waits().lock();
        for wait in &self.0 {
            // Not there in a child that was forked meanwhile.
            if let Some(at) = waits.iter().position(|noted| noted == wait) {
                waits.swap_remove(at);
            }
        }
    }
}
