//! All decisions. Pure: no clock, no lock, no thread, no store; time and chance come in as arguments.

use crate::clock::Moment;
use crate::error::ErrorKind;
use crate::policy::{AFTER_LEASE, FAILURE_MEMORY, POLL, SAFETY_POLL, STORE_CHECK, STORE_PAUSE};
use crate::store::{Claimed, Cooling, Stored};
use crate::token::Secret;
use std::time::Duration;

/// What a token at hand is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtHand {
    /// Serve it.
    Fresh,
    /// Serve it and start a refresh.
    Due,
    /// Wait for another.
    Gone,
}

/// Tells fresh from due and expired; `refresh_at` is not after `expires_at`. `not_before` is the moment of the next
/// attempt, in nanoseconds of the monotonic clock: after a failed refresh, or of the next look at a running flight.
#[inline]
pub fn at_hand(now: Moment, refresh_at: Moment, expires_at: Moment, not_before: u64) -> AtHand {
    // The commonest answer takes one comparison of each clock.
    if !now.reached(refresh_at) {
        AtHand::Fresh
    } else if now.reached(expires_at) {
        AtHand::Gone
    } else if now.mono >= not_before {
        AtHand::Due
    } else {
        AtHand::Fresh
    }
}

/// Returns which generations are no answer to the next claim. A token in use asks for a newer one. After one that is
/// out of time, the same generation is welcome again, in case it was only a clock that stepped, but no older one.
pub fn newer_than(usable: Option<u64>, seen: u64, void: u64) -> u64 {
    usable.unwrap_or(seen.saturating_sub(1)).max(void)
}

/// Returns the part at the end of a token's life in which it is not used: 5 %, 5 seconds at most.
pub fn margin(life: Duration) -> Duration {
    (life / 20).min(Duration::from_secs(5))
}

/// How long a fetched token may be used from its receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usable {
    pub left: Duration,
    /// Whether the fetch took so long that the life is counted from the receipt.
    pub slow: bool,
}

/// Counts the life from the moment before the request was sent, as RFC 9111 §4.2.3 counts age; from the receipt if the
/// fetch took more than half of the life, or such a token could never be used.
pub fn usable(life: Duration, took: Duration) -> Usable {
    let slow = took > life / 2;
    let spent = if slow { Duration::ZERO } else { took };
    Usable { left: life.saturating_sub(margin(life)).saturating_sub(spent), slow }
}

/// Returns when to refresh and when to stop using a token of which `left` was left at `asked_at`. The refresh comes at
/// 80 % of the life, less up to 10 % by `fraction`; at once if the token is doubted.
pub fn times(asked_at: Moment, left: Duration, life: Duration, doubted: bool, fraction: f64) -> (Moment, Moment) {
    let reserve = life.mul_f64(0.2 + 0.1 * fraction);
    let refresh_in = if doubted { Duration::ZERO } else { (left + margin(life)).saturating_sub(reserve).min(left) };
    (asked_at.after(refresh_in), asked_at.after(left))
}

/// What a flight does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Adopt(Stored),
    Fetch {
        generation: u64,
        carry: Option<Secret>,
    },
    Watch {
        lease_left: Duration,
    },
    Cool(Cooling),
    Limit {
        retry_after: Duration,
    },
    /// Every place for a running source is taken by one that never returned.
    Stuck,
}

/// Returns what follows from the store's answer; `stuck` if this process may not run the source.
pub fn after_claim(claimed: Claimed, stuck: bool) -> Step {
    match claimed {
        Claimed::Token(stored) => Step::Adopt(stored),
        Claimed::Granted { .. } | Claimed::Limited { .. } if stuck => Step::Stuck,
        Claimed::Granted { generation, carry } => Step::Fetch { generation, carry },
        Claimed::Busy { lease_left } => Step::Watch { lease_left },
        Claimed::Cooling(cooling) => Step::Cool(cooling),
        Claimed::Limited { retry_after } => Step::Limit { retry_after },
    }
}

/// Returns how long a subscribed flight waits for an event: until shortly after the lease, the safety poll at most.
pub fn watch(lease_left: Duration, patience_left: Duration, fraction: f64) -> Duration {
    let spread = AFTER_LEASE.0 + (AFTER_LEASE.1 - AFTER_LEASE.0).mul_f64(fraction);
    (lease_left + spread).min(SAFETY_POLL).min(patience_left)
}

/// Returns how long a flight that cannot subscribe waits before its `round`-th poll.
pub fn poll(round: u32, patience_left: Duration) -> Duration {
    (POLL.0 * 2u32.pow(round.min(5))).min(POLL.1).min(patience_left)
}

/// Returns how long a caller without a token waits after a flight's failure before he asks again; `None` if he is told
/// of it at once. Only a used-up budget is waited for, if the deadline allows.
pub fn rest(kind: ErrorKind, retry_after: Option<Duration>, deadline_left: Duration) -> Option<Duration> {
    retry_after.filter(|pause| kind == ErrorKind::Limited && *pause < deadline_left)
}

/// Returns how long callers are told of a failure without asking the store again; zero where it can mend at any time.
pub fn remembered(retry_after: Option<Duration>) -> Duration {
    retry_after.map_or(Duration::ZERO, |pause| pause.min(FAILURE_MEMORY))
}

/// Returns how long a due token is served before the next refresh after a failed one.
pub fn refresh_pause(retry_after: Option<Duration>) -> Duration {
    retry_after.unwrap_or(STORE_PAUSE)
}

/// Returns how often `keep_fresh` checks that the store still has a token of this life.
pub fn store_check(life: Option<Duration>) -> Duration {
    life.map_or(STORE_CHECK.0, |life| (life / 10).clamp(STORE_CHECK.0, STORE_CHECK.1))
}
