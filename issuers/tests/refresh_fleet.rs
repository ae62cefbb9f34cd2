//! A refresh token that is replaced each time, in a fleet of real processes with a real Redis and a real issuer: killed, stopped and
//! without Redis at each step of a flight. The issuer counts every presentation.

use std::time::Duration;
use testbed::oidc::{Oidc, order_at};
use testbed::proxy::{Line, Proxy};
use testbed::redis_server::RedisServer;
use testbed::worker_handle::Worker;
use testbed::{LONG, wait_until};
use token_manager_issuers::{Client, Login, RefreshToken};

const PROCESSES: usize = 4;
const THREADS: usize = 25;
const ROTATIONS: u64 = 200;

const TOKEN: &str = "tm:{faults}:faults:token";
const META: &str = "tm:{faults}:faults:meta";
const UPDATER: &str = "tm:{faults}:faults:updater";

/// Where this test binary turns into a worker, when it is started as one.
#[test]
fn a_worker_without_orders_does_nothing() {
    testbed::worker::work_with(|settings| {
        let (issuer, window) = (settings["issuer"].to_owned(), settings["window"].parse().unwrap());
        let builder = RefreshToken::at(format!("{issuer}/token")).client(Client::basic("user", "secret"));
        let builder = builder.reuse_window(Duration::from_millis(window));
        builder.bootstrap(move |_| Ok(Login::refresh_token(order_at(&issuer, "login")))).build().unwrap()
    });
}

/// A step of the flight at which something happens.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    /// A verb of the store.
    Store(&'static str),
    /// The issuer has the request and has not looked at it.
    Asked,
    /// The issuer has consumed the refresh token and not answered.
    Answering,
}

const STEPS: [Step; 6] = [
    Step::Store("before-claim"),
    Step::Store("after-claim"),
    Step::Asked,
    Step::Answering,
    Step::Store("before-commit"),
    Step::Store("after-commit"),
];

/// Waits until all threads of a process are served that have begun to ask. A machine that is too busy for a store's timeout may take
/// more than one try.
fn is_served(worker: &mut Worker, tag: &str) {
    for _ in 0..20 {
        let words = worker.got(tag);
        if words.number("ok") == THREADS as u64 {
            return;
        }
        assert!(words.text("errors").starts_with("store"), "{}: {}", words.text("errors"), words.text("words"));
        worker.get(tag, THREADS, LONG);
    }
    panic!("a process is never served again");
}

struct Fleet {
    issuer: Oidc,
    redis: Proxy,
    window: Duration,
    journal: tempfile::TempDir,
    workers: Vec<Worker>,
    server: RedisServer,
}

impl Fleet {
    fn start(window: Duration) -> Fleet {
        let (issuer, server) = (Oidc::start(window), RedisServer::start().expect("a private Redis"));
        let (redis, journal) = (Proxy::to(server.port()), tempfile::tempdir().unwrap());
        let mut fleet = Fleet { issuer, redis, window, journal, workers: Vec::new(), server };
        fleet.workers = (0..PROCESSES).map(|_| fleet.worker()).collect();
        fleet
    }

    fn worker(&self) -> Worker {
        let (redis, issuer, journal) = (self.redis.url(), self.issuer.url(), self.journal.path().display());
        let window = self.window.as_millis();
        let settings = format!("redis={redis} issuer={issuer} window={window} journal={journal}");
        Worker::start(&["a_worker_without_orders_does_nothing", "--exact", "--nocapture"], &settings)
    }

    /// Has every process refuse the token that it has.
    fn reject(&mut self) {
        self.workers.iter_mut().for_each(|worker| worker.order("reject all 1"));
        self.workers.iter_mut().for_each(|worker| drop(worker.word("rejected tag=all")));
    }

    /// Has every thread of every process ask until each was served.
    fn serve(&mut self) {
        self.workers.iter_mut().for_each(|worker| worker.get("all", THREADS, LONG));
        self.workers.iter_mut().for_each(|worker| is_served(worker, "all"));
    }

    /// Has every process ask until it is served, for it may have met a failure, and until nobody has anything left to do: a token in
    /// doubt is refreshed beside the callers, and a late commit may cast doubt.
    fn come_to_rest(&mut self) {
        wait_until("all are served and nothing is in doubt", || {
            self.workers.iter_mut().for_each(|worker| worker.order("rest"));
            self.workers.iter_mut().for_each(|worker| assert_eq!(worker.word("rested").text("ok"), "true"));
            let ask = |command: &[&str]| self.server.command(command).parse::<u64>().unwrap_or(0);
            let is_kept = std::fs::read_dir(self.journal.path()).unwrap().next().is_some();
            let is_in_doubt = ask(&["HGET", TOKEN, "gen"]) <= ask(&["HGET", META, "doubted"]);
            !is_kept && !is_in_doubt && ask(&["EXISTS", UPDATER]) == 0
        });
    }

    /// Brings a process to this step of a flight, with all others waiting.
    fn bring_to(&mut self, updater: usize, step: Step) {
        self.reject();
        match step {
            Step::Store(point) => self.workers[updater].arm(point),
            Step::Asked => self.issuer.hold("before"),
            Step::Answering => self.issuer.hold("after"),
        }
        self.workers[updater].get("it", THREADS, LONG);
        match step {
            Step::Store(point) => drop(self.workers[updater].word(&format!("at {point}"))),
            Step::Asked | Step::Answering => self.issuer.wait_held(),
        }
        self.each_other(updater, |worker| worker.get("others", THREADS, LONG));
    }

    fn each_other(&mut self, updater: usize, mut act: impl FnMut(&mut Worker)) {
        let others = self.workers.iter_mut().enumerate().filter(|(number, _)| *number != updater);
        others.for_each(|(_, worker)| act(worker));
    }

    fn others_are_served(&mut self, updater: usize) {
        self.each_other(updater, |worker| is_served(worker, "others"));
    }

    fn go_on(&mut self, updater: usize, step: Step) {
        match step {
            Step::Store(_) => self.workers[updater].order("go"),
            Step::Asked | Step::Answering => self.issuer.release(),
        }
    }

    /// Killed there, as by the out-of-memory killer, and replaced.
    fn kill_at(&mut self, updater: usize, step: Step) {
        self.bring_to(updater, step);
        self.workers[updater].kill();
        self.others_are_served(updater);
        self.go_on(updater, step); // of use to a request that the issuer holds
        self.workers[updater] = self.worker();
    }

    /// Stopped there until others have taken over.
    fn stop_at(&mut self, updater: usize, step: Step) {
        self.bring_to(updater, step);
        self.workers[updater].stop();
        self.others_are_served(updater);
        self.workers[updater].resume();
        self.go_on(updater, step);
        self.workers[updater].got("it");
    }

    /// Redis is away from there on, for less than a lease.
    fn without_redis_at(&mut self, updater: usize, step: Step) {
        self.bring_to(updater, step);
        self.redis.set(Line::Shut);
        self.redis.cut_all();
        self.go_on(updater, step);
        self.each_other(updater, |worker| drop(worker.got("others")));
        self.redis.set(Line::Pass);
        self.workers[updater].got("it");
    }

    /// All faults at all steps, and plain rotations until there are enough. Returns what each fault at each step cost in logins.
    fn run(&mut self) -> [[u64; 3]; STEPS.len()] {
        let faults = [Fleet::kill_at, Fleet::stop_at, Fleet::without_redis_at];
        self.serve();
        let (mut costs, mut updater) = ([[0; 3]; STEPS.len()], 0);
        for (step, costs) in STEPS.into_iter().zip(&mut costs) {
            for (fault, cost) in faults.iter().zip(costs) {
                let before = self.issuer.count("logins");
                fault(self, updater % PROCESSES, step);
                self.come_to_rest();
                *cost = self.issuer.count("logins") - before;
                updater += 1;
            }
        }
        while self.issuer.count("rotations") < ROTATIONS {
            self.reject();
            self.serve();
        }
        costs
    }
}

#[test]
fn no_login_is_lost_and_no_grant_revoked_where_the_issuer_allows_a_window() {
    let mut fleet = Fleet::start(Duration::from_secs(40));
    fleet.run();
    let stats = fleet.issuer.stats();
    let counts = ["logins", "outside", "revoked", "invalid_grant"].map(|what| stats[what].as_u64().unwrap());
    assert_eq!(counts, [1, 0, 0, 0], "{stats}");
    assert!(stats["inside"].as_u64() >= Some(4), "it was presented again where that was allowed: {stats}");
}

#[test]
fn no_refresh_token_is_presented_twice_where_the_issuer_allows_no_window() {
    let mut fleet = Fleet::start(Duration::ZERO);
    let costs = fleet.run();
    let stats = fleet.issuer.stats();
    let counts = ["inside", "outside", "revoked", "invalid_grant"].map(|what| stats[what].as_u64().unwrap());
    assert_eq!(counts, [0; 4], "{stats}");
    // A result that the journal of a dead process still has costs none, and neither does one that has reached the store.
    assert_eq!(costs.map(|[killed, ..]| killed), [0, 1, 1, 1, 0, 0]);
    assert_eq!(costs.map(|[_, stopped, _]| stopped), [0, 1, 1, 1, 1, 0]);
    // Redis is away for less than a lease; on a machine that is too busy for that it may cost one.
    assert!(costs.iter().all(|[.., without_redis]| *without_redis <= 1), "{costs:?}");
}

#[test]
fn a_process_that_was_stopped_until_the_window_had_closed_presents_nothing() {
    let mut fleet = Fleet::start(Duration::from_secs(8));
    fleet.serve();
    let step = Step::Store("after-claim");
    fleet.bring_to(0, step);
    fleet.workers[0].stop();
    fleet.others_are_served(0); // at the end of the lease, within the window
    assert_eq!(fleet.issuer.count("rotations"), 2);
    std::thread::sleep(fleet.window); // what is awaited is the passing of time itself
    fleet.workers[0].resume();
    fleet.go_on(0, step);
    fleet.workers[0].got("it");
    fleet.come_to_rest();
    let stats = fleet.issuer.stats();
    let counts = ["logins", "rotations", "inside", "outside", "revoked"].map(|what| stats[what].as_u64().unwrap());
    assert_eq!(counts, [1, 2, 0, 0, 0], "{stats}");
}
