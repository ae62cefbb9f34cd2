//! How soon an updater that is killed is replaced, that none is replaced that lives, and what it costs Redis that a crowd of
//! waiters looks after it: a real Redis, and for the first two real processes and a real issuer. `KILLS`, `LIVES` and `CROWD` are
//! how many.

use std::env;
use std::thread;
use std::time::{Duration, Instant};
use testbed::issuer::{Issuer, Options};
use testbed::redis_server::RedisServer;
use testbed::worker;
use testbed::worker_handle::Worker;
use testbed::{Script, wait_until};
use token_manager::{RedisStore, TokenManager};
use token_manager_benches::measure::{asked_for, quantile};

const THREADS: usize = 25;
const PATIENT: Duration = Duration::from_secs(30);
/// How long a fetch takes whose updater is killed at any point of its first half, after the moment that it takes to be seen.
const FETCH: Duration = Duration::from_millis(2_000);
const MOMENT: Duration = Duration::from_millis(20);

struct Bench {
    redis: RedisServer,
    issuer: Issuer,
}

impl Bench {
    fn start() -> Bench {
        let options = Options { life: Duration::from_secs(3_600), ..Options::default() };
        let issuer = Issuer::start("127.0.0.1:0", options).expect("an issuer");
        Bench { redis: RedisServer::start().expect("a Redis"), issuer }
    }

    fn fetches_take(&self, at_least: Duration, at_most: Duration) {
        self.issuer.set(|options| (options.latency_min, options.latency_max) = (at_least, at_most));
    }

    fn worker(&self) -> Worker {
        Worker::start(&[], &format!("redis={} issuer={}", self.redis.url(), self.issuer.url()))
    }

    /// The CPU time that Redis has had so far, in seconds.
    fn cpu(&self) -> f64 {
        let info = self.redis.command(&["INFO", "cpu"]);
        let of = |line: &str| {
            line.strip_prefix("used_cpu_user:").or(line.strip_prefix("used_cpu_sys:"))?.parse::<f64>().ok()
        };
        info.lines().filter_map(|line| of(line.trim())).sum()
    }

    fn wait_for_fetches(&self, count: u64) {
        assert!(self.issuer.wait_for(|stats| stats.asked == count, PATIENT), "{:?}", self.issuer.stats());
    }

    fn calls(&self, command: &str) -> u64 {
        let stats = self.redis.command(&["INFO", "commandstats"]);
        let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_")?.strip_prefix(command));
        let calls = line.and_then(|line| line.split_once("calls=")?.1.split_once(','));
        calls.map_or(0, |(calls, _)| calls.parse().expect("a number"))
    }
}

/// Asserts that all calls were served.
fn served(worker: &mut Worker, tag: &str) {
    let words = worker.got(tag);
    assert_eq!((words.number("ok"), words.text("errors")), (THREADS as u64, ""), "{}", words.text("words"));
}

fn count(variable: &str) -> u64 {
    env::var(variable).map_or(100, |count| count.parse().expect("a number"))
}

fn main() {
    worker::work_if_ordered();
    if asked_for() {
        kills(count("KILLS"));
        lives(count("LIVES"));
        let waiters = 10 * count("CROWD");
        println!(
            "\n| what {waiters} waiters send in a second of a fetch | claims | looks | CPU of Redis |\n|---|---|---|---|"
        );
        crowd("that may not look", waiters, "-pubsub");
        crowd("that look", waiters, "+pubsub");
    }
}

/// Kills one updater after the other, beside two processes that wait for it.
fn kills(count: u64) {
    let bench = Bench::start();
    let mut took = Vec::new();
    for kill in 0..count {
        bench.redis.command(&["FLUSHALL"]);
        let (mut updater, mut others) = (bench.worker(), [bench.worker(), bench.worker()]);
        bench.fetches_take(FETCH, FETCH);
        updater.get("first", THREADS, PATIENT);
        bench.wait_for_fetches(2 * kill + 1);
        others.iter_mut().for_each(|other| other.get("all", THREADS, PATIENT));
        thread::sleep(MOMENT + FETCH.mul_f64(0.5 * kill as f64 / count as f64));
        bench.fetches_take(Duration::ZERO, Duration::ZERO);
        updater.kill();
        let killed = Instant::now();
        bench.wait_for_fetches(2 * kill + 2);
        took.push(killed.elapsed().as_secs_f64() * 1e3);
        others.iter_mut().for_each(|other| served(other, "all"));
    }
    let [p50, p90, worst] = [0.5, 0.9, 1.0].map(|share| quantile(&mut took, share));
    let fetches = bench.issuer.stats().asked - count;
    println!("{count} updaters killed: replaced after {p50:.0} ms (p50), {p90:.0} (p90), {worst:.0} at worst");
    println!("no call failed; {fetches} fetches for {count} tokens beside the {count} that died with their updaters\n");
}

/// One life after the other, each fetch long enough for everybody to look after its updater.
fn lives(count: u64) {
    let bench = Bench::start();
    bench.fetches_take(FETCH / 4, FETCH / 2);
    let mut workers = [bench.worker(), bench.worker(), bench.worker()];
    for _ in 0..count {
        workers.iter_mut().for_each(|worker| worker.get("all", THREADS, PATIENT));
        workers.iter_mut().for_each(|worker| served(worker, "all"));
        workers.iter_mut().for_each(|worker| worker.order("reject old 1"));
        workers.iter_mut().for_each(|worker| drop(worker.word("rejected tag=old")));
    }
    let needless = bench.issuer.stats().asked - count;
    let (looks, subscriptions) = (bench.calls("pubsub"), bench.calls("subscribe"));
    println!(
        "{count} lives without a kill: {needless} needless fetches, with {looks} looks of two waiters for their updater"
    );
    println!("and {subscriptions} subscriptions");
    assert_eq!(needless, 0);
}

/// Has so many managers, each as a process would, wait for one updater, and counts what they send.
fn crowd(title: &str, waiters: u64, right: &str) {
    let (bench, script) = (Bench::start(), Script::held(PATIENT));
    bench.redis.command(&["ACL", "SETUSER", "user", "on", ">word", "~*", "&*", "+@all", right]);
    let store = RedisStore::open(&bench.redis.url().replace("redis://", "redis://user:word@")).expect("a store");
    let build = || {
        let builder = TokenManager::builder("crowd").store(store.clone()).source(script.source());
        builder.fetch_limit(PATIENT).deadline(2 * PATIENT).build().expect("a manager")
    };
    let managers: Vec<TokenManager> = (0..=waiters).map(|_| build()).collect();
    let start = |manager: &TokenManager| drop(manager.get_within(Duration::ZERO));
    start(&managers[0]);
    script.wait_for(1);
    let all = format!("\n{waiters}");
    let events = "tm:{crowd}:crowd:events:0";
    wait_until("all wait", || {
        // A flight that found the machine too busy is started anew.
        managers.chunks(50).for_each(|some| {
            some.iter().for_each(start);
            thread::sleep(Duration::from_millis(20));
        });
        bench.redis.command(&["PUBSUB", "NUMSUB", events]).ends_with(&all)
    });
    thread::sleep(Duration::from_secs(2));
    // A claim reads three hashes, and nothing else of what waiters send reads one.
    let sent = || [bench.calls("hmget") as f64 / 3.0, bench.calls("pubsub") as f64, bench.cpu()];
    let (before, started) = (sent(), Instant::now());
    thread::sleep(Duration::from_secs(5));
    let (after, seconds) = (sent(), started.elapsed().as_secs_f64());
    let [claims, looks, cpu] = [0, 1, 2].map(|at| (after[at] - before[at]) / seconds);
    println!("| {title} | {claims:.0} | {looks:.0} | {:.1} % |", 100.0 * cpu);
    script.release();
    assert!(managers.iter().all(|manager| manager.quiesce(PATIENT)));
    assert_eq!(script.fetches(), 1);
}
