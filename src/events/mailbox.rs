//! Where one follower of a feed is told what happens.

use crate::clock;
use crate::locks::{Condvar, Mutex};
use crate::store::{Change, StoreError, StoreErrorKind};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A flood of events must not fill the memory: the oldest go first.
const MAX_UNREAD: usize = 1_000;

/// Called after something was told.
pub type Poke = Arc<dyn Fn() + Send + Sync>;

pub struct Mailbox {
    told: Mutex<Told>,
    changed: Condvar,
    poke: Option<Poke>,
}

/// What has been told and was not read.
#[derive(Default)]
pub struct Told {
    changes: VecDeque<Change>,
    pub is_followed: bool,
    pub lost: Option<(StoreErrorKind, String)>,
}

impl Told {
    pub fn take_in(&mut self, change: Change) {
        self.changes.push_back(change);
        if self.changes.len() > MAX_UNREAD {
            self.changes.pop_front();
        }
    }

    fn loss(&self) -> Option<StoreError> {
        self.lost.as_ref().map(|(kind, message)| StoreError::new(*kind, message.clone()))
    }
}

impl Mailbox {
    pub fn new(poke: Option<Poke>) -> Mailbox {
        Mailbox { told: Mutex::default(), changed: Condvar::new(), poke }
    }

    /// Notes that the feed follows already.
    pub fn note_followed(&self) {
        self.told.lock().is_followed = true;
    }

    pub fn tell(&self, say: impl FnOnce(&mut Told)) {
        say(&mut self.told.lock());
        self.changed.notify_all();
        if let Some(poke) = &self.poke {
            poke();
        }
    }

    /// Waits until the feed follows what is followed.
    ///
    /// # Errors
    /// When it is lost, or does not within the deadline.
    pub fn wait_until_followed(&self, deadline: Instant) -> Result<(), StoreError> {
        let mut told = self.told.lock();
        while told.lost.is_none() && !told.is_followed {
            if clock::left(deadline).is_zero() {
                let message = "the store did not confirm the subscription in time";
                return Err(StoreError::new(StoreErrorKind::Unreachable, message));
            }
            self.changed.wait_until(&mut told, deadline);
        }
        told.loss().map_or(Ok(()), Err)
    }

    /// Waits for the next change, at most so long; `None` when none came.
    ///
    /// # Errors
    /// When all that was told is read, and the feed is lost.
    pub fn next(&self, at_most: Duration) -> Result<Option<Change>, StoreError> {
        let deadline = (!at_most.is_zero()).then(|| clock::deadline(at_most));
        let mut told = self.told.lock();
        loop {
            if let Some(change) = told.changes.pop_front() {
                return Ok(Some(change));
            }
            if let Some(loss) = told.loss() {
                return Err(loss);
            }
            match deadline.filter(|deadline| !clock::left(*deadline).is_zero()) {
                Some(deadline) => drop(self.changed.wait_until(&mut told, deadline)),
                None => return Ok(None),
            }
        }
    }
}
