//! All decisions. Pure: no clock, no lock, no thread, no store; time and chance come in as arguments.

use crate::clock::Moment;
use crate::error::{ErrorKind, FailureClass};
use crate::policy::{
    FAILURE_TTL, FIRST_PAUSE, LOOK, LOOK_SHARE, MARGIN, MAX_BACKOFF, POLL, SAFETY_POLL, SAME_SECRET_PAUSE, STORE_CHECK,
    STORE_PAUSE, TAKEOVER_JITTER, Window,
};
use crate::store::{Carried, Claimed, Pause, StoreErrorKind, Stored};
use std::time::Duration;

/// What a caller that asks for a token is to get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serve {
    /// Serve the token at hand.
    Now,
    /// Serve the token at hand and have a newer one fetched.
    NowAndRefresh,
    /// Wait for another token.
    Wait,
}

/// Tells fresh from due and expired; `refresh_at` is not after `expires_at`. `not_before` is the moment of the next
/// attempt, in nanoseconds of the monotonic clock: after a failed refresh, or of the next look at a running flight.
#[inline]
pub fn serve(now: Moment, refresh_at: Moment, expires_at: Moment, not_before: u64) -> Serve {
    // The commonest answer takes one comparison of each clock.
    if !now.reached(refresh_at) {
        Serve::Now
    } else if now.reached(expires_at) {
        Serve::Wait
    } else if now.mono >= not_before {
        Serve::NowAndRefresh
    } else {
        Serve::Now
    }
}

/// Returns whether a token is to be followed by a newer one: it is in use, or out of time by the monotonic clock, which never
/// steps. Where the wall clock alone says that it is out of time, it may not be.
pub fn wants_a_newer_one(now: Moment, expires_at: Moment) -> bool {
    now.mono >= expires_at.mono || now.wall < expires_at.wall
}

/// Returns which generations are no answer to the next claim: those up to `last`, which wants a newer one. Where there is none
/// such, the one that this process has `seen` is welcome again, in case it was only a clock that stepped, but no older one.
pub fn newer_than(last: Option<u64>, seen: u64, invalidated: u64) -> u64 {
    last.unwrap_or(seen.saturating_sub(1)).max(invalidated)
}

/// Returns how long before the end of its life a token is refreshed at the latest: a quarter of the life at most, so that
/// an eighth of it is left for use even if the fetch took half and the refresh comes early.
pub fn lead(window: &Window, life: Duration) -> Duration {
    window.refresh_before.of(life).min(life / 4)
}

/// Returns the part at the end of a token's life in which it is not used: half of the lead at most.
pub fn margin(window: &Window, life: Duration) -> Duration {
    let wanted = match window.margin {
        Some(margin) => margin.of(life),
        None => life.mul_f64(MARGIN.0).min(MARGIN.1),
    };
    wanted.min(lead(window, life) / 2)
}

/// How long a fetched token may be used from its receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usable {
    /// What may be used of its life.
    pub left: Duration,
    /// Whether the fetch took so long that the life is counted from the receipt.
    pub slow: bool,
}

/// Counts the life from the moment before the request was sent, as RFC 9111 §4.2.3 counts age; from the receipt if the
/// fetch took more than half of the life, or such a token could never be used.
pub fn usable(window: &Window, life: Duration, took: Duration) -> Usable {
    let slow = took > life / 2;
    let spent = if slow { Duration::ZERO } else { took };
    Usable { left: life.saturating_sub(margin(window, life)).saturating_sub(spent), slow }
}

/// Returns when to refresh and when to stop using a token of which `left` was left at `asked_at`. The refresh comes the
/// lead before the end of the life, or up to half of that earlier by `fraction`; at once if the token is doubted.
pub fn times(
    window: &Window,
    asked_at: Moment,
    left: Duration,
    life: Duration,
    doubted: bool,
    fraction: f64,
) -> (Moment, Moment) {
    let reserve = lead(window, life).mul_f64(1.0 + 0.5 * fraction);
    let refresh_in = if doubted { Duration::ZERO } else { (left + margin(window, life)).saturating_sub(reserve) };
    (asked_at.after(refresh_in), asked_at.after(left))
}

/// Returns at which fraction of the time for it a process refreshes a token: by a number of the token, the same in every process, and
/// by one of the process for that token. Of many processes one is always early; without the token's part the fleet would refresh all
/// tokens that it has had at once at once again.
pub fn refresh_fraction(of_token: f64, of_process: f64) -> f64 {
    (of_token + of_process) / 2.0
}

/// Returns when to refresh a token whose secret the process has had under an earlier generation. Its issuer gives the
/// same one until shortly before its end: asked again and again, it would answer with ever shorter lives.
pub fn refresh_of_same(asked_at: Moment, refresh_at: Moment, expires_at: Moment) -> Moment {
    let soonest = asked_at.after(SAME_SECRET_PAUSE.min(asked_at.until(expires_at)));
    if refresh_at.reached(soonest) { refresh_at } else { soonest }
}

/// Why a flight must not ask the issuer, and may only take what the store has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoFetch {
    /// Every place for a running source is taken by one that never returned.
    TooManyAbandoned,
    /// This process pauses by itself.
    OwnPause,
    /// The caller on whose thread it runs has less time left than a fetch may take.
    TooLittleTime,
}

/// Returns whether a flight may ask the issuer; `left` is what is left to a caller on whose thread it runs.
pub fn no_fetch(
    too_many_abandoned: bool,
    own_pause: bool,
    left: Option<Duration>,
    fetch_limit: Duration,
) -> Option<NoFetch> {
    if too_many_abandoned {
        Some(NoFetch::TooManyAbandoned)
    } else if own_pause {
        Some(NoFetch::OwnPause)
    } else {
        left.filter(|left| *left < fetch_limit).map(|_| NoFetch::TooLittleTime)
    }
}

/// What a flight does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Take this token into use.
    Adopt(Stored),
    /// Call the source, for the token of this generation.
    Fetch {
        /// The number of the grant.
        generation: u64,
        /// The secret that the last fetch left.
        carry: Option<Carried>,
    },
    /// Wait for the process that fetches.
    WaitForUpdater {
        /// What is left of its lease.
        lease_left: Duration,
    },
    /// Tell everyone of the fleet's pause.
    Pause(Pause),
    /// Tell everyone that the budget is used up.
    Limited {
        /// When it allows the next fetch.
        retry_after: Duration,
    },
    /// Nobody else fetches, and this flight must not.
    NoFetch(NoFetch),
}

/// Returns what follows from the store's answer.
pub fn after_claim(claimed: Claimed, no_fetch: Option<NoFetch>) -> Step {
    match (claimed, no_fetch) {
        (Claimed::Token(stored), _) => Step::Adopt(stored),
        (Claimed::Busy { lease_left }, _) => Step::WaitForUpdater { lease_left },
        (Claimed::Granted { .. } | Claimed::Limited { .. } | Claimed::Paused(_), Some(reason @ NoFetch::OwnPause)) => {
            Step::NoFetch(reason)
        }
        (Claimed::Paused(pause), _) => Step::Pause(pause),
        (Claimed::Granted { .. } | Claimed::Limited { .. }, Some(reason)) => Step::NoFetch(reason),
        (Claimed::Granted { generation, carry }, None) => Step::Fetch { generation, carry },
        (Claimed::Limited { retry_after }, None) => Step::Limited { retry_after },
    }
}

/// How long a process pauses after a failed fetch, and whether by itself: the store then knows nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PauseAfter {
    /// How long.
    pub length: Duration,
    /// Whether this process keeps it by itself.
    pub own: bool,
}

/// Returns the pause after a failed fetch; `told` is the store's answer, an error if it could not be told.
pub fn pause_after(class: FailureClass, retry_after: Option<Duration>, told: Result<Option<Pause>, ()>) -> PauseAfter {
    let rejected = class == FailureClass::CredentialsRejected;
    let first = if rejected { MAX_BACKOFF } else { FIRST_PAUSE };
    let stands = told.ok().flatten().map(|pause| pause.retry_after);
    let length = stands.unwrap_or_else(|| retry_after.map_or(first, |pause| pause.max(FIRST_PAUSE)));
    PauseAfter { length, own: rejected || told.is_err() }
}

/// Returns whether a verb that failed like this may succeed later, without anybody's doing.
pub fn is_retriable(kind: StoreErrorKind) -> bool {
    kind != StoreErrorKind::Malformed
}

/// Returns whether an error of this kind says that nobody can ask the store now, whatever the token.
pub fn concerns_all(kind: StoreErrorKind) -> bool {
    matches!(kind, StoreErrorKind::Unreachable | StoreErrorKind::NotWritable | StoreErrorKind::Exhausted)
}

/// Returns how long a subscribed flight waits for an event: until shortly after the lease, the safety poll at most.
pub fn watch(lease_left: Duration, at_most: Duration, fraction: f64) -> Duration {
    let spread = TAKEOVER_JITTER.0 + (TAKEOVER_JITTER.1 - TAKEOVER_JITTER.0).mul_f64(fraction);
    lease_left.saturating_add(spread).min(SAFETY_POLL).min(at_most)
}

/// Returns how long a waiter leaves the updater unseen, which so many wait for at most: the more they are, the sooner one of them
/// looks. Up to a half is taken off by `fraction`, so that they do not look at once.
pub fn look(listeners: u64, fraction: f64) -> Duration {
    let pause = LOOK_SHARE.saturating_mul(u32::try_from(listeners).unwrap_or(u32::MAX)).clamp(LOOK.0, LOOK.1);
    pause.mul_f64(1.0 - fraction / 2.0)
}

/// Returns how long a flight that cannot subscribe waits before its `round`-th poll.
pub fn poll(round: u32, at_most: Duration) -> Duration {
    (POLL.0 * 2u32.pow(round.min(5))).min(POLL.1).min(at_most)
}

/// Returns how long to wait before the next try after so many that failed: 20 ms, doubling to `longest`, of which up to a half
/// is taken off by `fraction`, so that many do not try at once.
pub fn backoff(round: u32, longest: Duration, fraction: f64) -> Duration {
    (POLL.0 * 2u32.pow(round.min(16))).min(longest).mul_f64(1.0 - fraction / 2.0)
}

/// Returns how long a caller without a token waits after a flight's failure before it asks again; `None` if it is told
/// of it at once. Only a used-up budget is waited for, if the deadline allows.
pub fn retry_pause(kind: ErrorKind, retry_after: Option<Duration>, deadline_left: Duration) -> Option<Duration> {
    retry_after.filter(|pause| kind == ErrorKind::Limited && *pause < deadline_left)
}

/// Returns whether the last token may be served past its end instead of this error: not where asking made no sense, and not where
/// the issuer is there and refuses.
pub fn may_serve_stale(kind: ErrorKind) -> bool {
    match kind {
        ErrorKind::Timeout | ErrorKind::Store | ErrorKind::Limited => true,
        ErrorKind::Source(class) => class != FailureClass::CredentialsRejected,
        ErrorKind::Config | ErrorKind::Reentrant => false,
    }
}

/// Returns how long callers are told of a failure without asking the store again; zero where it can mend at any time.
pub fn remembered(retry_after: Option<Duration>) -> Duration {
    retry_after.map_or(Duration::ZERO, |pause| pause.min(FAILURE_TTL))
}

/// Returns how long a due token is served before the next refresh after a failed one.
pub fn refresh_pause(retry_after: Option<Duration>) -> Duration {
    retry_after.unwrap_or(STORE_PAUSE)
}

/// Returns how often `keep_fresh` checks that the store still has a token of which so much life is left, among so many tokens of
/// the store: the more there are, the more seldom each, down to once in what is left of its life. One that is lost tells of all.
pub fn store_check(life: Option<Duration>, tokens: usize) -> Duration {
    let alone = life.map_or(STORE_CHECK.0, |life| (life / 10).clamp(STORE_CHECK.0, STORE_CHECK.1));
    let longest = life.unwrap_or(STORE_CHECK.1).max(alone);
    alone.saturating_mul(u32::try_from(tokens).unwrap_or(u32::MAX)).clamp(alone, longest)
}
