//! The protocol's rules, one method a verb: what the Lua scripts do in Redis, for stores that change their states themselves.
//!
//! Pure: the time comes in as an argument, in microseconds since 1970 by the one clock that all processes of the fleet share;
//! every effect is in the states and in the list of changes, which the store announces once they are kept. Whoever
//! has a place that can change two values in one step makes a whole store of it with [`StateStore`](super::StateStore).

mod encoding;
mod state;

use super::{Carried, Change, Claim, Claimed, Committed, Failure, Grant, Inspection, Lease, Pause, Stored};
use crate::error::FailureClass;
use crate::policy::{COMMIT_TRANSIT, FIRST_PAUSE, MAX_BACKOFF, MAX_PAUSE, MIN_LIFE};
use crate::token::Secret;
use state::after;
pub use state::{Carry, EgressState, FleetPause, GrantState, Meta, Presented, Span, StoredToken, TokenState, Updater};
use std::time::Duration;

impl TokenState {
    /// Answers a claim: with a token newer than it names, or with the right to fetch one, or with what stands against that.
    /// As `claim.lua`.
    pub fn claim(&mut self, now: u64, claim: &Claim<'_>, egress: &mut EgressState) -> Claimed {
        self.expire(now);
        egress.expire(now);
        if let Some(stored) = self.served(now).filter(|stored| stored.generation > claim.newer_than) {
            return Claimed::Token(stored);
        }
        if let Some(Updater { lease, span }) = &self.updater {
            if *lease.owner == *claim.owner && lease.attempt == claim.attempt {
                let lease = lease.clone();
                return Claimed::Granted { generation: lease.generation, carry: self.hand_out_carry(now, &lease) };
            }
            return Claimed::Busy { lease_left: span.left(now) };
        }
        if let Some(pause) = self.pause(now, egress) {
            return Claimed::Paused(pause);
        }
        let (emission, burst) = emission_and_burst(claim);
        if burst == 0 {
            return Claimed::Limited { retry_after: micros(emission) };
        }
        let ahead = u64::from(burst) * emission;
        let spent = egress.spent.map_or(now, |spent| spent.ends_at.min(now + ahead));
        let arrival = spent + emission;
        if arrival > now + ahead {
            return Claimed::Limited { retry_after: micros(arrival - ahead - now) };
        }
        egress.spent = Some(Span { ends_at: arrival, length: micros(ahead) });

        let stored = self.token.as_ref().map_or(0, |token| token.generation);
        let Meta { granted, invalidated, doubted, latest, .. } = self.meta;
        let known = granted.max(latest).max(invalidated).max(doubted).max(stored).max(claim.newer_than);
        let generation = now.max(known.saturating_add(1));
        (self.meta.granted, self.meta.latest) = (generation, generation);
        let lease = Lease { owner: claim.owner.into(), attempt: claim.attempt, generation };
        let carry = self.hand_out_carry(now, &lease);
        self.updater = Some(Updater { lease, span: Span::new(now, claim.lease) });
        Claimed::Granted { generation, carry }
    }

    /// Extends a lease, counted from now; false if it is lost. As `renew.lua`.
    pub fn renew(&mut self, now: u64, lease: &Lease, length: Duration) -> bool {
        self.expire(now);
        match &mut self.updater {
            Some(updater) if updater.lease == *lease => {
                updater.span = Span::new(now, length);
                true
            }
            _ => false,
        }
    }

    /// Ends a lease whose updater is missing, for a store that can tell, and tells of nobody else's; false if it is lost. All
    /// that can go wrong then can go wrong after any lease that ended. As `presence.lua`.
    pub fn end_missed(&mut self, now: u64, lease: &Lease) -> bool {
        self.expire(now);
        self.updater.take_if(|updater| updater.lease == *lease).is_some()
    }

    /// Stores a fetched token and gives the lease back. As `commit.lua`.
    pub fn commit(&mut self, now: u64, lease: &Lease, grant: &Grant, changes: &mut Vec<Change>) -> Committed {
        self.expire(now);
        let generation = lease.generation;
        let stored = self.token.as_ref().map_or(0, |token| token.generation);
        if stored == generation && self.token.as_ref().is_some_and(|token| token.value == grant.value) {
            return Committed::Written { doubted: generation <= self.meta.doubted }; // the first reply was lost
        }
        let leads = self.updater.take_if(|updater| updater.lease == *lease).is_some();
        // Nobody can have asked the issuer after the last grant, even if its lease is over.
        let last = leads || (self.updater.is_none() && self.meta.granted == generation);
        if !last || stored == generation {
            self.doubt_all(now, generation, changes);
        }
        if self.meta.pause.as_ref().is_none_or(|pause| pause.generation <= generation) {
            self.meta.pause = None;
            self.meta.fails = 0;
        }
        match (&grant.carry, &mut self.carry) {
            // The last one counts, whatever becomes of its token.
            (Some(secret), carry) if carry.as_ref().is_none_or(|carry| carry.generation < generation) => {
                let expires_at = grant.carry_lifetime.map(|lifetime| after(now, lifetime));
                *carry = Some(Carry { secret: secret.clone(), expires_at, generation, presented: None });
            }
            // The issuer still takes it.
            (None, Some(carry)) if leads => carry.presented = None,
            (None, Some(carry)) => carry.withdraw(lease),
            _ => {}
        }
        if stored >= generation {
            return self.served(now).map_or(Committed::Invalid, Committed::Superseded);
        }
        if generation <= self.meta.invalidated {
            return Committed::Invalid;
        }
        let late = grant.age.map_or(Duration::ZERO, |age| micros(now.saturating_sub(generation)).saturating_sub(age));
        let left = if late > COMMIT_TRANSIT { grant.left.saturating_sub(late) } else { grant.left.max(MIN_LIFE) };
        if left < MIN_LIFE {
            return Committed::Invalid;
        }
        self.put(now, generation, &grant.value, left, grant.life, changes);
        Committed::Written { doubted: generation <= self.meta.doubted }
    }

    /// Records a failed fetch and gives the lease back; returns the pause that the reporter has to keep. As
    /// `record_failure.lua`.
    pub fn record_failure(
        &mut self,
        now: u64,
        lease: &Lease,
        failure: &Failure<'_>,
        egress: &mut EgressState,
        changes: &mut Vec<Change>,
    ) -> Option<Pause> {
        self.expire(now);
        egress.expire(now);
        let Failure { class, retry_after, .. } = *failure;
        if class == FailureClass::UnknownOutcome {
            self.doubt_all(now, lease.generation, changes);
        } else if let Some(carry) = &mut self.carry {
            carry.withdraw(lease);
        }
        let leads = self.updater.take_if(|updater| updater.lease == *lease).is_some();
        let fails = self.meta.fails.saturating_add(1);
        let length = match retry_after {
            Some(pause) => pause.clamp(FIRST_PAUSE, MAX_PAUSE),
            None => cool_down(class, fails, now),
        };
        if leads {
            changes.push(Change::Failed(class));
        }
        let span = Span::new(now, length);
        match class {
            // Whoever reports it, and however late: the issuer said so.
            FailureClass::Throttled => {
                egress.pause = egress.pause.into_iter().chain([span]).max_by_key(|pause| pause.ends_at);
            }
            // The others may have better credentials, as long as they have a token to go on with.
            FailureClass::CredentialsRejected if leads && self.served(now).is_some() => {
                return Some(Pause { retry_after: length, class });
            }
            _ if leads => {
                self.meta.pause = Some(FleetPause { span, class, generation: lease.generation });
            }
            _ => {}
        }
        if leads {
            self.meta.fails = fails;
        }
        self.pause(now, egress)
    }

    /// Invalidates every generation up to this one. As `invalidate.lua`.
    pub fn invalidate(&mut self, now: u64, generation: u64, changes: &mut Vec<Change>) {
        self.expire(now);
        if generation > self.meta.invalidated {
            self.meta.invalidated = generation;
            self.token.take_if(|token| token.generation == generation);
            changes.push(Change::Invalidated(generation));
        }
    }

    /// Puts back a token that was lost here, unless anything known here speaks against it; returns whether it is here now. As
    /// `offer.lua`.
    pub fn offer(&mut self, now: u64, token: &Stored, changes: &mut Vec<Change>) -> bool {
        self.expire(now);
        let Stored { generation, value, left, life, .. } = token;
        if let Some(stored) = &self.token
            && stored.generation >= *generation
        {
            return stored.generation == *generation && stored.value == *value;
        }
        if self.updater.is_some()
            || *generation < self.meta.granted
            || *generation <= self.meta.invalidated.max(self.meta.doubted)
        {
            return false;
        }
        self.meta.granted = *generation;
        self.put(now, *generation, value, *left, *life, changes);
        true
    }

    /// Ends the pauses of the fleet and of the egress. As `lift_pause.lua`.
    pub fn lift_pause(&mut self, egress: &mut EgressState) {
        self.meta.pause = None;
        self.meta.fails = 0;
        egress.pause = None;
    }

    /// Returns whether a process holds the lease.
    pub fn has_updater(&mut self, now: u64) -> bool {
        self.expire(now);
        self.updater.is_some()
    }

    /// Tells what is known of the token. As `inspect.lua`.
    pub fn inspect(&mut self, now: u64, egress: &mut EgressState) -> Inspection {
        self.expire(now);
        egress.expire(now);
        Inspection {
            token: self.token.as_ref().map(|token| (token.generation, micros(token.expires_at - now))),
            updater: self.updater.as_ref().map(|updater| (updater.lease.to_string(), updater.span.left(now))),
            granted: self.meta.granted,
            invalidated: self.meta.invalidated,
            doubted: self.meta.doubted,
            pause: self.pause(now, egress),
            fails: self.meta.fails,
            carries: self.carry.is_some(),
            budget_spent: egress.spent.map_or(Duration::ZERO, |spent| spent.left(now)),
        }
    }

    /// Returns the carried secret with what this lease is to know of its presentation, and marks it as presented by this lease.
    fn hand_out_carry(&mut self, now: u64, lease: &Lease) -> Option<Carried> {
        let Carry { secret, generation, presented, .. } = self.carry.as_mut()?;
        let by_others = presented.take_if(|presented| presented.by.as_ref() != Some(lease));
        // By a clock that was set back it is as long ago as that clock was ahead.
        let age = by_others.as_ref().map(|others| Duration::from_millis(now.abs_diff(others.at) / 1000));
        match by_others {
            // Whoever is the second to present it cannot say any more that it was not consumed.
            Some(Presented { at, .. }) => *presented = Some(Presented { by: None, at }),
            None => drop(presented.get_or_insert(Presented { by: Some(lease.clone()), at: now })),
        }
        Some(Carried { secret: secret.clone(), generation: *generation, presented: age })
    }

    /// Returns the stored token unless it is invalid.
    fn served(&self, now: u64) -> Option<Stored> {
        let token = self.token.as_ref().filter(|token| token.generation > self.meta.invalidated)?;
        Some(Stored {
            generation: token.generation,
            value: token.value.clone(),
            left: micros(token.expires_at - now),
            life: token.life,
            doubted: token.generation <= self.meta.doubted,
        })
    }

    fn put(
        &mut self,
        now: u64,
        generation: u64,
        value: &Secret,
        left: Duration,
        life: Duration,
        changes: &mut Vec<Change>,
    ) {
        let expires_at = after(now, left.max(MIN_LIFE));
        self.token = Some(StoredToken { generation, value: value.clone(), life, expires_at });
        changes.push(Change::Committed(generation));
    }

    /// Returns the pause that ends last.
    fn pause(&self, now: u64, egress: &EgressState) -> Option<Pause> {
        let fleets = self.meta.pause.as_ref().map(|pause| (pause.span, pause.class));
        let own = egress.pause.map(|pause| (pause, FailureClass::Throttled));
        let (span, class) = fleets.into_iter().chain(own).max_by_key(|(span, _)| span.ends_at)?;
        Some(Pause { retry_after: span.left(now), class })
    }

    /// Nobody knows in which order the issuer granted what has been granted so far, be it known here or lost. A generation is a
    /// time, so none of them is above the present.
    fn doubt_all(&mut self, now: u64, generation: u64, changes: &mut Vec<Change>) {
        self.meta.granted = self.meta.granted.max(generation);
        self.meta.doubted = self.meta.doubted.max(self.meta.granted).max(now);
        changes.push(Change::Doubted(self.meta.doubted));
    }
}

/// The pause after the `fails`-th failure in a row: doubling, with up to a quarter more taken from the clock's digits.
fn cool_down(class: FailureClass, fails: u64, now: u64) -> Duration {
    let first = if class == FailureClass::CredentialsRejected { MAX_BACKOFF } else { FIRST_PAUSE };
    let pause = (first * 2u32.pow((fails.saturating_sub(1)).min(6) as u32)).min(MAX_BACKOFF).as_millis() as u64;
    Duration::from_millis(pause + pause * (now % 1000) / 4000)
}

fn micros(count: u64) -> Duration {
    Duration::from_micros(count)
}

/// Returns the microseconds that one fetch uses up and how many may be made at once: none without a budget.
pub(super) fn emission_and_burst(claim: &Claim<'_>) -> (u64, u32) {
    claim.budget.map_or((1_000_000, 0), |budget| (budget.emission_interval().as_micros() as u64, budget.max_burst()))
}
