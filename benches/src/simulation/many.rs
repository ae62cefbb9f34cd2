//! Many tokens that are kept fresh by many processes: what one life of all of them costs a Redis, and where groups lie in a Cluster.
//! When a token is due, and how often a process looks at it, the library's own rules decide; commands are served one after the other.

use std::time::Duration;
use token_manager::internals::policy::{self, Window};
use token_manager::internals::{Moment, decide};

/// What is simulated. The costs of a claim, a commit and a look are those of Redis' own count; see `BENCHMARKS.md`.
#[derive(Clone, Debug)]
pub struct Settings {
    pub processes: usize,
    pub tokens: usize,
    pub life: Duration,
    pub issuer: Duration,
    /// One way between a process and Redis.
    pub network: Duration,
    /// What a script costs Redis, what it costs to answer the PING of a look, and to send one subscriber an event.
    pub script: Duration,
    pub ping: Duration,
    pub event: Duration,
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            processes: 1_000,
            tokens: 10_000,
            life: Duration::from_secs(3600),
            issuer: Duration::from_millis(500),
            network: Duration::from_micros(250),
            script: Duration::from_micros(25),
            ping: Duration::from_micros(5),
            event: Duration::from_micros(2),
            seed: 1,
        }
    }
}

/// What one life of all tokens costs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    pub fetches: u64,
    /// Claims and commits, and the inspections of looks, each with a PING.
    pub scripts: u64,
    pub looks: u64,
    pub events: u64,
    /// The most commands in one second.
    pub peak_second: u64,
    /// The share of its time in which Redis is busy: in all, and in the busiest second.
    pub busy: f64,
    pub busiest_second: f64,
}

impl Report {
    /// Returns how many commands a second there are on average.
    pub fn commands_a_second(&self, life: Duration) -> f64 {
        (self.scripts + 2 * self.looks) as f64 / life.as_secs_f64()
    }
}

/// Commands, and the microseconds that they take Redis, by second of the life.
struct Seconds {
    commands: Vec<u64>,
    busy: Vec<f64>,
}

impl Seconds {
    fn add(&mut self, at: Duration, commands: u64, cost: Duration) {
        let second = at.as_secs() as usize % self.commands.len();
        self.commands[second] += commands;
        self.busy[second] += cost.as_secs_f64();
    }
}

/// Runs one life of all tokens, which began at times spread over a life.
pub fn run(settings: &Settings) -> Report {
    let Settings { processes, tokens, life, issuer, network, script, ping, event, seed } = settings.clone();
    let length = life.as_secs().max(1) as usize;
    let mut seconds = Seconds { commands: vec![0; length], busy: vec![0.0; length] };
    let mut report = Report::default();
    let (window, start) = (Window::default(), Moment { mono: 0, wall: 0 });
    let left = decide::usable(&window, life, issuer).left;
    for token in 0..tokens as u64 {
        let fraction = |process: usize, of: u64| policy::fraction(seed ^ (process as u64) << 40 ^ token << 8 ^ of);
        let began = life.mul_f64(fraction(processes, 0));
        let due = |process: usize| {
            let (due, _) = decide::times(&window, start, left, life, false, fraction(process, 1));
            Duration::from_nanos(due.mono)
        };
        let dues: Vec<Duration> = (0..processes).map(due).collect();
        let first = dues.iter().min().copied().unwrap_or_default();
        let committed = first + issuer + 4 * network;
        // Whoever is due before the commit claims, and is told to wait.
        let claims = dues.iter().filter(|due| **due < committed).count() as u64;
        seconds.add(began + first, claims, script * claims as u32);
        // The commit, an event to each process, and a claim by each of the others, which takes the token over.
        let others = processes as u64 - 1;
        let cost = script * (1 + others) as u32 + event * processes as u32;
        seconds.add(began + committed, 1 + others, cost);
        report.fetches += 1;
        report.scripts += claims + 1 + others;
        report.events += processes as u64;
        // Each process looks at each token in turn.
        for process in 0..processes {
            let every = decide::store_check(Some(left), tokens);
            let mut at = every.mul_f64(fraction(process, 2));
            while at < committed {
                seconds.add(began + at, 2, script + ping);
                report.looks += 1;
                at += every;
            }
        }
    }
    report.peak_second = seconds.commands.iter().max().copied().unwrap_or_default();
    report.busy = seconds.busy.iter().sum::<f64>() / length as f64;
    report.busiest_second = seconds.busy.iter().copied().fold(0.0, f64::max);
    report
}

/// Returns how much more the busiest of so many nodes of a Cluster has to do than the average, where each token is a group by
/// itself, the slots are dealt in equal ranges, and all tokens cost the same.
pub fn busiest_node(tokens: usize, nodes: usize) -> f64 {
    let mut load = vec![0_u64; nodes];
    for token in 0..tokens {
        load[usize::from(slot(&format!("crm:tenant-{token:06}"))) * nodes / 16_384] += 1;
    }
    load.iter().max().copied().unwrap_or_default() as f64 * nodes as f64 / tokens as f64
}

/// Returns the slot of what stands in braces in a key: CRC16 (XMODEM) modulo 16384, by the Redis Cluster specification.
pub fn slot(group: &str) -> u16 {
    let crc = group.bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ u16::from(byte) << 8, |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 })
    });
    crc % 16_384
}
