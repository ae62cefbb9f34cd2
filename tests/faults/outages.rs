//! Redis is killed, restarted, emptied, stopped, paused, full of other keys, or replaced by one that knows less.

use crate::bench::{Bench, PATIENT, all_refused, all_served, ask, in_time_and_order, served, until_newer, wait_until};
use std::time::{Duration, Instant};
use testbed::proxy::Proxy;
use testbed::redis_server::RedisServer;

const SECONDS: Duration = Duration::from_secs(4);

#[test]
fn redis_restart_with_data_lost() {
    let mut bench = Bench::new();
    let mut workers = [bench.worker(), bench.worker()];
    let old = workers.each_mut().map(|worker| served(worker, 20));
    bench.redis.restart().unwrap();
    assert_eq!(workers.each_mut().map(|worker| served(worker, 20)), old, "processes go on with their token");
    bench.assert_fetches(1);
    let mut newcomer = bench.worker();
    let newer = served(&mut newcomer, 20);
    assert!(newer > old[0], "the generation grows over the loss");
    for worker in &mut workers {
        worker.order("invalidate old");
        worker.word("rejected tag=old");
        assert_eq!(served(worker, 20), newer);
    }
    bench.assert_fetches(2);
}

#[test]
fn redis_restart_with_data_lost_while_the_fleet_keeps_fresh() {
    keeps_fresh_over(|bench| bench.redis.restart().unwrap());
}

#[test]
fn flushall_while_the_fleet_keeps_fresh() {
    keeps_fresh_over(|bench| {
        bench.redis.command(&["FLUSHALL"]);
    });
}

fn keeps_fresh_over(loss: impl Fn(&mut Bench)) {
    // The store is checked each tenth of the life, and the token is not due before a minute has passed.
    let mut bench = Bench::with(&[], Duration::from_secs(90));
    let mut workers = [bench.worker(), bench.worker(), bench.worker()];
    for worker in &mut workers {
        worker.order("fresh on");
        worker.word("fresh on");
    }
    let old = workers.each_mut().map(|worker| served(worker, 10));
    assert_eq!([old[1], old[2]], [old[0]; 2]);
    loss(&mut bench);
    wait_until("somebody has given the token back", || bench.exists("token"));
    let stored = bench.redis.command(&["HGET", &bench.key("token"), "gen"]);
    assert_eq!(stored, old[0].to_string());
    assert_eq!(served(&mut bench.worker(), 10), old[0]);
    assert_eq!(workers.each_mut().map(|worker| served(worker, 10)), old);
    bench.assert_fetches(1);
}

#[test]
fn flushall_while_a_flight_is_in_the_air() {
    let bench = Bench::new();
    bench.issuer.hold();
    let (mut first, mut second) = (bench.worker(), bench.worker());
    first.get("first", 20, PATIENT);
    bench.in_flight(1);
    bench.redis.command(&["FLUSHALL"]);
    second.get("second", 20, PATIENT);
    bench.in_flight(2);
    bench.issuer.release();
    let newest = all_served(&first.got("first"), 20).max(all_served(&second.got("second"), 20));
    // Nobody knows which of the two the issuer granted last, so one more fetch settles it.
    wait_until("the loss is noticed", || bench.meta("doubted") >= newest);
    // Whoever learnt of the doubt refreshes; the other one is served from the store.
    let settled = loop {
        let asked = [served(&mut first, 20), served(&mut second, 20)];
        if let Some(newer) = asked.into_iter().find(|generation| *generation > newest) {
            break newer;
        }
    };
    assert!(settled > bench.meta("doubted"));
    bench.assert_fetches(3);
}

/// What a Redis with an eviction policy may do at any moment, key by key.
#[test]
fn a_key_evicted_beside_a_valid_token_costs_nobody_that_has_it_anything() {
    for (key, fetches) in [("meta", 1), ("token", 2)] {
        let bench = Bench::new();
        let mut holder = bench.worker();
        let held = served(&mut holder, 20);
        assert_eq!(bench.redis.command(&["DEL", &bench.key(key)]), "1", "{key}");
        assert_eq!(served(&mut holder, 20), held, "{key}");
        let newcomers = served(&mut bench.worker(), 20);
        assert!(newcomers >= held, "{key}");
        bench.assert_fetches(fetches);
        // Nothing that was lost lets an older token come back, or keeps a newer one away.
        holder.order("invalidate held");
        holder.word("rejected tag=held");
        assert!(until_newer(&mut holder, held) >= newcomers.max(held + 1), "{key}");
    }
}

#[test]
fn an_updater_key_evicted_during_its_fetch_costs_two_more_that_settle_which_token_is_the_last() {
    let bench = Bench::new();
    bench.issuer.hold();
    let (mut first, mut second) = (bench.worker(), bench.worker());
    first.get("first", 20, PATIENT);
    bench.in_flight(1);
    assert_eq!(bench.redis.command(&["DEL", &bench.key("updater")]), "1");
    second.get("second", 20, PATIENT);
    bench.in_flight(2);
    bench.issuer.release();
    let newest = all_served(&first.got("first"), 20).max(all_served(&second.got("second"), 20));
    wait_until("doubt is cast", || bench.meta("doubted") >= newest);
    let settled = loop {
        let asked = [served(&mut first, 20), served(&mut second, 20)];
        if let Some(newer) = asked.into_iter().find(|generation| *generation > newest) {
            break newer;
        }
    };
    assert!(settled > bench.meta("doubted"));
    bench.assert_fetches(3);
}

#[test]
fn script_flush() {
    let bench = Bench::new();
    let (mut first, mut second) = (bench.worker(), bench.worker());
    served(&mut first, 10);
    bench.redis.command(&["SCRIPT", "FLUSH"]);
    served(&mut second, 10);
    bench.redis.command(&["SCRIPT", "FLUSH"]);
    second.order("invalidate old");
    second.word("rejected tag=old");
    bench.redis.command(&["SCRIPT", "FLUSH"]);
    served(&mut second, 10);
    bench.assert_fetches(2);
}

#[test]
fn redis_down() {
    let mut bench = Bench::with(&[], Duration::from_secs(8));
    let (mut holder, mut newcomer) = (bench.worker(), bench.worker());
    let old = served(&mut holder, 20);
    bench.redis.kill();
    assert_eq!(served(&mut holder, 20), old, "served until expiry");
    all_refused(&ask(&mut newcomer, 20, SECONDS), 20, "store");
    let expired = Instant::now() + Duration::from_secs(8);
    loop {
        let words = ask(&mut holder, 20, SECONDS);
        in_time_and_order(&words);
        if words.number("ok") == 0 {
            all_refused(&words, 20, "store");
            break;
        }
        assert!(Instant::now() < expired, "an expired token was served");
        std::thread::sleep(Duration::from_millis(50));
    }
    bench.assert_fetches(1);
    bench.redis.restart().unwrap();
    let newer = [served(&mut holder, 20), served(&mut newcomer, 20)];
    assert!(newer[0] > old && newer[0] == newer[1], "recovery without a restart");
    bench.assert_fetches(2);
}

#[test]
fn redis_killed_while_a_hundred_threads_wait() {
    let mut bench = Bench::new();
    bench.issuer.hold();
    // Whoever cannot commit tries again until its lease must have ended.
    let (mut updater, mut waiters) = (bench.worker_at(&bench.redis.url(), "lease=60000"), bench.worker());
    updater.get("first", 1, PATIENT);
    bench.in_flight(1);
    waiters.get("all", 100, PATIENT);
    bench.somebody_waits();
    bench.redis.kill();
    all_refused(&waiters.got("all"), 100, "store");
    bench.issuer.release();
    let alone = all_served(&updater.got("first"), 1);
    assert_eq!(served(&mut updater, 100), alone, "the updater goes on with the token it could not commit");
    bench.redis.restart().unwrap();
    wait_until("the token is committed at last", || bench.exists("token"));
    // A Redis that came back empty may have granted more than it remembers: the token is doubted, and refreshed once.
    until_newer(&mut waiters, alone);
    bench.assert_fetches(2);
}

#[test]
fn redis_stopped() {
    let bench = Bench::new();
    let mut holder = bench.worker();
    let mut newcomer = bench.worker();
    let old = served(&mut holder, 20);
    bench.redis.pause();
    assert_eq!(served(&mut holder, 20), old);
    all_refused(&ask(&mut newcomer, 100, SECONDS), 100, "store");
    let words = ask(&mut newcomer, 100, Duration::from_millis(100));
    all_refused(&words, 100, "timeout");
    bench.redis.resume();
    assert_eq!(served(&mut newcomer, 100), old);
    bench.assert_fetches(1);
}

#[test]
fn redis_stopped_on_an_empty_store() {
    let bench = Bench::new();
    let mut worker = bench.worker();
    bench.redis.pause();
    all_refused(&ask(&mut worker, 100, SECONDS), 100, "store");
    bench.redis.resume();
    // A claim that nobody waits for any more may be carried out now; its lease ends by itself.
    served(&mut worker, 100);
    bench.assert_fetches(1);
}

#[test]
fn client_pause() {
    let bench = Bench::new();
    let mut worker = bench.worker();
    bench.redis.command(&["CLIENT", "PAUSE", "2500", "ALL"]);
    all_refused(&ask(&mut worker, 100, Duration::from_secs(2)), 100, "store");
    served(&mut bench.worker_at(&bench.redis.url(), "io=1000"), 1);
    served(&mut worker, 100);
    bench.assert_fetches(1);
}

#[test]
fn three_hundred_thousand_other_volatile_keys() {
    let bench = Bench::new();
    let fill = "for i = 1, 300000 do redis.call('SET', 'other:' .. i, i, 'PX', 600000 + i) end return 1";
    assert_eq!(bench.redis.command(&["EVAL", fill, "0"]), "1");
    bench.issuer.hold();
    let (mut updater, mut others) = (bench.worker(), bench.worker());
    updater.get("first", 1, PATIENT);
    bench.in_flight(1);
    others.get("all", 100, PATIENT);
    bench.somebody_waits();
    updater.kill();
    bench.issuer.release();
    let words = others.got("all");
    all_served(&words, 100);
    // A lease of 3 seconds, and the rest for a busy machine; without the timer the callers would wait twice as long.
    assert!(words.number("worst") < 15_000, "taken over after {} ms", words.text("worst"));
    bench.assert_fetches(2);
}

#[test]
fn failover_to_a_replica_that_lost_the_claim() {
    let bench = Bench::new();
    let replica = RedisServer::start().unwrap();
    let proxy = Proxy::to(bench.redis.port());
    let (mut first, mut second) = (bench.worker_at(&proxy.url(), ""), bench.worker_at(&proxy.url(), ""));
    first.arm("before-commit");
    first.get("first", 20, PATIENT);
    first.word("at before-commit");
    proxy.lead_to(replica.port());
    proxy.cut_all();
    let newer = served(&mut second, 20);
    first.order("go");
    assert_eq!(all_served(&first.got("first"), 20), newer, "the newer generation stays");
    bench.assert_fetches(2);
    // The order in which the issuer granted the two is unknown: one more settles it.
    let settled = until_newer(&mut first, newer);
    second.order("invalidate old");
    second.word("rejected tag=old");
    assert_eq!(served(&mut second, 20), settled);
    bench.assert_fetches(3);
}

#[test]
fn failover_that_leaves_connections_to_the_old_primary() {
    let bench = Bench::new();
    let promoted = RedisServer::start().unwrap();
    let proxy = Proxy::to(bench.redis.port());
    let mut worker = bench.worker_at(&proxy.url(), "");
    let old = served(&mut worker, 20);
    // The old primary is a replica now, and does not hang up: only new connections lead to the new one.
    proxy.lead_to(promoted.port());
    bench.redis.command(&["REPLICAOF", "127.0.0.1", &promoted.port().to_string()]);
    worker.order("invalidate old");
    worker.word("rejected tag=old");
    assert!(served(&mut worker, 20) > old);
    bench.assert_fetches(2);
}

#[test]
fn a_commit_carried_out_late_by_a_redis_that_was_stopped_brings_no_expired_token() {
    for stopped_for in [Duration::from_millis(2_500), Duration::from_secs(6)] {
        let bench = Bench::with(&[], Duration::from_secs(3));
        let (mut updater, mut other) = (bench.worker(), bench.worker());
        // Redis knows the scripts from an earlier flight.
        served(&mut updater, 1);
        updater.order("invalidate old");
        updater.word("rejected tag=old");
        updater.arm("before-commit");
        updater.get("first", 1, PATIENT);
        updater.word("at before-commit");
        bench.redis.pause();
        let stopped = Instant::now();
        updater.order("go");
        all_served(&updater.got("first"), 1);
        // Redis has the request, and carries it out when it goes on.
        std::thread::sleep(stopped_for.saturating_sub(stopped.elapsed()));
        bench.redis.resume();
        wait_until("the commit is carried out", || {
            bench.meta("doubted") > 0 || bench.exists("token") || !bench.exists("updater")
        });
        std::thread::sleep(Duration::from_secs(4).saturating_sub(stopped.elapsed()));
        let words = ask(&mut other, 1, PATIENT);
        all_served(&words, 1);
        assert!(bench.issuer.is_valid(words.text("secrets")), "an expired token was served");
    }
}
