//! The updater is gone, or only seems to be: who waits sees the difference, and need not wait for the end of the lease.

use crate::bench::{Bench, PATIENT, all_served, served, until_newer, wait_until};
use std::time::{Duration, Instant};
use testbed::proxy::{Line, Proxy};
use testbed::worker_handle::Worker;

/// Longer than any wait here, so that nobody is replaced because its lease is over.
const LONG_LEASE: &str = "lease=30000";
/// How soon who is gone must be replaced: 0.6 s are promised, and measured by the bench; the rest is for a busy machine.
const SOON: Duration = Duration::from_secs(5);

/// Starts an updater whose fetch hangs and that the others can see.
fn updater(bench: &Bench, settings: &str) -> Worker {
    let mut updater = bench.worker_at(&bench.redis.url(), settings);
    bench.issuer.hold();
    updater.get("first", 1, PATIENT);
    bench.in_flight(1);
    bench.updater_is_seen();
    updater
}

/// Has a hundred threads of another process wait for the updater.
fn waiters(bench: &Bench, redis: &str) -> Worker {
    let mut others = bench.worker_at(redis, LONG_LEASE);
    others.get("all", 100, PATIENT);
    bench.somebody_waits();
    others
}

/// Asserts that the waiters, of which one asks the issuer now, are served soon.
fn replaced_soon(bench: &Bench, waiters: &mut Worker, gone: Instant) -> u64 {
    bench.counts("the second request", |stats| stats.asked == 2);
    assert!(gone.elapsed() < SOON, "replaced after {:?}", gone.elapsed());
    bench.issuer.release();
    all_served(&waiters.got("all"), 100)
}

#[test]
fn updater_killed_while_fetching() {
    let bench = Bench::new();
    let mut updater = updater(&bench, LONG_LEASE);
    let mut waiters = waiters(&bench, &bench.redis.url());
    updater.kill();
    replaced_soon(&bench, &mut waiters, Instant::now());
    bench.assert_fetches(2);
    assert_eq!(bench.meta("doubted"), 0);
}

#[test]
fn updater_killed_before_its_commit() {
    let bench = Bench::new();
    let mut updater = updater(&bench, LONG_LEASE);
    updater.arm("before-commit");
    bench.issuer.release();
    updater.word("at before-commit");
    let mut waiters = waiters(&bench, &bench.redis.url());
    updater.kill();
    replaced_soon(&bench, &mut waiters, Instant::now());
    bench.assert_fetches(2);
    assert_eq!(bench.meta("doubted"), 0);
}

#[test]
fn updater_that_ends_by_itself_while_fetching() {
    let bench = Bench::new();
    let mut updater = updater(&bench, LONG_LEASE);
    let mut waiters = waiters(&bench, &bench.redis.url());
    updater.end();
    replaced_soon(&bench, &mut waiters, Instant::now());
    bench.assert_fetches(2);
    assert_eq!(bench.meta("doubted"), 0);
}

#[test]
fn updater_killed_before_anybody_waits() {
    let bench = Bench::new();
    updater(&bench, LONG_LEASE).kill();
    let gone = Instant::now();
    let mut waiters = waiters(&bench, &bench.redis.url());
    replaced_soon(&bench, &mut waiters, gone);
    bench.assert_fetches(2);
}

#[test]
fn updater_killed_in_a_fleet_that_may_not_look_is_replaced_after_its_lease() {
    let bench = Bench::new();
    bench.redis.command(&["ACL", "SETUSER", "user", "on", ">word", "~*", "&*", "+@all", "-pubsub"]);
    let mut updater = updater(&bench, "");
    let mut waiters = waiters(&bench, &bench.redis.url().replace("redis://", "redis://user:word@"));
    updater.kill();
    let (gone, left) = (Instant::now(), bench.lease_left());
    replaced_soon(&bench, &mut waiters, gone);
    assert!(gone.elapsed() >= left, "nobody could know that it was dead");
    bench.assert_fetches(2);
}

#[test]
fn updater_out_of_reach_has_its_whole_lease() {
    let bench = Bench::new();
    let proxy = Proxy::to(bench.redis.port());
    let mut updater = bench.worker_at(&proxy.url(), "");
    bench.issuer.hold();
    updater.get("first", 1, PATIENT);
    bench.in_flight(1);
    bench.updater_is_seen();
    let mut waiters = waiters(&bench, &bench.redis.url());
    proxy.set(Line::Mute);
    let (gone, left) = (Instant::now(), bench.lease_left());
    replaced_soon(&bench, &mut waiters, gone);
    assert!(gone.elapsed() >= left, "it may still be at work");
}

#[test]
fn updater_whose_subscription_is_cut_costs_two_fetches_more_that_settle_which_token_is_the_last() {
    let bench = Bench::new();
    let mut updater = updater(&bench, LONG_LEASE);
    let mut waiters = waiters(&bench, &bench.redis.url());
    bench.redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    let newer = replaced_soon(&bench, &mut waiters, Instant::now());
    assert!(all_served(&updater.got("first"), 1) <= newer, "the newer generation stays");
    let repaired = until_newer(&mut updater, newer);
    assert!(repaired > bench.meta("doubted"));
    assert_eq!(served(&mut bench.worker(), 10), repaired);
    bench.assert_fetches(3);
}

#[test]
fn a_long_fetch_that_everybody_looks_after_is_one_fetch() {
    let bench = Bench::new();
    let mut updater = updater(&bench, "");
    let mut waiters = [waiters(&bench, &bench.redis.url()), waiters(&bench, &bench.redis.url())];
    let looks = || {
        let stats = bench.redis.command(&["INFO", "commandstats"]);
        let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_pubsub")?.split_once("calls="));
        calls.and_then(|(_, calls)| calls.split(',').next()).map_or(0, |calls| calls.parse().expect("a number"))
    };
    wait_until("they have looked twenty times", || looks() >= 20);
    bench.issuer.release();
    let generation = all_served(&updater.got("first"), 1);
    assert_eq!(waiters.each_mut().map(|worker| all_served(&worker.got("all"), 100)), [generation; 2]);
    bench.assert_fetches(1);
    assert_eq!(bench.meta("doubted"), 0);
}
