//! What a process has done so far, counted where it happens. Hits are not counted: counting them would cost more than they do.

use crate::error::FailureClass;
use crate::store::StoreErrorKind;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What this process has done so far, for one manager.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Flights started.
    pub flights: u64,
    /// Calls of the source.
    pub fetches: u64,
    /// Calls of the source that failed.
    pub failures: u64,
    /// Tokens taken into use, fetched here or elsewhere.
    pub adopted: u64,
    /// Callers that had to wait.
    pub waits: u64,
    /// Callers whose deadline passed.
    pub timeouts: u64,
    /// Sources that overran their limit and are still running.
    pub abandoned: u64,
    /// Fetches begun after the updater that was waited for had fallen silent.
    pub takeovers: u64,
    /// Tokens that were doubted when they were taken into use, or became so: each is refreshed once more.
    pub doubts: u64,
    /// Flights that the budget allowed no fetch.
    pub limited: u64,
    /// Generations that were invalidated here.
    pub invalidated: u64,
    /// The failures by class.
    pub failures_by_class: ByClass,
    /// What the store could not do, by kind.
    pub store_errors: ByKind,
    /// How long callers waited that had to.
    pub wait_times: Histogram,
    /// How long the calls of the source took that brought a token.
    pub fetch_times: Histogram,
    /// How long the token at hand may still be used; `None` if there is none.
    pub expires_in: Option<Duration>,
}

/// A count for each class of failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByClass([u64; FailureClass::ALL.len()]);

impl ByClass {
    /// Returns the count of a class.
    pub fn of(&self, class: FailureClass) -> u64 {
        self.iter().find(|(of, _)| *of == class).map_or(0, |(_, count)| count)
    }

    /// Returns all classes with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (FailureClass, u64)> {
        FailureClass::ALL.into_iter().zip(self.0)
    }
}

/// A count for each kind of store error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByKind([u64; StoreErrorKind::ALL.len()]);

impl ByKind {
    /// Returns the count of a kind.
    pub fn of(&self, kind: StoreErrorKind) -> u64 {
        self.iter().find(|(of, _)| *of == kind).map_or(0, |(_, count)| count)
    }

    /// Returns all kinds with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (StoreErrorKind, u64)> {
        StoreErrorKind::ALL.into_iter().zip(self.0)
    }
}

/// Spans of time, counted by how long they were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// How many were no longer than each of [`BOUNDS`](Histogram::BOUNDS) and longer than the one before it; the last count is of
    /// those that were longer than all of them.
    counts: [u64; Histogram::BOUNDS.len() + 1],
    sum: Duration,
}

impl Histogram {
    /// The greatest span of each bucket but the last, which has no end.
    pub const BOUNDS: [Duration; 12] = {
        let millis = [1, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000];
        let mut bounds = [Duration::ZERO; 12];
        let mut at = 0;
        while at < bounds.len() {
            bounds[at] = Duration::from_millis(millis[at]);
            at += 1;
        }
        bounds
    };

    /// Returns how many there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Returns how long they were together.
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// Returns how many were no longer than each bound, and with `None` how many there were.
    pub fn cumulative(&self) -> impl Iterator<Item = (Option<Duration>, u64)> {
        let bounds = Histogram::BOUNDS.into_iter().map(Some).chain([None]);
        bounds.zip(self.counts).scan(0, |total, (bound, count)| {
            *total += count;
            Some((bound, *total))
        })
    }
}

/// What is counted one by one.
#[derive(Clone, Copy)]
pub enum Count {
    Flight,
    Fetch,
    Adopted,
    Wait,
    Timeout,
    Takeover,
    Doubt,
    Limited,
    Invalidated,
}

const COUNTS: usize = Count::Invalidated as usize + 1;

/// The counters of one manager. Most managers have little to count, and then no place for it.
#[derive(Default)]
pub struct Counters(OnceLock<Box<Numbers>>);

#[derive(Default)]
struct Numbers {
    counts: [AtomicU64; COUNTS],
    failures: [AtomicU64; FailureClass::ALL.len()],
    store_errors: [AtomicU64; StoreErrorKind::ALL.len()],
    wait_times: Spans,
    fetch_times: Spans,
}

#[derive(Default)]
struct Spans {
    counts: [AtomicU64; Histogram::BOUNDS.len() + 1],
    nanos: AtomicU64,
}

impl Counters {
    pub fn count(&self, what: Count) {
        add(&self.numbers().counts[what as usize], 1);
    }

    pub fn failed(&self, class: FailureClass) {
        let at = FailureClass::ALL.iter().position(|of| *of == class);
        at.iter().for_each(|at| add(&self.numbers().failures[*at], 1));
    }

    pub fn store_failed(&self, kind: StoreErrorKind) {
        let at = StoreErrorKind::ALL.iter().position(|of| *of == kind);
        at.iter().for_each(|at| add(&self.numbers().store_errors[*at], 1));
    }

    pub fn waited(&self, span: Duration) {
        self.numbers().wait_times.note(span);
    }

    pub fn fetched_in(&self, span: Duration) {
        self.numbers().fetch_times.note(span);
    }

    /// Returns what has been counted.
    pub fn stats(&self) -> Stats {
        let Some(numbers) = self.0.get() else { return Stats::default() };
        let of = |what: Count| read(&numbers.counts[what as usize]);
        let failures = numbers.failures.each_ref().map(read);
        Stats {
            flights: of(Count::Flight),
            fetches: of(Count::Fetch),
            failures: failures.iter().sum(),
            adopted: of(Count::Adopted),
            waits: of(Count::Wait),
            timeouts: of(Count::Timeout),
            abandoned: 0,
            takeovers: of(Count::Takeover),
            doubts: of(Count::Doubt),
            limited: of(Count::Limited),
            invalidated: of(Count::Invalidated),
            failures_by_class: ByClass(failures),
            store_errors: ByKind(numbers.store_errors.each_ref().map(read)),
            wait_times: numbers.wait_times.read(),
            fetch_times: numbers.fetch_times.read(),
            expires_in: None,
        }
    }

    fn numbers(&self) -> &Numbers {
        self.0.get_or_init(Box::default)
    }
}

impl Spans {
    fn note(&self, span: Duration) {
        let at = Histogram::BOUNDS.iter().position(|bound| span <= *bound).unwrap_or(Histogram::BOUNDS.len());
        add(&self.counts[at], 1);
        add(&self.nanos, u64::try_from(span.as_nanos()).unwrap_or(u64::MAX));
    }

    fn read(&self) -> Histogram {
        Histogram { counts: self.counts.each_ref().map(read), sum: Duration::from_nanos(read(&self.nanos)) }
    }
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
