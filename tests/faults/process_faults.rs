//! What happens to the process itself: it forks, it has no thread left, its clocks step.

use crate::bench::{Bench, PATIENT, all_refused, all_served, in_time_and_order, served, wait_until};
use std::time::Duration;
use testbed::issuer::Fault;
use testbed::worker_handle::Worker;
use token_manager::internals::Moment;
use token_manager::internals::decide::{self, Serve};
use token_manager::internals::policy::Window;

#[test]
fn fork_after_use() {
    let bench = Bench::new();
    let mut worker = bench.worker();
    let old = served(&mut worker, 50);
    // The child rejects the token, fetches another on connections of its own, and ends.
    worker.order("fork");
    let child = worker.word("got tag=child");
    let parent = worker.word("forked");
    let newer = all_served(&child, 1);
    assert!(newer > old);
    assert_eq!(parent.text("reaped"), "true");
    assert_ne!(parent.text("owner"), child.text("owner"));
    bench.assert_fetches(2);
    worker.order("reject old 50");
    worker.word("rejected tag=old");
    assert_eq!(served(&mut worker, 50), newer, "the parent's connections are its own");
    bench.assert_fetches(2);
}

#[test]
fn fork_while_other_threads_wait() {
    let bench = Bench::new();
    let mut worker = bench.worker();
    bench.issuer.hold();
    worker.get("all", 50, PATIENT);
    bench.in_flight(1);
    worker.order("fork");
    bench.somebody_waits();
    bench.issuer.release();
    let newest = all_served(&worker.got("all"), 50);
    assert_eq!(all_served(&worker.word("got tag=child"), 1), newest);
    bench.assert_fetches(1);
}

#[test]
fn a_child_of_a_busy_parent_goes_on_with_its_token_while_redis_is_down() {
    let mut bench = Bench::new();
    let mut worker = bench.worker();
    let token = served(&mut worker, 50);
    worker.order("load 8 0");
    bench.redis.kill();
    for _ in 0..20 {
        worker.order("fork serve");
        assert_eq!(all_served(&worker.word("got tag=child"), 1), token);
        assert_eq!(worker.word("forked").text("reaped"), "true");
    }
    worker.order("halt");
    let load = worker.got("load");
    assert_eq!(all_served(&load, load.number("ok")), token);
    bench.assert_fetches(1);
}

#[test]
fn a_child_forked_during_a_refresh_that_hangs_refreshes_the_token_itself() {
    let bench = Bench::new();
    let old = served(&mut bench.worker(), 1);
    bench.cast_doubt();
    let mut worker = bench.worker_at(&bench.redis.url(), "fetch_limit=2000");
    bench.issuer.set(|options| options.fault = Fault::Hang);
    // Both on the thread that forks: the second one finds the token due, and from then on hits are let off looking.
    for _ in 0..2 {
        worker.order("call 10000");
        assert_eq!(all_served(&worker.got("call"), 1), old);
    }
    bench.in_flight(1);
    worker.order("fork refresh");
    wait_until("the parent has given up", || bench.meta("fails") == 1);
    bench.issuer.set(|options| options.fault = Fault::None);
    let child = worker.word("got tag=child");
    assert_eq!((child.text("errors"), child.number("low")), ("", old));
    assert!(child.number("high") > old, "the child never refreshed");
    in_time_and_order(&child);
    bench.assert_fetches(3);
}

#[test]
fn no_thread_left_for_a_flight() {
    let bench = Bench::new();
    let mut worker = bench.worker_at(&bench.redis.url(), "local=100 stacks=large");
    starve(&mut worker);
    // The call runs on the thread that reads the orders, which is there already; it has longer than a fetch may take.
    worker.order("call 12000");
    let generation = all_served(&worker.got("call"), 1);
    worker.order("stats");
    assert_eq!(worker.word("stats").number("fetches"), 1);
    assert_eq!(served(&mut bench.worker(), 1), generation);
    bench.assert_fetches(0);
}

#[test]
fn no_thread_left_to_refresh_a_due_token() {
    let bench = Bench::new();
    served(&mut bench.worker(), 1);
    bench.cast_doubt();
    let mut worker = bench.worker_at(&bench.redis.url(), "local=4000 stacks=large");
    let old = served(&mut worker, 1);
    starve(&mut worker);
    // Zero never blocks, not even where the refresh would have to run on the caller's thread.
    worker.order("call 0");
    assert_eq!(all_served(&worker.got("call"), 1), old);
    bench.assert_fetches(1);
}

#[test]
fn no_thread_left_and_a_deadline_of_zero() {
    let bench = Bench::new();
    let mut worker = bench.worker_at(&bench.redis.url(), "local=4000 stacks=large");
    starve(&mut worker);
    worker.order("call 0");
    let words = worker.got("call");
    assert_eq!((words.number("ok"), words.number("late")), (0, 0));
}

fn starve(worker: &mut Worker) {
    worker.order("starve");
    assert_eq!(worker.word("starved").text("ok"), "true");
}

#[test]
fn an_inline_flight_ends_with_its_callers_deadline_however_patient_the_others_are() {
    let bench = Bench::new();
    bench.issuer.hold();
    let (mut updater, mut worker) = (bench.worker(), bench.worker_at(&bench.redis.url(), "flights=inline"));
    updater.get("first", 1, PATIENT);
    bench.in_flight(1);
    worker.get("hurried", 1, Duration::from_secs(3));
    bench.somebody_waits();
    worker.get("patient", 50, PATIENT);
    all_refused(&worker.got("hurried"), 1, "timeout");
    bench.issuer.release();
    assert_eq!(all_served(&worker.got("patient"), 50), all_served(&updater.got("first"), 1));
    bench.assert_fetches(1);
}

#[test]
fn redis_gone_while_inline_flights_hold_their_callers() {
    let mut bench = Bench::new();
    let mut worker = bench.worker_at(&bench.redis.url(), "flights=inline");
    let old = served(&mut worker, 50);
    bench.redis.kill();
    assert_eq!(served(&mut worker, 50), old);
    bench.redis.restart().unwrap();
    worker.order("reject old 50");
    worker.word("rejected tag=old");
    assert!(served(&mut worker, 50) > old);
    bench.assert_fetches(2);
    wait_until("no lease is left behind", || !bench.exists("updater"));
}

const HOUR: u64 = 3_600_000_000_000;

/// A token of an hour, and the moment when it was asked for.
fn hour() -> (Moment, Moment, Moment) {
    let asked_at = Moment { mono: 10 * HOUR, wall: 500 * HOUR };
    let life = Duration::from_secs(3600);
    let left = decide::usable(&Window::default(), life, Duration::ZERO).left;
    let (refresh_at, expires_at) = decide::times(&Window::default(), asked_at, left, life, false, 0.5);
    (asked_at, refresh_at, expires_at)
}

#[test]
fn wall_clock_steps_an_hour_forward() {
    let (asked_at, refresh_at, expires_at) = hour();
    let stepped = Moment { wall: asked_at.wall + HOUR, ..asked_at };
    assert_eq!(decide::serve(stepped, refresh_at, expires_at, 0), Serve::Wait);
    // One round trip sets it right: the same generation is welcome again, so the store has an answer and nothing is fetched.
    assert_eq!(decide::newer_than(None, 7, 0), 6);
    let (refresh_at, expires_at) =
        decide::times(&Window::default(), stepped, Duration::from_secs(3_500), Duration::from_secs(3_600), false, 0.5);
    assert_eq!(decide::serve(stepped, refresh_at, expires_at, 0), Serve::Now);
}

#[test]
fn wall_clock_steps_an_hour_back() {
    let (asked_at, refresh_at, expires_at) = hour();
    let stepped = Moment { wall: asked_at.wall - HOUR, ..asked_at };
    assert_eq!(decide::serve(stepped, refresh_at, expires_at, 0), Serve::Now);
    let an_hour_later = Moment { mono: asked_at.mono + HOUR, wall: asked_at.wall };
    assert_eq!(decide::serve(an_hour_later, refresh_at, expires_at, 0), Serve::Wait, "no expired token is served");
}

#[test]
fn machine_sleeps() {
    let (asked_at, refresh_at, expires_at) = hour();
    let woken = Moment { mono: asked_at.mono, wall: asked_at.wall + 8 * HOUR };
    assert_eq!(decide::serve(woken, refresh_at, expires_at, 0), Serve::Wait);
}
