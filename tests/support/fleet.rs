//! A fleet of real processes: the test starts its own program again, tells each copy what to do by its environment, and
//! reads what it reports.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, iter};
use testbed::LONG;
use testbed::child::{Dialogue, say, told};
use testbed::client::{self, Verified};
use token_manager::{Budget, Error, ErrorKind, TokenManager};

/// What one process saw.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub generations: BTreeSet<u64>,
    /// Kinds of errors, with the seconds of `retry_after`.
    pub errors: BTreeSet<String>,
    pub failed_threads: usize,
    /// How often a thread was handed an older generation after a newer one.
    pub backwards: u64,
    /// How long a token had been revoked when it was handed out, at the worst.
    pub latest_rejection: Duration,
    /// How often a token was handed out by `get` after this process had invalidated it.
    pub rejected_after_healing: u64,
}

pub struct Fleet(Vec<Dialogue>);

impl Fleet {
    pub fn start(processes: usize, threads: usize, redis: &str, issuer: &str, settings: &[&str]) -> Fleet {
        let orders = format!("{threads} {redis} {issuer} {}", settings.join(" "));
        let child = || Dialogue::start(&["child_of_a_fleet", "--exact", "--nocapture"], &[("FLEET", &orders)]);
        Fleet(iter::repeat_with(child).take(processes).collect())
    }

    fn told(&mut self, mark: &str) -> Vec<String> {
        self.0.iter_mut().map(|child| child.expect(mark)).collect()
    }

    /// Waits until every thread of every process waits for a token.
    pub fn wait_until_all_wait(&mut self) {
        self.told("> all wait");
    }

    /// Waits until every process has used so many generations.
    pub fn wait_for_generations(&mut self, count: usize) {
        self.told(&format!("> used {count};"));
    }

    /// Waits until all threads have ended by themselves, and returns what they saw.
    pub fn reports_of_ended_threads(&mut self) -> Vec<Report> {
        self.told("> report ").iter().map(|line| Report::parse(line)).collect()
    }

    /// Ends the processes and returns what they saw.
    pub fn stop(mut self) -> Vec<Report> {
        self.0.iter_mut().for_each(|child| child.process.hang_up());
        self.reports_of_ended_threads()
    }
}

impl Report {
    fn line(&self) -> String {
        let generations: Vec<_> = self.generations.iter().map(u64::to_string).collect();
        let errors: Vec<_> = self.errors.iter().cloned().collect();
        let counts = (self.failed_threads, self.backwards, self.rejected_after_healing);
        let latest = self.latest_rejection.as_micros();
        format!("{}|{}|{} {} {} {latest}", generations.join(","), errors.join(","), counts.0, counts.1, counts.2)
    }

    fn parse(line: &str) -> Report {
        let [generations, errors, counts] = line.split('|').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let list = |text: &str| text.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect::<Vec<_>>();
        let counts: Vec<u64> = counts.split(' ').map(|count| count.parse().expect("a count")).collect();
        Report {
            generations: list(generations).iter().map(|word| word.parse().expect("a generation")).collect(),
            errors: list(errors).into_iter().collect(),
            failed_threads: counts[0] as usize,
            backwards: counts[1],
            rejected_after_healing: counts[2],
            latest_rejection: Duration::from_micros(counts[3]),
        }
    }
}

/// One process of the fleet.
pub struct FleetChild {
    threads: usize,
    issuer: String,
    settings: Vec<String>,
    manager: TokenManager,
    report: Mutex<Report>,
    /// The generations that this process has invalidated.
    healed: Mutex<BTreeSet<u64>>,
    stop: Mutex<bool>,
}

impl FleetChild {
    pub fn from_env() -> Option<FleetChild> {
        let line = env::var("FLEET").ok()?;
        let mut words = line.split_whitespace().map(str::to_owned);
        let mut next = || words.next().expect("threads, redis and issuer");
        let (threads, redis, issuer) = (next().parse().expect("a number"), next(), next());
        let settings: Vec<String> = words.collect();
        let three = settings.iter().any(|setting| setting == "three-a-minute");
        // Where the budget is used up, an impatient caller is told so at once.
        let (budget, deadline) = match three {
            true => (Budget::per_minute(3), Duration::from_secs(2)),
            false => (Budget::per_minute(6_000).burst(1_000), LONG),
        };
        let builder = TokenManager::builder("t").redis(&redis).expect("a URL").deadline(deadline).budget(budget);
        let limits = builder.fetch_limit(LONG).source(client::http_source(issuer.clone()));
        let manager = limits.build().expect("settings that agree");
        let (report, healed, stop) = Default::default();
        Some(FleetChild { threads, issuer, settings, manager, report, healed, stop })
    }

    fn is_set(&self, setting: &str) -> bool {
        self.settings.iter().any(|set| set == setting)
    }

    pub fn run(self) {
        let child = Arc::new(self);
        let _guard = child.is_set("keep-fresh").then(|| child.manager.keep_fresh().expect("a thread"));
        let threads: Vec<_> = (0..child.threads)
            .map(|_| {
                let child = child.clone();
                thread::spawn(move || child.work())
            })
            .collect();
        let ears = child.clone();
        thread::spawn(move || {
            told().for_each(drop);
            *ears.stop.lock().unwrap() = true;
        });
        let waiting = child.clone();
        thread::spawn(move || {
            while waiting.manager.stats().waits < waiting.threads as u64 {
                thread::sleep(Duration::from_millis(2));
            }
            say("> all wait");
        });
        if child.threads == 0 {
            child.watch();
        }
        threads.into_iter().for_each(|thread| thread.join().expect("a worker"));
        say(&format!("> report {}", child.report.lock().unwrap().line()));
    }

    fn stopped(&self) -> bool {
        *self.stop.lock().unwrap()
    }

    /// Looks at the token without asking for one.
    fn watch(&self) {
        while !self.stopped() {
            // Nobody else asks in this process: a hit, and no more, or nothing.
            if self.manager.stats().adopted > 0
                && let Ok(token) = self.manager.get_within(Duration::ZERO)
            {
                self.used(token.generation());
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn used(&self, generation: u64) {
        let mut report = self.report.lock().unwrap();
        if report.generations.insert(generation) {
            say(&format!("> used {};", report.generations.len()));
        }
    }

    fn work(&self) {
        let agent = client::agent();
        let mut newest = 0;
        while !self.stopped() {
            let (asked, healed) = (Instant::now(), self.healed.lock().unwrap().clone());
            let token = match self.manager.get() {
                Ok(token) => token,
                Err(error) if self.is_last(&error) => {
                    self.report.lock().unwrap().failed_threads += 1;
                    return;
                }
                Err(_) => {
                    thread::sleep(Duration::from_millis(20));
                    continue;
                }
            };
            let generation = token.generation();
            self.used(generation);
            self.report.lock().unwrap().backwards += u64::from(generation < newest);
            newest = newest.max(generation);
            self.report.lock().unwrap().rejected_after_healing += u64::from(healed.contains(&generation));
            if self.is_set("verify") {
                let verdict = client::verify(&agent, &self.issuer, token.secret(), LONG).expect("the issuer's API");
                if let Verified::Rejected(revoked_for) = verdict {
                    self.rejected(&token, revoked_for.unwrap_or_default().saturating_sub(asked.elapsed()));
                }
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn rejected(&self, token: &token_manager::Token, revoked_for: Duration) {
        let mut report = self.report.lock().unwrap();
        report.latest_rejection = report.latest_rejection.max(revoked_for);
        drop(report);
        if self.is_set("heal") {
            self.manager.invalidate(token);
            self.healed.lock().unwrap().insert(token.generation());
        }
    }

    /// Notes the error, and returns whether the thread is to end with it.
    fn is_last(&self, error: &Error) -> bool {
        let seconds = error.retry_after().map_or(0, |pause| pause.as_millis().div_ceil(1000));
        self.report.lock().unwrap().errors.insert(format!("{:?} retry_after={seconds}", error.kind()));
        if self.is_set("until-limited") { error.kind() == ErrorKind::Limited } else { true }
    }
}
