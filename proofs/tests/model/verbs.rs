//! What Redis executes, whoever hears of it: the library's own `TokenState`, and the ghost's notes of what must never happen.

use crate::fleet::Fleet;
use crate::state::{FAR, Flaw, Held, Redis, State};
use crate::variants::Rules;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use token_manager::store::rules::TokenState;
use token_manager::store::{Claim, Claimed, Committed, Failure, Grant, Lease, Secret, Stored};
use token_manager::{Budget, FailureClass};

const LONG: Duration = Duration::from_micros(FAR);

impl Fleet {
    pub fn ask(&self, state: &mut State, at: usize, newer_than: u64) -> Claimed {
        let now = if self.rules == Rules::CountedGeneration { 0 } else { state.now + 1 };
        let owner = owner(at);
        let claim = Claim {
            owner: &owner,
            attempt: 1,
            newer_than,
            lease: LONG,
            budget: Some(Budget::per_minute(60).burst(self.burst)),
            egress: "",
        };
        let before = state.redis.egress.spent;
        let claimed = state.redis.ledger.claim(now, &claim, &mut state.redis.egress);
        match &claimed {
            Claimed::Granted { generation, .. } if state.redis.egress.spent != before => {
                state.now = now;
                state.redis.charged += 1;
                if *generation <= state.ghost.granted {
                    state.ghost.flaw = Some(Flaw::GenerationRepeated);
                }
                state.ghost.granted = *generation;
            }
            Claimed::Token(stored) if stored.generation <= state.ghost.invalidated => {
                state.ghost.flaw = Some(Flaw::VoidServed);
            }
            _ => {}
        }
        claimed
    }

    /// What a waiter does that was told of this generation's lease: truly, because nobody is at work under it, or by a false alarm.
    pub fn miss(&self, state: &mut State, told: u64) -> Option<()> {
        let lease = state.redis.ledger.updater.as_ref()?.lease.clone();
        if lease.generation != told {
            return None;
        }
        if state.is_at_work(&lease) {
            state.left.alarms = state.left.alarms.checked_sub(1)?;
            state.ghost.alarms += 1;
        }
        state.redis.ledger.end_missed(state.now, &lease).then_some(())
    }

    pub fn commit(&self, state: &mut State, at: usize, generation: u64, issue: u8) -> Committed {
        let grant =
            Grant { value: secret(issue), left: LONG, life: LONG, age: None, carry: None, carry_lifetime: None };
        let lease = lease(&state.redis.ledger, at, generation);
        let before = state.stored();
        let committed = self.rules.commit(&mut state.redis.ledger, state.now, &lease, &grant);
        if state.stored() < before {
            state.ghost.flaw = Some(Flaw::OlderReplacedNewer);
        }
        committed
    }

    pub fn fail(&self, state: &mut State, at: usize, generation: u64, unknown: bool) {
        let class = if unknown { FailureClass::UnknownOutcome } else { FailureClass::Unavailable };
        let lease = lease(&state.redis.ledger, at, generation);
        let failure = Failure { class, retry_after: Some(LONG), egress: "" };
        let Redis { ledger, egress, .. } = &mut state.redis;
        ledger.record_failure(state.now, &lease, &failure, egress, &mut Vec::new());
    }

    /// What a process asks that has heard an event, true or forged, or that keeps fresh: without the right to fetch.
    pub fn look(&self, state: &mut State, newer_than: u64) -> Option<Stored> {
        let claim = Claim { owner: "", attempt: 1, newer_than, lease: LONG, budget: None, egress: "" };
        let Redis { ledger, egress, .. } = &mut state.redis;
        match ledger.claim(state.now, &claim, egress) {
            Claimed::Token(stored) => Some(stored),
            _ => None,
        }
    }

    pub fn offer(&self, state: &mut State, held: Held) {
        let token =
            Stored { generation: held.generation, value: secret(held.issue), left: LONG, life: LONG, doubted: false };
        let before = state.stored();
        state.redis.ledger.offer(state.now, &token, &mut Vec::new());
        if state.stored() < before {
            state.ghost.flaw = Some(Flaw::OlderReplacedNewer);
        }
    }
}

pub fn invalidate(state: &mut State, generation: u64) {
    state.redis.ledger.invalidate(state.now, generation, &mut Vec::new());
    state.ghost.invalidated = state.ghost.invalidated.max(generation);
}

/// Returns the lease of a generation; a flight that has ended bears the attempt under which Redis knows it.
fn lease(ledger: &TokenState, at: usize, generation: u64) -> Lease {
    let known = ledger.updater.as_ref().filter(|updater| updater.lease.generation == generation);
    Lease { owner: owner(at), attempt: known.map_or(1, |updater| updater.lease.attempt), generation }
}

pub fn owner(at: usize) -> Arc<str> {
    static OWNERS: LazyLock<[Arc<str>; 4]> = LazyLock::new(|| ["0", "1", "2", "3"].map(Arc::from));
    OWNERS[at].clone()
}

fn secret(issue: u8) -> Secret {
    static SECRETS: LazyLock<Vec<Secret>> =
        LazyLock::new(|| (0..32).map(|issue: u8| Secret::new(issue.to_string())).collect());
    SECRETS[usize::from(issue)].clone()
}
