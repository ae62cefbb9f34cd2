//! The updater is killed, paused or slow, at every point of its work.

use crate::bench::{Bench, PATIENT, all_served, ask, served, until_newer, wait_until};
use std::time::{Duration, Instant};
use testbed::worker_handle::Worker;

const LEASE: Duration = Duration::from_secs(3);

/// Starts an updater that waits at this point of its work.
fn updater_at(bench: &Bench, point: &str) -> Worker {
    let mut updater = bench.worker();
    updater.arm(point);
    updater.get("first", 1, PATIENT);
    updater.word(&format!("at {point}"));
    updater
}

/// Has a hundred threads of another process wait for the updater.
fn waiters(bench: &Bench) -> Worker {
    let mut others = bench.worker();
    others.get("all", 100, PATIENT);
    bench.somebody_waits();
    others
}

/// Asserts that the waiters were served soon after the lease of the killed updater ended.
fn taken_over_at_lease_end(bench: &Bench, waiters: &mut Worker) {
    let (start, left) = (Instant::now(), bench.lease_left());
    all_served(&waiters.got("all"), 100);
    let took = start.elapsed();
    // Fifty milliseconds are promised; the rest is for a busy machine.
    assert!(took < left + Duration::from_millis(1_500), "taken over after {took:?}, with {left:?} left of the lease");
}

#[test]
fn updater_killed_before_its_claim() {
    let bench = Bench::new();
    let mut updater = updater_at(&bench, "before-claim");
    updater.kill();
    served(&mut bench.worker(), 100);
    bench.assert_fetches(1);
}

#[test]
fn updater_killed_after_its_claim_and_before_it_could_be_seen() {
    let bench = Bench::new();
    let mut updater = updater_at(&bench, "after-claim");
    let mut waiters = waiters(&bench);
    updater.kill();
    taken_over_at_lease_end(&bench, &mut waiters);
    bench.assert_fetches(1);
}

#[test]
fn updater_killed_before_its_commit_with_a_journal() {
    let (bench, journal) = (Bench::new(), tempfile::tempdir().expect("a folder"));
    let settings = format!("journal={}", journal.path().display());
    let mut updater = bench.worker_at(&bench.redis.url(), &settings);
    updater.arm("before-commit");
    updater.get("first", 1, PATIENT);
    updater.word("at before-commit");
    updater.kill();
    // Nobody waits for the lease: what it was to bring is here.
    served(&mut bench.worker_at(&bench.redis.url(), &settings), 100);
    bench.assert_fetches(1);
    assert_eq!((bench.exists("updater"), bench.meta("doubted")), (false, 0));
    assert_eq!(std::fs::read_dir(journal.path()).expect("a folder").count(), 0);
}

#[test]
fn updater_killed_after_its_commit() {
    let bench = Bench::new();
    let mut updater = updater_at(&bench, "after-commit");
    updater.kill();
    served(&mut bench.worker(), 100);
    bench.assert_fetches(1);
}

#[test]
fn updater_killed_while_the_old_token_is_valid() {
    let bench = Bench::new();
    let mut others = bench.worker();
    let old = served(&mut bench.worker(), 1);
    bench.cast_doubt();
    bench.issuer.hold();
    // A process that asks now serves the old token, and refreshes it when it is asked again.
    let mut refresher = bench.worker();
    assert_eq!([served(&mut refresher, 1), served(&mut refresher, 1)], [old, old]);
    bench.in_flight(1);
    refresher.kill();
    for _ in 0..3 {
        assert_eq!(all_served(&ask(&mut others, 100, Duration::from_millis(500)), 100), old, "nobody noticed");
    }
    bench.issuer.release();
    until_newer(&mut others, old);
    bench.assert_fetches(3);
}

#[test]
fn issuer_slower_than_the_lease() {
    let bench = Bench::new();
    bench.issuer.set(|options| (options.latency_min, options.latency_max) = (LEASE * 2, LEASE * 2));
    let mut workers = [bench.worker(), bench.worker()];
    workers.iter_mut().for_each(|worker| worker.get("slow", 50, PATIENT));
    let generations = workers.each_mut().map(|worker| all_served(&worker.got("slow"), 50));
    assert_eq!(generations[0], generations[1]);
    bench.assert_fetches(1);
    assert_eq!((bench.issuer.stats().max_in_flight, bench.meta("doubted")), (1, 0));
}

/// Pauses an updater at this point until another process has taken over, then lets it go on; returns both, with the
/// generation that the other one got.
fn paused_past_its_lease(bench: &Bench, point: &str) -> (Worker, Worker, u64) {
    let mut updater = updater_at(bench, point);
    updater.stop();
    let mut other = bench.worker();
    let generation = served(&mut other, 100);
    updater.resume();
    updater.order("go");
    (updater, other, generation)
}

/// Asserts that a late commit left the newer token in place, in doubt, and that one more fetch repaired it.
fn repaired_with_one_more_fetch(bench: &Bench, updater: &mut Worker, other: &mut Worker, newer: u64) {
    assert_eq!(all_served(&updater.got("first"), 1), newer, "the newer generation stays");
    assert!(bench.meta("doubted") >= newer);
    let repaired = until_newer(updater, newer);
    assert!(repaired > bench.meta("doubted"));
    // The other process finds out when it asks again, and needs no fetch for it.
    other.order("invalidate old");
    other.word("rejected tag=old");
    assert_eq!(served(other, 100), repaired);
    bench.assert_fetches(3);
}

#[test]
fn updater_paused_before_its_claim() {
    let bench = Bench::new();
    let (mut updater, _other, generation) = paused_past_its_lease(&bench, "before-claim");
    assert_eq!(all_served(&updater.got("first"), 1), generation);
    bench.assert_fetches(1);
    assert_eq!(bench.meta("doubted"), 0);
}

#[test]
fn updater_paused_past_its_lease_after_its_claim() {
    let bench = Bench::new();
    let (mut updater, mut other, newer) = paused_past_its_lease(&bench, "after-claim");
    repaired_with_one_more_fetch(&bench, &mut updater, &mut other, newer);
}

#[test]
fn updater_paused_past_its_lease_while_fetching() {
    let bench = Bench::new();
    bench.issuer.hold();
    let mut updater = bench.worker();
    updater.get("first", 1, PATIENT);
    bench.in_flight(1);
    bench.updater_is_seen();
    updater.stop();
    let (start, left) = (Instant::now(), bench.lease_left());
    let mut other = bench.worker();
    other.get("other", 100, PATIENT);
    bench.in_flight(2);
    assert!(start.elapsed() >= left, "whoever is only paused has its whole lease");
    bench.issuer.release();
    let newer = all_served(&other.got("other"), 100);
    updater.resume();
    repaired_with_one_more_fetch(&bench, &mut updater, &mut other, newer);
}

#[test]
fn updater_paused_past_its_lease_before_its_commit() {
    let bench = Bench::new();
    let (mut updater, mut other, newer) = paused_past_its_lease(&bench, "before-commit");
    repaired_with_one_more_fetch(&bench, &mut updater, &mut other, newer);
}

#[test]
fn updater_paused_after_its_commit() {
    let bench = Bench::new();
    let (mut updater, _other, generation) = paused_past_its_lease(&bench, "after-commit");
    assert_eq!(all_served(&updater.got("first"), 1), generation);
    bench.assert_fetches(1);
    assert_eq!(bench.meta("doubted"), 0);
}

#[test]
fn updater_paused_past_its_lease_wakes_before_the_other_one_commits() {
    let bench = Bench::new();
    let mut paused = updater_at(&bench, "before-commit");
    paused.stop();
    wait_until("the lease is over", || !bench.exists("updater"));
    let mut other = updater_at(&bench, "before-commit");
    paused.resume();
    paused.order("go");
    let older = all_served(&paused.got("first"), 1);
    other.order("go");
    let newer = all_served(&other.got("first"), 1);
    assert!(newer > older && bench.meta("doubted") >= newer);
    until_newer(&mut other, newer);
    bench.assert_fetches(3);
}
