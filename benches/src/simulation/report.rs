//! What is simulated, and what is told of it.

use std::time::Duration;

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Settings {
    pub processes: usize,
    /// Requests a second in each process, evenly spaced.
    pub rate: u64,
    pub life: Duration,
    /// How many times the token is replaced after the cold start.
    pub lives: u64,
    /// How long the issuer takes.
    pub issuer: Duration,
    /// One way between a process and Redis.
    pub network: Duration,
    /// What a script costs Redis, what a subscription or an EXISTS does, and what it costs to send one subscriber an event.
    pub script: Duration,
    pub command: Duration,
    pub event: Duration,
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            processes: 10_000,
            rate: 10,
            life: Duration::from_secs(60),
            lives: 3,
            issuer: Duration::from_millis(500),
            network: Duration::from_micros(250),
            script: Duration::from_micros(25),
            command: Duration::from_micros(15),
            event: Duration::from_micros(2),
            seed: 1,
        }
    }
}

/// What happened in one part of the run: the cold start, or all that came after it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Phase {
    pub fetches: u64,
    pub scripts: u64,
    /// Each with the EXISTS after it.
    pub subscriptions: u64,
    /// The most commands in one second, and in ten milliseconds as a rate per second.
    pub peak_second: u64,
    pub peak_burst: u64,
    /// Requests that had to wait, and the longest of these waits.
    pub waits: u64,
    pub longest_wait: Duration,
    /// The longest that a command took, queueing included.
    pub longest_reply: Duration,
    /// The most subscriptions at a time.
    pub listeners: usize,
}

/// What happened, and the commands in each tenth of a second of the turnover in the middle.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    pub cold: Phase,
    pub steady: Phase,
    pub requests: u64,
    /// The shortest time between two fetches.
    pub shortest_gap: Duration,
    pub commands: Vec<(Duration, u64)>,
}

/// Returns the most of these times, in order, that lie within one span of this length.
pub fn most_within(times: &[u64], span: u64) -> u64 {
    let mut first = 0;
    let mut most = 0;
    for (index, time) in times.iter().enumerate() {
        while times[first] + span <= *time {
            first += 1;
        }
        most = most.max(index - first + 1);
    }
    most as u64
}

/// Returns how many commands came in each tenth of a second from ten seconds before the busiest one to ten after it.
pub fn around_the_peak(times: &[u64]) -> Vec<(Duration, u64)> {
    const TENTH: u64 = 100_000;
    let count = |slot: u64| times.iter().filter(|time| **time / TENTH == slot).count() as u64;
    let mut busiest = (0, 0);
    for slots in times.chunk_by(|a, b| a / TENTH == b / TENTH) {
        busiest = busiest.max((slots.len(), slots[0] / TENTH));
    }
    let first = busiest.1.saturating_sub(100);
    (first..first + 200).map(|slot| (Duration::from_millis((slot - first) * 100), count(slot))).collect()
}
