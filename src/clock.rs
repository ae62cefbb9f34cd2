//! Asks the time; no other file does.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How far a [`Moment`] can be behind.
pub const TICK: Duration = Duration::from_millis(10);

/// A point in time on two coarse clocks, so that neither a machine that slept nor a wall clock that was set hides an
/// expiry: the monotonic clock stands still during sleep, the wall clock can be set back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Nanoseconds of the monotonic clock.
    pub mono: u64,
    /// Nanoseconds of the wall clock.
    pub wall: u64,
}

impl Moment {
    /// Returns the present moment, exact to the kernel's tick (1 to 10 ms).
    #[inline]
    pub fn now() -> Moment {
        coarse::now()
    }

    /// Returns the moment `span` after this one.
    pub fn after(self, span: Duration) -> Moment {
        let nanos = nanos(span);
        Moment { mono: self.mono.saturating_add(nanos), wall: self.wall.saturating_add(nanos) }
    }

    /// Returns whether either clock has come to `then`.
    #[inline]
    pub fn reached(self, then: Moment) -> bool {
        self.mono >= then.mono || self.wall >= then.wall
    }

    /// Returns how long it is until `then`: the shorter answer of the two clocks, zero when either has come to it.
    pub fn until(self, then: Moment) -> Duration {
        Duration::from_nanos(then.mono.saturating_sub(self.mono).min(then.wall.saturating_sub(self.wall)))
    }

    /// Returns how long ago `earlier` was: the longer answer of the two clocks.
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.mono.saturating_sub(earlier.mono).max(self.wall.saturating_sub(earlier.wall)))
    }
}

/// Returns the precise instant `within` from now; a span too long for the clock counts as ten years.
pub fn deadline(within: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(within).unwrap_or_else(|| now + Duration::from_secs(10 * 365 * 86_400))
}

/// Returns how long it is until `deadline`, zero when it has passed.
pub fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// Returns microseconds that start at the wall clock's count since 1970 and then pass evenly, whatever happens to the
/// wall clock. The clock of the embedded store.
pub fn steady_micros() -> u64 {
    static START: OnceLock<(Instant, u64)> = OnceLock::new();
    let (start, micros) = START.get_or_init(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        (Instant::now(), since.as_micros() as u64)
    });
    micros + start.elapsed().as_micros() as u64
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(target_os = "linux")]
mod coarse {
    use super::Moment;
    use rustix::time::{ClockId, Timespec, clock_gettime};

    #[inline]
    pub fn now() -> Moment {
        Moment {
            mono: nanos(clock_gettime(ClockId::MonotonicCoarse)),
            wall: nanos(clock_gettime(ClockId::RealtimeCoarse)),
        }
    }

    #[inline]
    fn nanos(time: Timespec) -> u64 {
        (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
    }
}

#[cfg(not(target_os = "linux"))]
mod coarse {
    use super::{Moment, nanos};
    use std::sync::OnceLock;
    use std::time::{Instant, SystemTime, UNIX_EPOCH};

    pub fn now() -> Moment {
        static START: OnceLock<Instant> = OnceLock::new();
        Moment {
            mono: nanos(START.get_or_init(Instant::now).elapsed()),
            wall: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, nanos),
        }
    }
}
