//! The simulated fleet behaves as the protocol promises, and the same each time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;
use testbed::redis_server::RedisServer;
use token_manager::{Attempt, Budget, Fetched, TokenManager, TokenManagers};
use token_manager_benches::simulation::{Settings, many, run};

fn small(seed: u64) -> Settings {
    Settings { processes: 1000, seed, ..Settings::default() }
}

#[test]
fn the_same_seed_gives_the_same_report() {
    assert_eq!(run(&small(7)), run(&small(7)));
    assert_ne!(run(&small(7)), run(&small(8)));
}

#[test]
fn a_healthy_fleet_fetches_once_a_life_and_waits_only_for_the_first_token() {
    for life in [5, 60, 7200] {
        let report = run(&Settings { life: Duration::from_secs(life), ..small(1) });
        assert_eq!((report.cold.fetches, report.steady.waits), (1, 0), "life of {life} s");
        // A life ends for the fleet when its first process finds the token due, at 70 to 80 % of it, queueing apart.
        assert!(report.shortest_gap >= Duration::from_secs(life).mul_f64(0.69), "life of {life} s");
        assert!((4..=5).contains(&report.steady.fetches), "life of {life} s");
    }
}

#[test]
fn an_issuer_slower_than_the_lease_is_asked_once() {
    let report = run(&Settings { issuer: Duration::from_secs(8), ..small(1) });
    assert_eq!((report.cold.fetches, report.steady.waits), (1, 0));
}

/// The group of a key that belongs to none is the fleet's name and the key.
#[test]
fn groups_lie_where_a_real_cluster_puts_them_and_spread_evenly() {
    assert_eq!(many::slot("123456789"), 0x31C3); // the vector of the Redis Cluster specification
    let redis = RedisServer::start_with(&["--cluster-enabled", "yes"]).unwrap();
    for group in ["crm:tenant-000001", "a", "", "crm:tenant-009999"] {
        let real = redis.command(&["CLUSTER", "KEYSLOT", group]);
        assert_eq!(many::slot(group).to_string(), real, "{group}");
    }
    let groups = || (0..10_000).map(|number| format!("crm:tenant-{number:06}"));
    let counts = many::spread(groups(), 6);
    assert_eq!((counts.len(), counts.iter().sum::<usize>()), (6, 10_000));
    assert!(counts.iter().all(|count| (1_500..1_834).contains(count)), "{counts:?}");
}

const PROCESSES: usize = 4;
const TOKENS: usize = 25;
const LIFE: Duration = Duration::from_secs(6);
const SPAN: Duration = Duration::from_secs(18);

/// What a real Redis is sent by four stores, each with a subscription and a pool of its own as a process would have, that keep 25
/// tokens fresh over some lives, against the simulation of the same.
#[test]
fn many_tokens_cost_a_real_redis_what_is_simulated() {
    let redis = RedisServer::start().unwrap();
    let fetches = Arc::new(AtomicU64::new(0));
    let fleet: Vec<TokenManagers> = (0..PROCESSES)
        .map(|_| {
            let fetches = fetches.clone();
            let source = move |_: &str, _: &Attempt| {
                fetches.fetch_add(1, Ordering::SeqCst);
                Ok(Fetched::new("secret", LIFE))
            };
            let builder = TokenManager::builder("crm").redis(&redis.url()).unwrap();
            builder.budget(Budget::per_minute(6_000)).keyed(source).build().unwrap()
        })
        .collect();
    let _guards: Vec<_> = fleet.iter().map(|managers| managers.keep_fresh().unwrap()).collect();
    for key in 0..TOKENS {
        fleet.iter().for_each(|managers| drop(managers.get(&format!("tenant-{key:02}")).unwrap()));
        thread::sleep(LIFE / 2 / TOKENS as u32); // they are due one after the other
    }
    thread::sleep(LIFE); // the first life, with what following costs, is over
    let sent = |command: &str| {
        let stats = redis.command(&["INFO", "commandstats"]);
        let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
        line.and_then(|line| line.split(',').next()).map_or(0, |count| count.parse::<u64>().unwrap())
    };
    redis.command(&["CONFIG", "RESETSTAT"]);
    fetches.store(0, Ordering::SeqCst);
    thread::sleep(SPAN);
    let real = [fetches.load(Ordering::SeqCst), sent("evalsha"), sent("ping")];
    let settings = many::Settings {
        processes: PROCESSES,
        tokens: TOKENS,
        life: LIFE,
        span: SPAN,
        started_within: LIFE,
        issuer: Duration::from_millis(1),
        network: Duration::from_micros(100),
        costs: many::Costs::default(),
        seed: 1,
    };
    let report = many::run(&settings);
    let simulated = [report.fetches, report.scripts, report.pings];
    println!("fetches, scripts, pings: {real:?}, simulated {simulated:?}");
    for (real, simulated) in real.into_iter().zip(simulated) {
        let ratio = simulated as f64 / real as f64;
        assert!((0.8..1.25).contains(&ratio), "{real} are simulated as {simulated}");
    }
}
