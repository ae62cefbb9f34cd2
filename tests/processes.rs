//! Eight processes of 25 threads, one real Redis, one real HTTP issuer that counts.

#[path = "support/fleet.rs"]
mod fleet;

use fleet::{Fleet, FleetChild, Report};
use std::collections::BTreeSet;
use std::time::Duration;
use testbed::issuer::{Fault, Issuer, Options};
use testbed::{LONG, redis_server::RedisServer};

const HOUR: Duration = Duration::from_secs(3600);
const PROCESSES: usize = 8;
const THREADS: usize = 25;

/// The other side: a process of the fleet, started by the tests below. Does nothing when run by itself.
#[test]
fn child_of_a_fleet() {
    if let Some(child) = FleetChild::from_env() {
        child.run();
    }
}

fn start(issuer: &Issuer, redis: &RedisServer, settings: &[&str]) -> Fleet {
    Fleet::start(PROCESSES, THREADS, &redis.url(), &issuer.url(), settings)
}

fn issuer(options: Options) -> Issuer {
    Issuer::start("127.0.0.1:0", options).expect("an issuer")
}

/// Lets the issuer answer one request with a token of this life, when it has come.
fn let_one_through(issuer: &Issuer, life: Duration) {
    assert!(issuer.wait_for(|stats| stats.in_flight == 1, LONG), "nobody asks the issuer");
    let issued = issuer.stats().issued;
    issuer.set(|options| options.life = life);
    issuer.release();
    assert!(issuer.wait_for(|stats| stats.issued == issued + 1, LONG), "the issuer did not answer");
    issuer.hold();
}

/// Lets through the first token and then ten more, each when the fleet asks for it.
fn eleven_lives(issuer: &Issuer, fleet: &mut Fleet) {
    fleet.wait_until_all_wait();
    for refresh in 0..=10 {
        let_one_through(issuer, if refresh == 10 { HOUR } else { Duration::from_secs(2) });
        fleet.wait_for_generations(refresh + 1);
    }
}

#[test]
fn eight_processes_on_an_empty_redis_make_one_fetch_and_ten_more_for_ten_turnovers() {
    let redis = RedisServer::start().unwrap();
    let issuer = issuer(Options::default());
    issuer.hold();
    let mut fleet = start(&issuer, &redis, &[]);
    eleven_lives(&issuer, &mut fleet);
    let reports = fleet.stop();
    assert_eq!(reports.len(), PROCESSES);
    for report in &reports {
        assert_eq!(report.generations.len(), 11);
        assert_eq!(report.generations, reports[0].generations, "each process uses each generation");
        assert_eq!(report.errors, BTreeSet::new());
        assert_eq!(report.backwards, 0);
    }
    let stats = issuer.stats();
    assert_eq!((stats.asked, stats.issued, stats.max_in_flight), (11, 11, 1));
}

#[test]
fn an_error_of_the_source_reaches_all_threads_of_all_processes() {
    let redis = RedisServer::start().unwrap();
    let fault = Fault::Throttle { retry_after: Some(30) };
    let issuer = issuer(Options { fault, ..Options::default() });
    issuer.hold();
    let mut fleet = start(&issuer, &redis, &["until-error"]);
    fleet.wait_until_all_wait();
    issuer.release();
    for report in fleet.reports_of_ended_threads() {
        assert_eq!(report.errors, BTreeSet::from(["Source(Throttled) retry_after=30".to_owned()]));
        assert_eq!(report.failed_threads, THREADS);
    }
    assert_eq!(issuer.stats().asked, 1);
}

#[test]
fn a_source_that_always_fails_is_asked_no_more_than_the_budget_allows() {
    let redis = RedisServer::start().unwrap();
    let issuer = issuer(Options { fault: Fault::Status(500), ..Options::default() });
    let mut fleet = start(&issuer, &redis, &["until-limited", "three-a-minute"]);
    for report in fleet.reports_of_ended_threads() {
        assert_eq!(report.failed_threads, THREADS);
    }
    assert_eq!(issuer.stats().asked, 3);
}

#[test]
fn an_api_that_always_answers_401_costs_the_fleet_no_more_than_the_budget() {
    let redis = RedisServer::start().unwrap();
    let issuer = issuer(Options { reject_all: true, life: HOUR, ..Options::default() });
    let mut fleet = start(&issuer, &redis, &["verify", "heal", "until-limited", "three-a-minute"]);
    for report in fleet.reports_of_ended_threads() {
        assert_eq!(report.failed_threads, THREADS);
    }
    assert_eq!(issuer.stats().issued, 3);
}

/// How long after its revocation a token may still be handed out: the answer, the commit and the event have to travel,
/// and the machine may be busy.
const TRAVEL: Duration = Duration::from_secs(1);

#[test]
fn with_keep_fresh_nobody_goes_on_with_a_token_that_was_revoked_on_issue() {
    let redis = RedisServer::start().unwrap();
    let issuer = issuer(Options { revoke_on_issue: true, ..Options::default() });
    issuer.hold();
    let mut fleet = start(&issuer, &redis, &["verify", "keep-fresh"]);
    eleven_lives(&issuer, &mut fleet);
    let reports = fleet.stop();
    assert_eq!(reports.iter().map(|report| report.generations.len()).collect::<Vec<_>>(), [11; PROCESSES]);
    let latest = reports.iter().map(|report| report.latest_rejection).max().unwrap();
    assert!(latest < TRAVEL, "a token was handed out {latest:?} after its revocation");
    assert_eq!((issuer.stats().issued, issuer.stats().max_in_flight), (11, 1));
}

#[test]
fn an_idle_process_with_keep_fresh_holds_each_token_that_another_fetched() {
    let redis = RedisServer::start().unwrap();
    let issuer = issuer(Options::default());
    issuer.hold();
    let mut idle = Fleet::start(PROCESSES - 1, 0, &redis.url(), &issuer.url(), &["keep-fresh"]);
    let mut busy = Fleet::start(1, THREADS, &redis.url(), &issuer.url(), &[]);
    busy.wait_until_all_wait();
    for refresh in 0..=10 {
        let_one_through(&issuer, if refresh == 10 { HOUR } else { Duration::from_secs(2) });
        busy.wait_for_generations(refresh + 1);
        idle.wait_for_generations(refresh + 1);
    }
    assert_eq!(issuer.stats().issued, 11);
    let generations = |reports: Vec<Report>| reports.into_iter().map(|report| report.generations).collect::<Vec<_>>();
    let used = generations(busy.stop()).remove(0);
    assert_eq!(generations(idle.stop()), vec![used; PROCESSES - 1]);
}

#[test]
fn without_keep_fresh_each_process_heals_by_itself_and_without_a_fetch() {
    let redis = RedisServer::start().unwrap();
    let issuer = issuer(Options { revoke_on_issue: true, ..Options::default() });
    issuer.hold();
    let mut fleet = start(&issuer, &redis, &["verify", "heal"]);
    eleven_lives(&issuer, &mut fleet);
    let reports = fleet.stop();
    for report in &reports {
        assert_eq!(report.generations.len(), 11);
        assert_eq!(report.rejected_after_healing, 0, "one rejected token per process and refresh at the most");
    }
    assert_eq!(issuer.stats().issued, 11);
}

#[test]
fn a_waiting_process_calls_two_scripts_and_subscribes_once() {
    let redis = RedisServer::start().unwrap();
    let issuer = issuer(Options { life: HOUR, ..Options::default() });
    issuer.hold();
    let mut updater = Fleet::start(1, THREADS, &redis.url(), &issuer.url(), &[]);
    updater.wait_until_all_wait();
    assert!(issuer.wait_for(|stats| stats.in_flight == 1, LONG));
    redis.command(&["CONFIG", "RESETSTAT"]);
    let mut waiter = Fleet::start(1, THREADS, &redis.url(), &issuer.url(), &[]);
    waiter.wait_until_all_wait();
    let subscribed = || redis.command(&["PUBSUB", "NUMSUB", "tm:{t}:t:events:0"]).ends_with('1');
    testbed::wait_until("the waiter has subscribed", subscribed);
    issuer.release();
    waiter.wait_for_generations(1);
    updater.wait_for_generations(1);
    let stats = redis.command(&["INFO", "commandstats"]);
    let calls = |command: &str| {
        let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
        line.and_then(|line| line.split(',').next()).map_or(0, |count| count.parse::<u64>().unwrap())
    };
    assert_eq!(calls("subscribe"), 1);
    // Two claims of the waiter and one commit of the updater read three hashes each.
    assert_eq!(calls("hmget"), 9);
}
