//! The numbers of a manager and of a flight, their defaults, and the rules between them. Pure: no clock, no lock, no store.
//! Elsewhere are the parts of a token's life (`decide.rs`) and the limits of Redis (`store/redis.rs`); the pauses
//! stand once more in `store/lua`, and the tests compare the two.

use std::time::Duration;

/// The shortest life of a token that can be used.
pub const MIN_LIFE: Duration = Duration::from_millis(1);
/// The longest life of a token that is believed: ten years.
pub const MAX_LIFE: Duration = Duration::from_secs(10 * 365 * 86_400);
/// The longest pause that an issuer's Retry-After can impose.
pub const MAX_PAUSE: Duration = Duration::from_secs(3600);
/// The first pause after a failure; it doubles with each further one.
pub const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause that doubling leads to, and the first one after credentials were rejected.
pub const MAX_BACKOFF: Duration = Duration::from_secs(60);
/// How long a failure is remembered in the process, so that callers without a token do not each ask the store.
pub const FAILURE_TTL: Duration = Duration::from_secs(1);
/// The pause before the next refresh of a due token when the store failed.
pub const STORE_PAUSE: Duration = Duration::from_secs(1);
/// How long at a time hits are let off looking whether a refresh is under way, once one was: a child that was forked
/// meanwhile finds none.
pub const FLIGHT_CHECK: Duration = Duration::from_secs(1);
/// The longest wait for an event of the store: events can be lost, the timer cannot.
pub const SAFETY_POLL: Duration = Duration::from_secs(1);
/// How long `keep_fresh` waits at the most before it tries again after failures: 20 ms, doubling, spread.
pub const KEEP_FRESH_BACKOFF: Duration = Duration::from_secs(5);
/// The longest pause before a store that is away is tried again: 20 ms, doubling, spread.
pub const AWAY_BACKOFF: Duration = Duration::from_secs(1);
/// How often a waiter polls when it cannot subscribe: the first pause and the one that doubling ends at.
pub const POLL: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));
/// How long after the end of the lease waiters ask again, spread so that they do not ask at once.
pub const TAKEOVER_JITTER: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(20));
/// How long a source may take before its updater is shown to the others: one that answers at once needs no connection for it.
pub const UNSEEN: Duration = Duration::from_millis(2);
/// How often a waiter looks for the updater, within these limits: the longer the more listen.
pub const LOOK: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(1));
/// By how much each listener makes the pause between two looks longer.
pub const LOOK_SHARE: Duration = Duration::from_millis(3);
/// How many are thought to listen until a look tells.
pub const LISTENERS: u64 = 100;
/// How soon a waiter looks again for an updater that it has missed.
pub const SECOND_LOOK: Duration = Duration::from_millis(200);
/// How often `keep_fresh` checks that the store still has the token, within these limits: ten times in what is left of
/// the token's life.
pub const STORE_CHECK: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));
/// How long who may not offer a lost token waits for those who may, before it has it fetched anew.
pub const OFFERS: Duration = Duration::from_secs(5);
/// The longest time that `keep_fresh` leaves a token to itself: a machine that slept, or whose clock was set, is noticed then.
pub const LONGEST_REST: Duration = Duration::from_secs(120);
/// How long a process stays subscribed when it follows no token any more.
pub const FEED_LINGER: Duration = Duration::from_secs(1);
/// How soon the thread of a dropped `keep_fresh` guard ends at the latest.
pub const STOP_POLL: Duration = Duration::from_millis(100);
/// How many sources may be abandoned and still running before no further one is started.
pub const MAX_ABANDONED: usize = 2;
/// How long after its grant and its fetch a commit may be carried out before that counts as late: what its way and the
/// clocks' ticks explain. `commit.lua` has it too.
pub const COMMIT_TRANSIT: Duration = Duration::from_millis(100);
/// What an inline flight's lease has beyond the fetch limit.
pub const INLINE_GRACE: Duration = Duration::from_secs(2);
/// How soon after the issuer gave the same token once more it is asked again, unless that token ends before.
pub const SAME_SECRET_PAUSE: Duration = Duration::from_secs(1);
/// The largest shares of a token's life: of `refresh_before`, and of the margin.
pub const MAX_SHARES: (f64, f64) = (0.25, 0.125);
/// The smallest share of a token's life.
pub const MIN_SHARE: f64 = 0.0001;
/// The margin unless it is set: a share of the life, and no more than the span.
pub const MARGIN: (f64, Duration) = (0.05, Duration::from_secs(5));

/// How often the fleet may ask the issuer: so many requests a minute, and so many at once after a pause. Kept by the
/// Generic Cell Rate Algorithm (ITU-T I.371), so any span of t minutes sees at most `burst + t × per_minute` fetches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    per_minute: u32,
    burst: u32,
}

impl Budget {
    /// Allows `count` fetches a minute, 1 to 60,000. The burst defaults to 10, or to `count` where that is less.
    pub fn per_minute(count: u32) -> Budget {
        Budget { per_minute: count, burst: count.min(10) }
    }

    /// Allows `count` fetches at once, 1 to 60,000, after a pause long enough.
    pub fn burst(self, count: u32) -> Budget {
        Budget { burst: count, ..self }
    }

    /// Returns the time that one fetch uses up, exact to the microsecond: the emission interval of the algorithm.
    pub fn emission_interval(self) -> Duration {
        Duration::from_micros(60_000_000 / u64::from(self.per_minute.max(1)))
    }

    /// Checks the counts; the error names them.
    pub(crate) fn check(self, setting: &str) -> Result<(), String> {
        for (count, of) in [(self.per_minute, "per_minute"), (self.burst, "burst")] {
            if !(1..=60_000).contains(&count) {
                return Err(format!("{setting}.{of} is {count}; it must be between 1 and 60,000"));
            }
        }
        Ok(())
    }

    /// Returns how many fetches may be made at once.
    pub fn max_burst(self) -> u32 {
        self.burst
    }
}

impl Default for Budget {
    /// 60 fetches a minute, 10 at once.
    fn default() -> Budget {
        Budget::per_minute(60)
    }
}

/// A part of a token's life, counted from its end.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Portion {
    /// A share of the life: 0.1 is a tenth.
    Share(f64),
    /// So long, whatever the life.
    Span(Duration),
}

impl Portion {
    /// Returns how long this is in a life of this length.
    pub(crate) fn of(self, life: Duration) -> Duration {
        match self {
            Portion::Share(share) => life.mul_f64(share),
            Portion::Span(span) => span,
        }
    }

    fn check(self, setting: &str, largest_share: f64) -> Result<(), String> {
        match self {
            Portion::Share(share) if !(MIN_SHARE..=largest_share).contains(&share) => {
                Err(format!("{setting} is {self:?}; a share must be between {MIN_SHARE} and {largest_share}"))
            }
            Portion::Span(span) if !(MIN_LIFE..=MAX_LIFE).contains(&span) => {
                Err(format!("{setting} is {self:?}; a span must be between 1 ms and 10 years"))
            }
            _ => Ok(()),
        }
    }
}

impl From<Duration> for Portion {
    fn from(span: Duration) -> Portion {
        Portion::Span(span)
    }
}

/// The end of a token's life: when it is refreshed, and when it is not used any more.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// How long before the end a token is refreshed at the latest.
    pub refresh_before: Portion,
    /// [`MARGIN`] unless it is set.
    pub margin: Option<Portion>,
}

impl Default for Window {
    fn default() -> Window {
        Window { refresh_before: Portion::Share(0.2), margin: None }
    }
}

impl Window {
    fn check(&self) -> Result<(), String> {
        let Window { refresh_before, margin } = *self;
        refresh_before.check("refresh_before", MAX_SHARES.0)?;
        let Some(margin) = margin else { return Ok(()) };
        margin.check("margin", MAX_SHARES.1)?;
        let too_large = match (margin, refresh_before) {
            (Portion::Share(margin), Portion::Share(refresh)) => 2.0 * margin > refresh,
            (Portion::Span(margin), Portion::Span(refresh)) => 2 * margin > refresh,
            // The token's life tells, and the margin is cut then.
            _ => false,
        };
        if too_large {
            return Err(format!(
                "margin is {margin:?} and refresh_before is {refresh_before:?}; the margin must be half of refresh_before \
                 at most, or too little time is left for the refresh"
            ));
        }
        Ok(())
    }
}

/// On which thread a flight runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Execution {
    /// On a short-lived thread of its own, with the source on a second one: no caller's deadline is the flight's,
    /// nobody blocks while the token is due, and the lease is renewed while a slow issuer takes its time.
    #[default]
    Background,
    /// On the thread of the caller that found the token due or gone, for hosts that forbid foreign threads. That
    /// caller waits for its own fetch, which it starts only with more time left than the fetch limit: callers in a hurry take
    /// over what others fetch, and wait for that while they have no valid token. Its deadline holds as far as the source honours
    /// [`Attempt::remaining`](crate::Attempt::remaining) and the store its timeouts. A [`RedisStore`](crate::RedisStore) made
    /// apart has a thread unless its options say [`without_thread`](crate::RedisOptions::without_thread).
    Inline,
}

/// The settings of one manager.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// The limit of one call of the source.
    pub fetch_limit: Duration,
    /// How long a silent updater keeps its right to fetch, unless that follows from the execution.
    pub lease: Option<Duration>,
    /// The limit of a caller's wait.
    pub deadline: Duration,
    /// How often the fleet may ask the issuer.
    pub budget: Budget,
    /// On which thread flights run.
    pub execution: Execution,
    /// The end of a token's life.
    pub window: Window,
    /// How long past its end the last token is served for want of a newer one, if at all.
    pub serve_stale: Option<Duration>,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            fetch_limit: Duration::from_secs(10),
            lease: None,
            deadline: Duration::from_secs(15),
            budget: Budget::default(),
            execution: Execution::Background,
            window: Window::default(),
            serve_stale: None,
        }
    }
}

impl Policy {
    /// Returns the lease of a flight that renews it.
    pub fn renewed_lease(&self) -> Duration {
        self.lease.unwrap_or(Duration::from_secs(3))
    }

    /// Returns the lease of a flight that cannot renew it, because it runs the source itself.
    pub fn inline_lease(&self) -> Duration {
        let needed = self.fetch_limit + INLINE_GRACE;
        self.lease.map_or(needed, |lease| lease.max(needed))
    }

    /// Checks the rules between the numbers; the error names the settings and the rule.
    pub fn check(&self, store_timeout: Duration) -> Result<(), String> {
        const LONGEST: Duration = Duration::from_secs(3600);
        let lengths =
            [("fetch_limit", Some(self.fetch_limit)), ("lease", self.lease), ("deadline", Some(self.deadline))];
        for (setting, length) in lengths {
            if length.is_some_and(|length| length < Duration::from_millis(1) || length > LONGEST) {
                return Err(format!(
                    "{setting} is {:?}; it must be between 1 ms and 1 hour",
                    length.unwrap_or_default()
                ));
            }
        }
        self.budget.check("budget")?;
        if let Some(limit) = self.serve_stale.filter(|limit| !(MIN_LIFE..=MAX_LIFE).contains(limit)) {
            return Err(format!("serve_stale is {limit:?}; it must be between 1 ms and 10 years"));
        }
        self.window.check()?;
        if self.execution == Execution::Inline && self.deadline <= self.fetch_limit {
            return Err(format!(
                "deadline is {:?} and fetch_limit is {:?}; with flights on the caller's thread the deadline must be longer \
                 than fetch_limit, or no caller has the time to fetch",
                self.deadline, self.fetch_limit
            ));
        }
        match (self.execution, self.lease) {
            (Execution::Background, _) if self.renewed_lease() < 3 * store_timeout => Err(format!(
                "lease is {:?} and the store's timeout is {store_timeout:?}; the lease must be at least three times the \
                 store's timeout, or a slow store costs the updater its lease",
                self.renewed_lease()
            )),
            (Execution::Inline, Some(lease)) if lease <= self.fetch_limit + 2 * store_timeout => Err(format!(
                "lease is {lease:?} and fetch_limit is {:?}; with flights on the caller's thread nobody renews the lease, \
                 so it must be longer than fetch_limit + 2 × the store's timeout of {store_timeout:?}",
                self.fetch_limit
            )),
            (Execution::Inline, None) if INLINE_GRACE <= 2 * store_timeout => Err(format!(
                "the store's timeout is {store_timeout:?}; with flights on the caller's thread set a lease longer than \
                 fetch_limit + 2 × the store's timeout"
            )),
            _ => Ok(()),
        }
    }
}

/// Spreads `seed` evenly over 0.0 to 1.0 (SplitMix64): the same seed always gives the same fraction.
pub fn fraction(seed: u64) -> f64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}
