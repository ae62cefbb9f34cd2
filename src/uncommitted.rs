//! A fetched token until the store has it: what is left of its time, in the forms that the store and the process take.

use crate::bytes::{Reader, Writer};
use crate::clock::Moment;
use crate::journal::Entry;
use crate::locks::Mutex;
use crate::source::Fetched;
use crate::store::{Grant, Lease, Stored, TokenName};
use crate::token::Secret;
use std::time::Duration;

pub struct Uncommitted {
    pub lease: Lease,
    pub fetched: Fetched,
    /// The moment before the issuer was asked.
    pub asked_at: Moment,
    pub received_at: Moment,
    /// How long the token could be used when it was received.
    pub usable: Duration,
    /// Where it survives this process.
    pub entry: Option<Entry>,
}

/// The version of the form in a journal.
const VERSION: u8 = 1;

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

    /// Writes it down for another process: the store's place and the token's name first, secrets in clear, times by the wall clock.
    pub fn encode(&self, place: &str, name: &TokenName) -> Vec<u8> {
        let mut out = Writer::new(VERSION);
        out.text(place);
        let TokenName { namespace, group, name, grant } = name;
        [namespace, group, name, grant, &self.lease.owner].into_iter().for_each(|text| out.text(text));
        [self.lease.attempt, self.lease.generation].into_iter().for_each(|number| out.number(number));
        let Fetched { secret, lifetime, carry, carry_lifetime } = &self.fetched;
        out.text(secret.reveal());
        out.length(*lifetime);
        out.option(carry, |out, carry| out.text(carry.reveal()));
        out.option(carry_lifetime, |out, lifetime| out.length(*lifetime));
        [self.asked_at.wall, self.received_at.wall].into_iter().for_each(|wall| out.number(wall));
        out.length(self.usable);
        out.0
    }

    /// Reads what another process wrote down of the token of this name in this place.
    pub fn decode(bytes: &[u8], place: &str, name: &TokenName) -> Option<Uncommitted> {
        let (VERSION, mut from) = Reader::new(bytes)? else { return None };
        for part in [place, &name.namespace, &name.group, &name.name, &name.grant] {
            Some(()).filter(|()| from.text() == Some(part))?;
        }
        let lease = Lease { owner: from.text()?.into(), attempt: from.number()?, generation: from.number()? };
        let fetched = Fetched {
            secret: Secret::new(from.text()?),
            lifetime: from.length()?,
            carry: from.option(|from| from.text().map(Secret::new))?,
            carry_lifetime: from.option(Reader::length)?,
        };
        let (now, walls) = (Moment::now(), [from.number()?, from.number()?]);
        // The monotonic clock of another process, or of another start of the machine, tells nothing here.
        let [asked_at, received_at] =
            walls.map(|wall| Moment { mono: now.mono.saturating_sub(now.wall.saturating_sub(wall)), wall });
        let usable = from.length()?;
        from.is_at_end().then_some(Uncommitted { lease, fetched, asked_at, received_at, usable, entry: None })
    }

    /// Forgets the copy that survives this process.
    pub fn settled(self) {
        if let Some(Err(error)) = self.entry.map(Entry::remove) {
            log::warn!(target: "token_manager", "a file of the journal cannot be removed: {error}");
        }
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
