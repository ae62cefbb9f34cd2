//! A fetched token until the store has it: what is left of its time, in the forms that the store and the process take.

use crate::clock::Moment;
use crate::locks::Mutex;
use crate::source::Fetched;
use crate::store::{Grant, Lease, Stored};
use std::time::Duration;

pub struct Uncommitted {
    pub lease: Lease,
    pub fetched: Fetched,
    /// The moment before the issuer was asked.
    pub asked_at: Moment,
    pub received_at: Moment,
    /// How long the token could be used when it was received.
    pub usable: Duration,
}

impl Uncommitted {
    pub fn generation(&self) -> u64 {
        self.lease.generation
    }

    /// Returns whether nothing of it is of use any more.
    pub fn is_outdated(&self, now: Moment) -> bool {
        self.left(now).is_zero() && self.fetched.carry.is_none()
    }

    fn left(&self, now: Moment) -> Duration {
        self.usable.saturating_sub(now.since(self.received_at))
    }

    /// Returns it as a store that had it would hold it.
    pub fn stored(&self, now: Moment, doubted: bool) -> Stored {
        let (value, life) = (self.fetched.secret.clone(), self.fetched.lifetime);
        Stored { generation: self.generation(), value, left: self.left(now), life, doubted }
    }

    /// Returns it as a commit sends it.
    pub fn grant(&self, now: Moment) -> Grant {
        let Fetched { secret, lifetime, carry, carry_lifetime } = &self.fetched;
        Grant {
            value: secret.clone(),
            left: self.left(now),
            life: *lifetime,
            age: Some(now.since(self.asked_at)),
            carry: carry.clone(),
            carry_lifetime: carry_lifetime.map(|lifetime| lifetime.saturating_sub(now.since(self.received_at))),
        }
    }
}

/// Holds the newest result that no commit could bring to the store. There seldom is one, so managers have no place for it.
#[derive(Default)]
pub struct Kept(Mutex<Option<Box<Uncommitted>>>);

impl Kept {
    /// Keeps a result, unless something newer is kept already.
    pub fn put(&self, result: Uncommitted) {
        let mut kept = self.0.lock();
        if kept.as_ref().is_none_or(|kept| kept.generation() <= result.generation()) {
            *kept = Some(Box::new(result));
        }
    }

    pub fn take(&self) -> Option<Uncommitted> {
        self.0.lock().take().map(|kept| *kept)
    }

    pub fn is_empty(&self) -> bool {
        self.0.lock().is_none()
    }
}
