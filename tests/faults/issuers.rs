//! The issuer is down, slow, hanging, throttling or talking nonsense.

use crate::bench::{Bench, PATIENT, all_refused, all_served, ask, served, wait_until};
use std::time::Duration;
use testbed::issuer::Fault;
use testbed::worker_handle::Worker;

/// Has the issuer fail in this way: one call pays, the threads of two processes get the error at once, nobody asks again
/// during the cool-down, nothing is stored; afterwards all is well. Returns the words of the updater's error.
fn one_call_pays(bench: &Bench, fault: Fault, kind: &str) -> String {
    bench.issuer.set(|options| options.fault = fault);
    let mut workers = [(); 2].map(|()| bench.worker_at(&bench.redis.url(), "fetch_limit=1500"));
    bench.issuer.hold();
    workers[0].get("all", 50, PATIENT);
    bench.in_flight(1);
    workers[1].get("all", 50, PATIENT);
    bench.somebody_waits();
    bench.issuer.release();
    let words = workers.each_mut().map(|worker| all_refused(&worker.got("all"), 50, kind));
    bench.assert_fetches(1);
    assert!(!bench.exists("token") && bench.pauses());
    bench.issuer.set(|options| options.fault = Fault::None);
    recovered(bench, &mut workers);
    words[0].clone()
}

/// Asserts that the first fetch after the cool-down serves all, and is the only one.
fn recovered(bench: &Bench, workers: &mut [Worker; 2]) {
    wait_until("the cool-down is over", || !bench.pauses());
    // A failure is remembered in the process for a second at most; the cool-down is no shorter.
    let got = workers.each_mut().map(|worker| served(worker, 50));
    assert_eq!(got[0], got[1]);
    bench.assert_fetches(2);
}

#[test]
fn issuer_answers_429_with_retry_after() {
    let bench = Bench::new();
    one_call_pays(&bench, Fault::Throttle { retry_after: Some(3) }, "source-throttled");
}

#[test]
fn issuer_answers_429_without_retry_after() {
    let bench = Bench::new();
    one_call_pays(&bench, Fault::Throttle { retry_after: None }, "source-throttled");
}

#[test]
fn issuer_answers_500() {
    let bench = Bench::new();
    let words = one_call_pays(&bench, Fault::Status(500), "source-unavailable");
    assert!(words.contains("status 500"), "{words}");
}

#[test]
fn issuer_hangs() {
    let bench = Bench::new();
    one_call_pays(&bench, Fault::Hang, "source-unknown_outcome");
}

#[test]
fn issuer_loses_half_of_its_answer() {
    let bench = Bench::new();
    one_call_pays(&bench, Fault::TruncatedBody, "source-unknown_outcome");
}

#[test]
fn issuer_answers_with_something_else() {
    let bench = Bench::new();
    one_call_pays(&bench, Fault::Garbage, "source-unknown_outcome");
}

#[test]
fn issuer_returns_life_zero() {
    let bench = Bench::new();
    let words = one_call_pays(&bench, Fault::LifeZero, "source-unknown_outcome");
    assert!(words.contains("life of 0ns"), "{words}");
}

#[test]
fn issuer_returns_negative_life() {
    let bench = Bench::new();
    let words = one_call_pays(&bench, Fault::LifeNegative, "source-unknown_outcome");
    assert!(words.contains("negative"), "{words}");
}

#[test]
fn issuer_returns_absurd_life() {
    let bench = Bench::new();
    let words = one_call_pays(&bench, Fault::LifeHuge, "source-unknown_outcome");
    assert!(words.contains("10 years"), "{words}");
}

#[test]
fn issuer_returns_an_empty_token() {
    let bench = Bench::new();
    let words = one_call_pays(&bench, Fault::EmptyToken, "source-unknown_outcome");
    assert!(words.contains("empty token"), "{words}");
}

#[test]
fn issuer_fails_while_the_token_is_valid() {
    let faults = [Fault::Status(500), Fault::Throttle { retry_after: Some(30) }, Fault::Hang, Fault::LifeZero];
    for fault in faults {
        let bench = Bench::new();
        let mut worker = bench.worker_at(&bench.redis.url(), "fetch_limit=1000");
        let old = served(&mut bench.worker(), 1);
        bench.issuer.set(|options| options.fault = fault);
        bench.cast_doubt();
        assert_eq!([served(&mut worker, 1), served(&mut worker, 1)], [old, old]);
        bench.counts("the refresh", |stats| stats.asked == 2);
        wait_until("the failure is known", || bench.meta("fails") == 1);
        // A failure never displaces a token that is still valid, and is not repeated during its cool-down.
        for _ in 0..5 {
            assert_eq!(all_served(&ask(&mut worker, 100, Duration::from_millis(500)), 100), old);
        }
        assert!(bench.issuer.stats().asked <= 3 && bench.exists("token"));
    }
}

#[test]
fn api_answers_401_to_a_thousand_threads_at_once() {
    let bench = Bench::new();
    let mut workers = [(); 4].map(|()| bench.worker());
    let old = workers.each_mut().map(|worker| served(worker, 250));
    bench.assert_fetches(1);
    workers.iter_mut().for_each(|worker| worker.order("reject old 250"));
    workers.iter_mut().for_each(|worker| drop(worker.word("rejected tag=old")));
    workers.iter_mut().for_each(|worker| worker.get("all", 250, PATIENT));
    let new = workers.each_mut().map(|worker| all_served(&worker.got("all"), 250));
    assert!(new[0] > old[0] && new == [new[0]; 4]);
    bench.assert_fetches(2);
}

#[test]
fn a_token_rejected_during_a_flight_is_not_fetched_twice() {
    let bench = Bench::new();
    let mut worker = bench.worker();
    let old = served(&mut bench.worker(), 1);
    bench.cast_doubt();
    bench.issuer.hold();
    assert_eq!([served(&mut worker, 1), served(&mut worker, 1)], [old, old]);
    bench.in_flight(1);
    worker.order("reject old 50");
    worker.word("rejected tag=old");
    worker.get("all", 50, PATIENT);
    assert!(bench.issuer.wait_for(|stats| stats.in_flight == 1, PATIENT));
    bench.issuer.release();
    assert!(all_served(&worker.got("all"), 50) > old);
    bench.assert_fetches(2);
}
