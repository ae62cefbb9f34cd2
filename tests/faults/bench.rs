//! What every fault test stands on: a Redis and an issuer of its own, workers, and the assertions that all share.

use std::thread;
use std::time::{Duration, Instant};
use testbed::issuer::{Issuer, Options, Stats};
use testbed::redis_server::RedisServer;
use testbed::worker_handle::{Words, Worker};

/// How long a test waits for what must come: generous, because it only ends a test that has failed.
pub const LONG: Duration = Duration::from_secs(60);
/// A deadline that callers do not reach while all goes well.
pub const PATIENT: Duration = Duration::from_secs(30);

pub struct Bench {
    pub redis: RedisServer,
    pub issuer: Issuer,
}

impl Bench {
    /// A Redis, and an issuer of tokens that outlive the test.
    pub fn new() -> Bench {
        Bench::with(&[], Duration::from_secs(600))
    }

    pub fn with(redis_args: &[&str], life: Duration) -> Bench {
        let redis = RedisServer::start_with(redis_args).expect("a private Redis");
        let options = Options { life, ..Options::default() };
        Bench { redis, issuer: Issuer::start("127.0.0.1:0", options).expect("an issuer") }
    }

    pub fn worker(&self) -> Worker {
        self.worker_at(&self.redis.url(), "")
    }

    /// A worker that reaches Redis at this URL, with more settings.
    pub fn worker_at(&self, redis: &str, settings: &str) -> Worker {
        let args = ["a_worker_without_orders_does_nothing", "--exact", "--nocapture"];
        Worker::start(&args, &format!("redis={redis} issuer={} {settings}", self.issuer.url()))
    }

    /// Waits until the issuer works on so many requests at once.
    pub fn in_flight(&self, count: u64) {
        self.counts("requests in flight", |stats| stats.in_flight == count);
    }

    pub fn counts(&self, what: &str, condition: impl Fn(&Stats) -> bool) {
        assert!(self.issuer.wait_for(condition, LONG), "waited in vain for {what}: {:?}", self.issuer.stats());
    }

    /// The requests that the issuer has had, whatever became of them.
    #[track_caller]
    pub fn assert_fetches(&self, expected: u64) {
        let stats = self.issuer.stats();
        assert_eq!(stats.asked, expected, "fetches; the issuer counted {stats:?}");
    }

    /// The name of a key of the token.
    pub fn key(&self, part: &str) -> String {
        format!("tm:{{faults}}:faults:{part}")
    }

    pub fn meta(&self, field: &str) -> u64 {
        self.redis.command(&["HGET", &self.key("meta"), field]).parse().unwrap_or(0)
    }

    /// Whether the fleet pauses, or the egress that all workers have.
    pub fn pauses(&self) -> bool {
        let now: u64 = self.redis.command(&["TIME"]).lines().next().expect("seconds").parse().expect("a number");
        let of_egress = self.redis.command(&["EXISTS", "tm:{faults}:pause:default"]) == "1";
        of_egress || now * 1_000_000 <= self.meta("pause_until") + 100_000
    }

    pub fn exists(&self, part: &str) -> bool {
        self.redis.command(&["EXISTS", &self.key(part)]) == "1"
    }

    /// Waits until somebody waits for the updater, subscribed.
    pub fn somebody_waits(&self) {
        let channel = self.key("events:0");
        wait_until("somebody is subscribed", || !self.redis.command(&["PUBSUB", "NUMSUB", &channel]).ends_with("\n0"));
    }

    /// Waits until the others can see the updater.
    pub fn updater_is_seen(&self) {
        let updater = self.key("updater");
        wait_until("the updater is seen", || self.redis.command(&["GET", &updater]).contains(":present:"));
    }

    /// What is left of the updater's lease.
    pub fn lease_left(&self) -> Duration {
        Duration::from_millis(self.redis.command(&["PTTL", &self.key("updater")]).parse().expect("a lease"))
    }

    /// Casts doubt on every token granted so far, as a late commit does: processes that ask now serve theirs and refresh.
    pub fn cast_doubt(&self) {
        let granted = self.meta("gen").to_string();
        self.redis.command(&["HSET", &self.key("meta"), "doubted", &granted]);
    }
}

/// Has so many threads of the worker call and waits for them.
pub fn ask(worker: &mut Worker, threads: usize, within: Duration) -> Words {
    worker.get("ask", threads, within);
    worker.got("ask")
}

/// Has so many threads of the worker call; all must be served. Returns the newest generation.
#[track_caller]
pub fn served(worker: &mut Worker, threads: usize) -> u64 {
    all_served(&ask(worker, threads, PATIENT), threads as u64)
}

/// Asserts that so many calls got a token, all in time and in order, and no call failed; returns the newest generation.
#[track_caller]
pub fn all_served(words: &Words, calls: u64) -> u64 {
    assert_eq!((words.number("ok"), words.text("errors")), (calls, ""), "{}", words.text("words"));
    in_time_and_order(words);
    words.number("high")
}

/// Asserts that so many calls failed in this way, in time, and none got a token; returns the error's words.
#[track_caller]
pub fn all_refused(words: &Words, calls: u64, kind: &str) -> String {
    let errors = format!("{kind}:{calls}");
    assert_eq!((words.number("ok"), words.text("errors")), (0, errors.as_str()), "{}", words.text("words"));
    in_time_and_order(words);
    words.text("words").replace('_', " ")
}

#[track_caller]
pub fn in_time_and_order(words: &Words) {
    let (late, back) = (words.number("late"), words.number("back"));
    assert_eq!((late, back), (0, 0), "late calls and calls that went back; the worst took {} ms", words.text("worst"));
}

/// Has one call made, repeatedly, until it gets a newer generation than this one; every call must be served.
pub fn until_newer(worker: &mut Worker, than: u64) -> u64 {
    let start = Instant::now();
    loop {
        let newest = served(worker, 1);
        if newest > than {
            return newest;
        }
        assert!(start.elapsed() < LONG, "waited in vain for a generation newer than {than}");
        thread::sleep(Duration::from_millis(5));
    }
}

pub fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LONG, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
