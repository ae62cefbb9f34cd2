//! The rules under check, and broken ones that the check must find.

use crate::state::State;
use token_manager::store::rules::{StoredToken, TokenState};
use token_manager::store::{Committed, Grant, Lease};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rules {
    /// The library's own.
    Real,
    /// Whoever commits last is believed.
    LastWriterWins,
    /// Only the updater may write, and a late one is turned away without a word.
    OwnerCheck,
    /// The highest generation is believed, and nothing is ever doubted for being late.
    HighestGeneration,
    /// The generation is a counter in Redis, not a time.
    CountedGeneration,
    /// A source that was abandoned and then fails tells nobody.
    SilentAbandoned,
    /// Whoever hears of a newer token claims it, with the right to fetch.
    TrustedEvents,
    /// A token is offered back by whoever holds it, also by one that has not followed every change.
    BlindOffers,
    /// Waiters wait for events alone, and every event is lost.
    EventsAlone,
}

impl Rules {
    pub fn commit(self, ledger: &mut TokenState, now: u64, lease: &Lease, grant: &Grant) -> Committed {
        let leads = ledger.updater.as_ref().is_some_and(|updater| updater.lease == *lease);
        let stored = ledger.token.as_ref().map_or(0, |token| token.generation);
        let writes = match self {
            Rules::LastWriterWins => true,
            Rules::OwnerCheck => leads,
            Rules::HighestGeneration => lease.generation > stored,
            _ => return ledger.commit(now, lease, grant, &mut Vec::new()),
        };
        ledger.updater.take_if(|_| leads);
        ledger.meta.pause = None;
        if !writes || lease.generation <= ledger.meta.invalidated {
            return Committed::Invalid;
        }
        ledger.token = Some(StoredToken {
            generation: lease.generation,
            value: grant.value.clone(),
            life: grant.life,
            expires_at: now + grant.left.as_micros() as u64,
        });
        Committed::Written { doubted: false }
    }

    /// Whether a waiter that was told of this lease asks again: when the lease has gone, which its timer tells if no
    /// event does. With events or without them, it is the same step.
    pub fn wakes(self, state: &State, told: u64) -> bool {
        let lease = state.redis.ledger.updater.as_ref().map(|updater| updater.lease.generation);
        self != Rules::EventsAlone && lease != Some(told)
    }
}
