//! The protocol's rules, one method a verb, as the Lua scripts have them. Pure: the time comes in as an argument, in
//! microseconds; every effect is in the ledger and in the list of changes to announce.

use super::{Change, Claim, Claimed, Committed, Cooling, Grant, Inspection, Lease, Stored};
use crate::error::FailureClass;
use crate::policy::{FIRST_COOL_DOWN, LONGEST_COOL_DOWN, LONGEST_PAUSE, ON_THE_WAY, SHORTEST_LIFE};
use crate::token::Secret;
use std::time::Duration;

/// What the store holds of one token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ledger {
    pub token: Option<StoredToken>,
    pub updater: Option<Updater>,
    pub meta: Meta,
    pub carry: Option<(Secret, Option<u64>)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StoredToken {
    pub generation: u64,
    pub value: Secret,
    pub life: Duration,
    pub expires_at: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Updater {
    pub lease: Lease,
    pub expires_at: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Meta {
    pub granted: u64,
    pub void: u64,
    pub doubt: u64,
    pub cooling: Option<(u64, FailureClass)>,
    pub fails: u64,
}

impl Ledger {
    /// Forgets what has expired by `now`, as Redis does by itself.
    fn expire(&mut self, now: u64) {
        self.token.take_if(|token| token.expires_at <= now);
        self.updater.take_if(|updater| updater.expires_at <= now);
        self.carry.take_if(|(_, expires_at)| expires_at.is_some_and(|at| at <= now));
    }

    /// `claim.lua`. `arrival` is the budget's theoretical arrival time.
    pub fn claim(&mut self, now: u64, claim: &Claim<'_>, arrival: &mut u64) -> Claimed {
        self.expire(now);
        if let Some(stored) = self.newer_than(now, claim.newer_than) {
            return Claimed::Token(stored);
        }
        let carry = self.carry.as_ref().map(|(secret, _)| secret.clone());
        if let Some(Updater { lease, expires_at }) = &self.updater {
            if *lease.owner == *claim.owner && lease.attempt == claim.attempt {
                return Claimed::Granted { generation: lease.generation, carry };
            }
            return Claimed::Busy { lease_left: micros(expires_at - now) };
        }
        if let Some(cooling) = self.cooling(now) {
            return Claimed::Cooling(cooling);
        }
        let (emission, burst) = claim.emission_and_burst();
        if burst == 0 {
            return Claimed::Limited { retry_after: micros(emission) };
        }
        let ahead = u64::from(burst) * emission;
        if *arrival > now + ahead + LONGEST_COOL_DOWN.as_micros() as u64 {
            *arrival = now + ahead; // a failover has set the clock back
        }
        let next = (*arrival).max(now) + emission;
        if next > now + ahead {
            return Claimed::Limited { retry_after: micros(next - ahead - now) };
        }
        *arrival = next;

        let stored = self.token.as_ref().map_or(0, |token| token.generation);
        let generation = now.max(self.meta.granted.max(self.meta.void).max(stored).max(claim.newer_than) + 1);
        self.meta.granted = generation;
        let lease = Lease { owner: claim.owner.into(), attempt: claim.attempt, generation };
        self.updater = Some(Updater { lease, expires_at: now + claim.lease.as_micros() as u64 });
        Claimed::Granted { generation, carry }
    }

    /// `renew.lua`.
    pub fn renew(&mut self, now: u64, lease: &Lease, length: Duration) -> bool {
        self.expire(now);
        match &mut self.updater {
            Some(updater) if updater.lease == *lease => {
                updater.expires_at = now + length.as_micros() as u64;
                true
            }
            _ => false,
        }
    }

    /// `commit.lua`.
    pub fn commit(&mut self, now: u64, lease: &Lease, grant: &Grant, changes: &mut Vec<Change>) -> Committed {
        self.expire(now);
        let generation = lease.generation;
        let stored = self.token.as_ref().map_or(0, |token| token.generation);
        if stored == generation {
            return Committed::Written { doubted: generation <= self.meta.doubt }; // the first reply was lost
        }
        if self.updater.take_if(|updater| updater.lease == *lease).is_none() {
            self.doubt_all(generation, changes);
        }
        self.meta.cooling = None;
        self.meta.fails = 0;
        if stored > generation {
            return self.newer_than(now, generation).map_or(Committed::Void, Committed::Superseded);
        }
        if generation <= self.meta.void {
            return Committed::Void;
        }
        let late = grant.age.map_or(Duration::ZERO, |age| micros(now.saturating_sub(generation)).saturating_sub(age));
        let left = if late > ON_THE_WAY { grant.left.saturating_sub(late) } else { grant.left.max(SHORTEST_LIFE) };
        if let Some(carry) = &grant.carry {
            let expires_at = grant.carry_lifetime.map(|lifetime| now + lifetime.as_micros() as u64);
            self.carry = Some((carry.clone(), expires_at));
        }
        if left < SHORTEST_LIFE {
            return Committed::Void;
        }
        self.token = Some(StoredToken {
            generation,
            value: grant.value.clone(),
            life: grant.life,
            expires_at: now + left.as_micros() as u64,
        });
        changes.push(Change::Committed(generation));
        Committed::Written { doubted: generation <= self.meta.doubt }
    }

    /// `fail.lua`.
    pub fn fail(
        &mut self,
        now: u64,
        lease: &Lease,
        class: FailureClass,
        retry_after: Option<Duration>,
        changes: &mut Vec<Change>,
    ) -> Option<Cooling> {
        self.expire(now);
        if class == FailureClass::UnknownOutcome {
            self.doubt_all(lease.generation, changes);
        }
        if self.updater.take_if(|updater| updater.lease == *lease).is_some() {
            self.meta.fails += 1;
            let pause = retry_after.unwrap_or_else(|| cool_down(class, self.meta.fails, now)).min(LONGEST_PAUSE);
            self.meta.cooling = Some((now + pause.as_micros() as u64, class));
            changes.push(Change::Failed(class));
        }
        self.cooling(now)
    }

    /// `invalidate.lua`.
    pub fn invalidate(&mut self, now: u64, generation: u64, changes: &mut Vec<Change>) {
        self.expire(now);
        if generation > self.meta.void {
            self.meta.void = generation;
            self.token.take_if(|token| token.generation == generation);
            changes.push(Change::Void(generation));
        }
    }

    /// Whether the updater key is there.
    pub fn busy(&mut self, now: u64) -> bool {
        self.expire(now);
        self.updater.is_some()
    }

    /// `inspect.lua`.
    pub fn inspect(&mut self, now: u64, arrival: u64) -> Inspection {
        self.expire(now);
        Inspection {
            token: self.token.as_ref().map(|token| (token.generation, micros(token.expires_at - now))),
            updater: self.updater.as_ref().map(|updater| (updater.lease.to_string(), micros(updater.expires_at - now))),
            granted: self.meta.granted,
            void: self.meta.void,
            doubt: self.meta.doubt,
            cooling: self.cooling(now),
            fails: self.meta.fails,
            carries: self.carry.is_some(),
            budget_spent: micros(arrival.saturating_sub(now)),
        }
    }

    fn newer_than(&self, now: u64, generation: u64) -> Option<Stored> {
        let token = self.token.as_ref().filter(|token| token.generation > generation.max(self.meta.void))?;
        Some(Stored {
            generation: token.generation,
            value: token.value.clone(),
            left: micros(token.expires_at - now),
            life: token.life,
            doubted: token.generation <= self.meta.doubt,
        })
    }

    fn cooling(&self, now: u64) -> Option<Cooling> {
        let (until, class) = self.meta.cooling.filter(|(until, _)| *until > now)?;
        // No pause is longer: a failover has set the clock back since.
        Some(Cooling { retry_after: micros(until - now), class }).filter(|cooling| cooling.retry_after <= LONGEST_PAUSE)
    }

    /// Nobody knows in which order the issuer granted what has been granted so far.
    fn doubt_all(&mut self, generation: u64, changes: &mut Vec<Change>) {
        self.meta.granted = self.meta.granted.max(generation);
        self.meta.doubt = self.meta.doubt.max(self.meta.granted);
        changes.push(Change::Doubted(self.meta.doubt));
    }
}

/// The pause after the `fails`-th failure in a row: doubling, with up to a quarter more taken from the clock's digits.
fn cool_down(class: FailureClass, fails: u64, now: u64) -> Duration {
    let first = if class == FailureClass::Rejected { LONGEST_COOL_DOWN } else { FIRST_COOL_DOWN };
    let pause = (first * 2u32.pow((fails.saturating_sub(1)).min(6) as u32)).min(LONGEST_COOL_DOWN).as_millis() as u64;
    Duration::from_millis(pause + pause * (now % 1000) / 4000)
}

fn micros(count: u64) -> Duration {
    Duration::from_micros(count)
}
