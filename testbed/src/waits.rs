//! How long calls took: a histogram with an error of 6 %, small enough to be sent as one line.

use std::collections::BTreeMap;
use std::time::Duration;

/// Each power of two of nanoseconds has 16 buckets.
const STEPS: u32 = 4;

#[derive(Default)]
pub struct Waits {
    buckets: BTreeMap<u64, u64>,
    longest: Duration,
}

impl Waits {
    pub fn record(&mut self, wait: Duration) {
        let nanos = wait.as_nanos() as u64;
        let coarse = nanos.checked_ilog2().unwrap_or(0).saturating_sub(STEPS);
        *self.buckets.entry(nanos >> coarse << coarse).or_default() += 1;
        self.longest = self.longest.max(wait);
    }

    pub fn merge(&mut self, other: &Waits) {
        for (bucket, count) in &other.buckets {
            *self.buckets.entry(*bucket).or_default() += count;
        }
        self.longest = self.longest.max(other.longest);
    }

    pub fn count(&self) -> u64 {
        self.buckets.values().sum()
    }

    pub fn longest(&self) -> Duration {
        self.longest
    }

    /// Returns the wait that this share of the calls did not exceed.
    pub fn quantile(&self, share: f64) -> Duration {
        let wanted = (self.count() as f64 * share).ceil() as u64;
        let mut seen = 0;
        let bucket = self.buckets.iter().find(|(_, count)| {
            seen += **count;
            seen >= wanted
        });
        bucket.map_or(Duration::ZERO, |(bucket, _)| Duration::from_nanos(*bucket))
    }

    pub fn to_line(&self) -> String {
        let buckets: Vec<String> = self.buckets.iter().map(|(bucket, count)| format!("{bucket}:{count}")).collect();
        format!("{} {}", self.longest.as_nanos(), buckets.join(" "))
    }

    pub fn from_line(line: &str) -> Option<Waits> {
        let mut words = line.split(' ');
        let longest = Duration::from_nanos(words.next()?.parse().ok()?);
        let pairs = words.filter(|word| !word.is_empty()).map(|word| {
            let (bucket, count) = word.split_once(':')?;
            Some((bucket.parse().ok()?, count.parse().ok()?))
        });
        Some(Waits { buckets: pairs.collect::<Option<_>>()?, longest })
    }
}
