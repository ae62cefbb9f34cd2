//! The fleet with many tokens: each process keeps 1,000 fresh, one refuses them all, and all have to get the new ones.

use crate::{Fleet, PROCESSES};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;
use token_manager::{Attempt, Budget, Fetched, FreshGuard, RedisStore, TokenManager, TokenManagers};
use token_manager_benches::measure::{machine_time, quantile};
use token_manager_benches::sources::secret;

const TOKENS: usize = 1_000;
const TURNOVERS: usize = 5;
const ISSUER: Duration = Duration::from_millis(10);
const HOUR: Duration = Duration::from_secs(3600);

/// What a process of the fleet has.
pub struct Tokens {
    managers: TokenManagers,
    _guard: FreshGuard,
    keys: Vec<String>,
    /// The generations that it had at the end of the last turnover.
    held: Vec<u64>,
    fetches: Arc<AtomicU64>,
}

impl Tokens {
    pub fn new(store: &RedisStore, name: &str) -> Tokens {
        let fetches = Arc::new(AtomicU64::new(0));
        let counted = fetches.clone();
        let source = move |_: &str, _: &Attempt| {
            counted.fetch_add(1, Ordering::SeqCst);
            thread::sleep(ISSUER);
            Ok(Fetched::new(secret(), HOUR))
        };
        let builder = TokenManager::builder(name).store(store.clone()).budget(Budget::per_minute(600));
        let managers = builder.keyed(source).build().expect("valid settings");
        let guard = managers.keep_fresh().expect("a thread");
        let keys = (0..TOKENS).map(|number| format!("tenant-{number:04}")).collect();
        Tokens { managers, _guard: guard, keys, held: vec![0; TOKENS], fetches }
    }

    /// Waits for newer tokens of all keys; returns when they were there, and how often this process asked the issuer.
    pub fn turn(&mut self, refuses: bool) -> Vec<u64> {
        if refuses {
            for key in &self.keys {
                let token = self.managers.get(key).expect("a token");
                self.managers.invalidate(key, &token).expect("a valid key");
            }
        }
        for (key, held) in self.keys.iter().zip(&mut self.held) {
            loop {
                match self.managers.get_within(key, Duration::ZERO) {
                    Ok(token) if token.generation() > *held => {
                        *held = token.generation();
                        break;
                    }
                    _ => thread::sleep(Duration::from_micros(500)),
                }
            }
        }
        vec![machine_time(), self.fetches.swap(0, Ordering::SeqCst)]
    }
}

pub fn turnovers(fleet: &mut Fleet) {
    const OURS: [&str; 4] = ["evalsha", "eval", "subscribe", "ping"];
    fleet.ask("tokens many");
    fleet.ask("follow cold");
    thread::sleep(Duration::from_secs(10)); // until all are followed, and the first looks are over
    let mut columns = [const { Vec::new() }; 6];
    for _ in 0..TURNOVERS {
        let (before, began) = (fleet.spent(&OURS), machine_time());
        fleet.children[0].process.tell("refuse all");
        fleet.children[1..].iter_mut().for_each(|child| child.process.tell("follow all"));
        let answers = fleet.hear();
        let after = fleet.spent(&OURS);
        let took = |at: u64| (at - began) as f64 / 1e6;
        let mut times: Vec<f64> = answers.iter().map(|answer| took(answer[0])).collect();
        let (median, last) = (quantile(&mut times, 0.5), quantile(&mut times, 1.0));
        let fetches: u64 = answers.iter().map(|answer| answer[1]).sum();
        let [cpu, sent] = [0, 1].map(|index| after[index] - before[index]);
        let row = [
            median,
            last,
            fetches as f64 / TOKENS as f64,
            sent / (TOKENS * PROCESSES) as f64,
            sent / last * 1e3,
            cpu / last * 1e5,
        ];
        columns.iter_mut().zip(row).for_each(|(column, value)| column.push(value));
        thread::sleep(Duration::from_secs(2));
    }
    println!("\n{PROCESSES} processes × {TOKENS} tokens, an issuer of {ISSUER:?}: one process refuses all of them");
    println!("| | median of {TURNOVERS} turnovers | worst |\n|---|---|---|");
    let names = [
        "half of the processes have all new tokens, ms",
        "all have, ms",
        "fetches a token",
        "commands sent for each token and process",
        "commands sent in a second",
        "processor of Redis meanwhile, % of a core",
    ];
    for (name, mut column) in names.into_iter().zip(columns) {
        println!("| {name} | {:.3} | {:.3} |", quantile(&mut column, 0.5), quantile(&mut column, 1.0));
    }
}
