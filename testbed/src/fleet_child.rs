//! One process of the fleet: its threads use the token until its stdin ends, and it reports on stdout, one line for each
//! message of `Report`.

use crate::child::{say, told};
use crate::client::{self, Verified};
use crate::options::explain;
use crate::waits::Waits;
use crossbeam::channel;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use token_manager::{Budget, Event, TokenManager};

/// What a child is told.
pub struct Orders {
    pub name: String,
    pub redis: String,
    pub issuer: String,
    pub threads: usize,
    pub pace: Duration,
    pub fetch_limit: Duration,
    pub deadline: Duration,
    pub keep_fresh: bool,
    /// Every token is shown to the issuer before the next call.
    pub verify: bool,
}

/// What a child reports; each is one line, the word and then its values.
pub enum Report {
    /// The owner id of this process.
    Owner(String),
    Granted(u64),
    Committed(u64),
    /// A thread got a token of this generation, the first in this process.
    Used(u64),
    /// Something went wrong, told once for each text.
    Trouble(String),
    /// How things stand since the start, told five times a second.
    Counts(Counts),
    /// The waits of all calls, told at the end.
    Waits(Waits),
}

#[derive(Clone, Copy, Default)]
pub struct Counts {
    pub calls: u64,
    pub errors: u64,
    /// Tokens rejected while the call was already under way when the token became invalid.
    pub overtaken: u64,
    /// Tokens rejected although the call began after that, and how long after at most.
    pub stale: u64,
    pub stalest_us: u64,
}

impl Report {
    fn send(&self) {
        let line = match self {
            Report::Owner(owner) => format!("owner {owner}"),
            Report::Granted(generation) => format!("granted {generation}"),
            Report::Committed(generation) => format!("committed {generation}"),
            Report::Used(generation) => format!("used {generation}"),
            Report::Trouble(text) => format!("trouble {}", text.replace('\n', " ")),
            Report::Counts(Counts { calls, errors, overtaken, stale, stalest_us }) => {
                format!("counts {calls} {errors} {overtaken} {stale} {stalest_us}")
            }
            Report::Waits(waits) => format!("waits {}", waits.to_line()),
        };
        // Nobody reads it when the parent is gone, and then this process is about to end as well.
        say(&line);
    }

    pub fn parse(line: &str) -> Option<Report> {
        let (word, rest) = line.split_once(' ')?;
        let number = || rest.parse().ok();
        match word {
            "owner" => Some(Report::Owner(rest.into())),
            "granted" => Some(Report::Granted(number()?)),
            "committed" => Some(Report::Committed(number()?)),
            "used" => Some(Report::Used(number()?)),
            "trouble" => Some(Report::Trouble(rest.into())),
            "counts" => {
                let numbers = rest.split(' ').map(|word| word.parse().ok()).collect::<Option<Vec<u64>>>()?;
                let [calls, errors, overtaken, stale, stalest_us] = numbers.try_into().ok()?;
                Some(Report::Counts(Counts { calls, errors, overtaken, stale, stalest_us }))
            }
            "waits" => Waits::from_line(rest).map(Report::Waits),
            _ => None,
        }
    }
}

/// What the threads of this child share.
struct FleetChild {
    orders: Orders,
    manager: TokenManager,
    ending: AtomicBool,
    calls: AtomicU64,
    counts: Mutex<Counts>,
    used: Mutex<BTreeSet<u64>>,
    troubles: Mutex<BTreeSet<String>>,
}

pub fn run(orders: Orders) -> Result<(), String> {
    let manager = manager(&orders).map_err(|error| explain(&error))?;
    Report::Owner(manager.owner()).send();
    let fresh = orders.keep_fresh.then(|| manager.keep_fresh()).transpose();
    let _fresh = fresh.map_err(|error| explain(&error))?;
    let child = FleetChild {
        orders,
        manager,
        ending: AtomicBool::new(false),
        calls: AtomicU64::new(0),
        counts: Mutex::default(),
        used: Mutex::default(),
        troubles: Mutex::default(),
    };
    let waits = thread::scope(|scope| {
        let (sender, results) = channel::unbounded();
        for _ in 0..child.orders.threads {
            let (child, sender) = (&child, sender.clone());
            scope.spawn(move || sender.send(child.work()));
        }
        scope.spawn(|| child.report());
        // Ends when the fleet's parent closes the pipe, or is gone.
        told().for_each(drop);
        child.ending.store(true, Ordering::Relaxed);
        drop(sender);
        results.into_iter().fold(Waits::default(), |mut all, waits| {
            all.merge(&waits);
            all
        })
    });
    Report::Counts(child.counts()).send();
    Report::Waits(waits).send();
    Ok(())
}

fn manager(orders: &Orders) -> Result<TokenManager, token_manager::Error> {
    TokenManager::builder(&orders.name)
        .redis(&orders.redis)?
        .source(client::http_source(orders.issuer.clone()))
        // Generous, so that it is not the budget that keeps the fetches few.
        .budget(Budget::per_minute(6_000).burst(100))
        .fetch_limit(orders.fetch_limit)
        .deadline(orders.deadline)
        .observer(|event| match event {
            Event::Granted { generation, .. } => Report::Granted(*generation).send(),
            Event::Committed { generation, .. } => Report::Committed(*generation).send(),
            _ => {}
        })
        .build()
}

impl FleetChild {
    fn work(&self) -> Waits {
        let agent = client::agent();
        let mut waits = Waits::default();
        let mut last = 0;
        while !self.ending.load(Ordering::Relaxed) {
            let started = Instant::now();
            let token = self.manager.get();
            waits.record(started.elapsed());
            self.calls.fetch_add(1, Ordering::Relaxed);
            match token {
                Ok(token) => {
                    if token.generation() != last {
                        last = token.generation();
                        self.note_use(last);
                    }
                    if self.orders.verify {
                        self.verify(&agent, &token, started);
                    }
                }
                Err(error) => self.note_error(explain(&error)),
            }
            thread::sleep(self.orders.pace);
        }
        waits
    }

    fn verify(&self, agent: &ureq::Agent, token: &token_manager::Token, started: Instant) {
        match client::verify(agent, &self.orders.issuer, token.secret(), Duration::from_secs(5)) {
            Ok(Verified::Valid) => {}
            Ok(Verified::Rejected(invalid_for)) => {
                let stale = invalid_for.map_or(Duration::ZERO, |time| time.saturating_sub(started.elapsed()));
                self.manager.invalidate(token);
                let mut counts = self.counts.lock();
                match invalid_for {
                    Some(_) if stale.is_zero() => counts.overtaken += 1,
                    _ => counts.stale += 1,
                }
                counts.stalest_us = counts.stalest_us.max(stale.as_micros() as u64);
            }
            Err(error) => self.note_error(error),
        }
    }

    fn note_use(&self, generation: u64) {
        if self.used.lock().insert(generation) {
            Report::Used(generation).send();
        }
    }

    fn note_error(&self, text: String) {
        self.counts.lock().errors += 1;
        if self.troubles.lock().insert(text.clone()) {
            Report::Trouble(text).send();
        }
    }

    fn counts(&self) -> Counts {
        Counts { calls: self.calls.load(Ordering::Relaxed), ..*self.counts.lock() }
    }

    fn report(&self) {
        while !self.ending.load(Ordering::Relaxed) {
            Report::Counts(self.counts()).send();
            thread::sleep(Duration::from_millis(200));
        }
    }
}
