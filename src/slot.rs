//! The token that this process serves, and what the process knows of generations.

use crate::cache::{CachedToken, SlotHeader};
use crate::clock::Moment;
use crate::decide::{self, Serve};
use crate::policy::FLIGHT_CHECK;
use crate::sync::RwLock;
use crate::token::{Secret, Token};
use std::sync::Arc;
use std::time::Duration;

/// The process's token, behind the header that hits read.
pub struct Slot {
    header: Arc<SlotHeader>,
    held: RwLock<Held>,
}

#[derive(Clone, Default)]
struct Held {
    token: Option<Token>,
    /// The highest generation that this process has had.
    seen: u64,
    /// The highest generation that was invalidated.
    invalidated: u64,
}

impl Slot {
    /// Makes an empty slot behind a new header.
    pub fn new(header: Arc<SlotHeader>) -> Slot {
        Slot { header, held: RwLock::default() }
    }

    /// Makes the slot of a forked child, behind the same header: it goes on with what its parent had. It never waits for the
    /// parent's lock, which a thread that the child does not have may hold; then the calling thread's clone has to do.
    pub fn forked(&self) -> Slot {
        let inherited = self.held.try_read().map(|held| held.clone()).unwrap_or_else(|| {
            let token = self.header.peek_cached();
            Held { seen: token.as_ref().map_or(0, Token::generation), token, invalidated: 0 }
        });
        let slot = Slot::new(self.header.clone());
        let mut held = slot.held.write();
        *held = inherited;
        slot.publish(&held);
        // Whatever the parent was about to do, the child has no flight.
        self.header.allow_refresh();
        drop(held);
        slot
    }

    /// Returns the token if it may be served now, and whether it is due, and keeps a clone for the calling thread's next hits.
    pub fn checkout(&self) -> Option<(Token, Serve)> {
        let held = self.held.read();
        let served = self.served(&held)?;
        // Under the lock the version and the token belong together.
        self.header.put_cached(self.header.version(), &served.0);
        Some(served)
    }

    /// Returns the token as a cache keeps it that threads share.
    pub fn snapshot(&self) -> Option<CachedToken> {
        let held = self.held.read();
        held.token.as_ref().map(|token| CachedToken::new(self.header.version(), token.clone()))
    }

    /// Returns the token if it may be served now, and whether it is due.
    pub fn peek(&self) -> Option<(Token, Serve)> {
        self.served(&self.held.read())
    }

    /// Returns the last token, marked as stale, if it ended no longer ago than this and was not invalidated.
    pub fn stale(&self, limit: Duration) -> Option<Token> {
        let held = self.held.read();
        let last = held.token.as_ref().filter(|token| !Moment::now().reached(token.expires_at().after(limit)))?;
        Some(last.stale())
    }

    fn served(&self, held: &Held) -> Option<(Token, Serve)> {
        let token = held.token.as_ref()?;
        let serve = self.header.serve(Moment::now(), token);
        (serve != Serve::Wait).then(|| (token.clone(), serve))
    }

    /// Takes a token into use unless it is invalidated or older than one this process has had; returns whether it did.
    pub fn adopt(&self, token: Token) -> bool {
        let mut held = self.held.write();
        if token.generation() <= held.invalidated || token.generation() < held.seen {
            return false;
        }
        // The store's clock may have been set back since the token was taken first: its end does not move.
        let token = match &held.token {
            Some(last) if last.generation() == token.generation() => token.ending_no_later_than(last),
            _ => token,
        };
        held.seen = token.generation();
        held.token = Some(token);
        self.publish(&held);
        true
    }

    /// Invalidates every generation up to this one; false if it was so before.
    pub fn invalidate(&self, generation: u64) -> bool {
        let mut held = self.held.write();
        if generation <= held.invalidated {
            return false;
        }
        held.invalidated = generation;
        held.token.take_if(|token| token.generation() <= generation);
        self.publish(&held);
        true
    }

    /// Makes the token due at once if its generation is doubted.
    pub fn doubt(&self, generation: u64) {
        let mut held = self.held.write();
        let Some(token) = held.token.as_mut().filter(|token| token.generation() <= generation) else { return };
        *token = token.due_from(Moment::now());
        self.publish(&held);
    }

    /// Notes the whole life of the token that was adopted last.
    pub fn note_life(&self, life: Duration) {
        self.header.note_life(life);
    }

    /// Returns the whole life of the present token.
    pub fn life(&self) -> Duration {
        self.header.life()
    }

    /// Returns which generations are no answer to the next claim.
    pub fn newer_than(&self) -> u64 {
        let held = self.held.read();
        let now = Moment::now();
        let last = held.token.as_ref().filter(|token| decide::wants_a_newer_one(now, token.expires_at()));
        decide::newer_than(last.map(Token::generation), held.seen, held.invalidated)
    }

    /// Returns whether the process holds this secret already, under an earlier generation.
    pub fn holds_secret(&self, secret: &Secret, generation: u64) -> bool {
        let held = self.held.read();
        held.token.as_ref().is_some_and(|token| token.generation() < generation && token.secret() == secret.reveal())
    }

    /// Returns a number that changes with the token and what is known of it.
    pub fn version(&self) -> u64 {
        self.header.version()
    }

    /// Returns whether the process holds this generation.
    pub fn holds(&self, generation: u64) -> bool {
        self.held.read().token.as_ref().is_some_and(|token| token.generation() == generation)
    }

    /// Returns whether a token of this generation would be adopted.
    pub fn accepts(&self, generation: u64) -> bool {
        let held = self.held.read();
        generation > held.invalidated && generation >= held.seen
    }

    /// Returns the highest generation that this process has had.
    pub fn seen(&self) -> u64 {
        self.held.read().seen
    }

    /// Lets no refresh start before then.
    pub fn postpone_refresh(&self, until: Moment) {
        self.header.postpone(until);
    }

    /// Lets hits off looking for a while, because a flight has started. After a while they look whether it still runs.
    pub fn postpone_for_flight(&self) {
        self.header.postpone(Moment::now().after(FLIGHT_CHECK));
    }

    /// Does so again if `running` says that a flight still runs; returns what it said.
    pub fn postpone_while(&self, running: impl FnOnce() -> bool) -> bool {
        self.header.postpone_while(Moment::now().after(FLIGHT_CHECK), running)
    }

    /// Makes all threads' clones stale; the caller holds the write lock.
    fn publish(&self, held: &Held) {
        self.header.publish(held.token.is_some());
    }
}
