//! What the network does between the library and Redis.

use crate::bench::{Bench, PATIENT, all_refused, all_served, ask, served};
use std::time::Duration;
use testbed::proxy::{Line, Proxy};

const SECONDS: Duration = Duration::from_secs(6);

#[test]
fn latency() {
    let bench = Bench::new();
    let proxy = Proxy::to(bench.redis.port());
    proxy.set(Line::Late(Duration::from_millis(80)));
    let mut workers = [bench.worker_at(&proxy.url(), ""), bench.worker_at(&proxy.url(), "")];
    workers.iter_mut().for_each(|worker| worker.get("all", 50, PATIENT));
    let got = workers.each_mut().map(|worker| all_served(&worker.got("all"), 50));
    assert_eq!(got[0], got[1]);
    bench.assert_fetches(1);
}

#[test]
fn redis_hangs_accepting_and_never_answering() {
    let bench = Bench::new();
    let proxy = Proxy::to(bench.redis.port());
    proxy.set(Line::Mute);
    let mut worker = bench.worker_at(&proxy.url(), "");
    all_refused(&ask(&mut worker, 100, Duration::from_millis(200)), 100, "timeout");
    all_refused(&ask(&mut worker, 100, SECONDS), 100, "store");
    bench.assert_fetches(0);
    proxy.set(Line::Pass);
    served(&mut worker, 100);
    bench.assert_fetches(1);
}

#[test]
fn half_open_connections() {
    let bench = Bench::new();
    let proxy = Proxy::to(bench.redis.port());
    let mut worker = bench.worker_at(&proxy.url(), "");
    let old = served(&mut worker, 20);
    proxy.set(Line::Mute);
    assert_eq!(served(&mut worker, 100), old);
    worker.order("invalidate old");
    worker.word("rejected tag=old");
    all_refused(&ask(&mut worker, 100, SECONDS), 100, "store");
    proxy.set(Line::Pass);
    assert!(served(&mut worker, 100) > old);
    bench.assert_fetches(2);
}

#[test]
fn connections_that_are_closed_at_once() {
    let bench = Bench::new();
    let proxy = Proxy::to(bench.redis.port());
    proxy.set(Line::Shut);
    let mut worker = bench.worker_at(&proxy.url(), "");
    all_refused(&ask(&mut worker, 100, SECONDS), 100, "store");
    proxy.set(Line::Pass);
    served(&mut worker, 100);
    bench.assert_fetches(1);
}

#[test]
fn several_pooled_connections_broken_at_once() {
    let bench = Bench::new();
    let proxy = Proxy::to(bench.redis.port());
    let mut workers = [bench.worker_at(&proxy.url(), ""), bench.worker_at(&proxy.url(), "")];
    let old = workers.each_mut().map(|worker| served(worker, 50));
    // Rejections by many threads leave more than one connection in the pool.
    for worker in &mut workers {
        worker.order("reject old 50");
        worker.word("rejected tag=old");
    }
    proxy.cut_all();
    let new = workers.each_mut().map(|worker| served(worker, 50));
    assert!(new[0] > old[0] && new[0] == new[1]);
    bench.assert_fetches(2);
}

#[test]
fn lost_reply_of_claim() {
    let bench = Bench::new();
    let proxy = Proxy::to(bench.redis.port());
    let mut worker = bench.worker_at(&proxy.url(), "");
    proxy.cut_at("granted", 1);
    served(&mut worker, 100);
    assert_eq!((proxy.cuts(), bench.meta("doubted")), (1, 0));
    bench.assert_fetches(1);
}

#[test]
fn lost_replies_of_claim_and_of_its_repetition() {
    let bench = Bench::new();
    let proxy = Proxy::to(bench.redis.port());
    let mut worker = bench.worker_at(&proxy.url(), "");
    proxy.cut_at("granted", 2);
    all_refused(&ask(&mut worker, 1, PATIENT), 1, "store");
    // The lease that nobody knows of ends by itself.
    served(&mut worker, 100);
    assert_eq!(proxy.cuts(), 2);
    bench.assert_fetches(1);
}

#[test]
fn lost_reply_of_commit() {
    for times in [1, 2] {
        let bench = Bench::new();
        let proxy = Proxy::to(bench.redis.port());
        let mut worker = bench.worker_at(&proxy.url(), "");
        proxy.cut_at("written", times);
        let generation = served(&mut worker, 100);
        assert_eq!((proxy.cuts(), bench.meta("doubted")), (u64::from(times), 0));
        assert_eq!(served(&mut bench.worker(), 100), generation);
        bench.assert_fetches(1);
    }
}

#[test]
fn lost_events() {
    let bench = Bench::new();
    let proxy = Proxy::to(bench.redis.port());
    let (mut updater, mut waiters) = (bench.worker(), bench.worker_at(&proxy.url(), ""));
    bench.issuer.hold();
    updater.get("first", 1, PATIENT);
    bench.in_flight(1);
    waiters.get("all", 100, PATIENT);
    bench.somebody_waits();
    proxy.cut_at("committed", 1);
    bench.issuer.release();
    let generation = all_served(&updater.got("first"), 1);
    assert_eq!(all_served(&waiters.got("all"), 100), generation);
    assert_eq!(proxy.cuts(), 1);
    bench.assert_fetches(1);
}

#[test]
fn late_replies_never_become_a_token() {
    let bench = Bench::new();
    let proxy = Proxy::to(bench.redis.port());
    let (mut near, mut far) = (bench.worker(), bench.worker_at(&proxy.url(), ""));
    let old = served(&mut near, 1);
    // The answers come, with the token, but each later than its caller waits.
    proxy.set(Line::Late(Duration::from_millis(900)));
    all_refused(&ask(&mut far, 100, SECONDS), 100, "store");
    all_refused(&ask(&mut far, 100, SECONDS), 100, "store");
    near.order("invalidate old");
    near.word("rejected tag=old");
    proxy.set(Line::Pass);
    let new = served(&mut far, 100);
    assert!(new > old);
    assert_eq!(served(&mut near, 1), new);
    bench.assert_fetches(2);
}
