//! A store in a Redis Cluster: it follows the slot of a group while that moves and while its node dies, and all keys of a group
//! are in one slot.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use testbed::issuer::{Issuer, Options};
use testbed::redis_cluster::RedisCluster;
use testbed::redis_server::RedisServer;
use testbed::worker_handle::Worker;
use testbed::{LONG, Script, wait_until};
use token_manager::store::{StoreError, StoreErrorKind, TokenName, contract};
use token_manager::{RedisStore, Store, TokenManager};

const HOUR: Duration = Duration::from_secs(3600);
const PROCESSES: usize = 4;
const THREADS: usize = 25;
/// A key of the workers' group.
const KEY: &str = "tm:{faults}:faults:token";

/// Where this test binary turns into a worker, when it is started as one.
#[test]
fn a_worker_without_orders_does_nothing() {
    testbed::worker::work_if_ordered();
}

#[test]
fn the_store_in_a_cluster_keeps_the_contract() {
    let cluster = RedisCluster::start().unwrap();
    for (node, query) in cluster.nodes.iter().zip(["", "/0", "/?protocol=resp3", "?protocol=resp3", "/", ""]) {
        let store = RedisStore::open(&format!("redis+cluster://127.0.0.1:{}{query}", node.port())).unwrap();
        contract::check(&store);
        contract::check_events(&store);
        cluster.nodes[..3].iter().for_each(|node| drop(node.command(&["FLUSHALL"])));
    }
}

#[test]
fn one_store_serves_groups_on_all_nodes_and_each_in_one_slot() {
    let cluster = RedisCluster::start().unwrap();
    let store = RedisStore::open(&cluster.url()).unwrap();
    let script = Script::new(HOUR);
    let words = ["a", "tm", "tökén", "a:b", "ns.1", "-", "x/y", "token:events:0"];
    let mut slots = BTreeSet::new();
    for (at, word) in words.iter().enumerate() {
        let [other, third] = [words[(at + 3) % words.len()], words[(at + 5) % words.len()]];
        let builder = TokenManager::builder(word).namespace(other).group(third).egress(word);
        let manager = builder.store(store.clone()).source(script.source()).deadline(LONG).build().unwrap();
        // A script whose keys are in several slots is refused.
        let token = manager.get().unwrap();
        manager.invalidate(&token);
        let _guard = manager.keep_fresh().unwrap();
        manager.get().unwrap();
        manager.lift_pause().unwrap();
        assert!(manager.inspect().unwrap().token.is_some());
        slots.insert(cluster.slot_of(&format!("{other}:{{{third}}}:{word}:token")));
    }
    assert_eq!(slots.len(), words.len(), "a slot for each group");
    for node in &cluster.nodes[..3] {
        for key in node.command(&["KEYS", "*"]).lines() {
            assert!(slots.contains(&cluster.slot_of(key)), "{key} is in a slot of its own");
        }
    }
    assert_eq!(script.fetches(), 2 * words.len() as u64);
}

/// What the scripts touch beyond their declared keys, a cluster would refuse, or not find.
#[test]
fn no_script_touches_a_key_that_it_does_not_declare() {
    const WITHOUT_KEYS: [&str; 3] = ["TIME", "PUBLISH", "PUBSUB"];
    let mut calls = 0;
    for file in std::fs::read_dir("src/store/lua").unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let code: Vec<&str> = text.lines().map(|line| line.split("--").next().unwrap()).collect();
        let code = code.join("\n");
        let is_declared = |key: &str| key.starts_with("KEYS[");
        for (at, _) in code.match_indices("redis.") {
            let call = &code[at + "redis.".len()..];
            let Some(arguments) = ["call(", "pcall("].iter().find_map(|verb| call.strip_prefix(verb)) else {
                panic!("{}: `redis.{}` is no plain call", path.display(), call.lines().next().unwrap());
            };
            calls += 1;
            let (command, rest) = arguments.split_once([',', ')']).unwrap();
            let command = command.trim();
            let name = command.strip_prefix('\'').and_then(|name| name.strip_suffix('\'')).expect("a command's name");
            // What is handed a key, the next check looks at.
            let is_parameter = path.ends_with("prelude.lua") && rest.trim_start().starts_with("key");
            let declared = WITHOUT_KEYS.contains(&name) || is_parameter || is_declared(rest.trim_start());
            assert!(declared, "{}: {name} of a key that is not declared: {rest:.60}", path.display());
        }
        for (at, _) in code.match_indices("left(") {
            if !code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_') {
                let key = code[at + "left(".len()..].trim_start();
                assert!(is_declared(key), "{}: left of a key that is not declared: {key:.60}", path.display());
            }
        }
    }
    assert!(calls > 40, "only {calls} calls were found");
}

#[test]
fn a_plain_url_of_a_cluster_is_refused_with_advice_and_a_clusters_url_of_a_plain_redis_works() {
    let cluster = RedisCluster::start().unwrap();
    let name = TokenName { namespace: "tm".into(), group: "g".into(), name: "t".into(), grant: "t".into() };
    let elsewhere = (0..3).find(|at| cluster.primary_of("tm:{g}:t:token") != Some(*at)).unwrap();
    let error = RedisStore::open(&cluster.nodes[elsewhere].url()).unwrap().inspect(&name, "default").unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::NotWritable);
    assert!(error.to_string().contains("redis+cluster://"), "{error}");

    let plain = RedisServer::start().unwrap();
    let store = RedisStore::cluster(&[&plain.url()]).open().unwrap();
    contract::check(&store);
    contract::check_events(&store);
    let error = RedisStore::cluster(&["redis://127.0.0.1:1/3"]).open().err().unwrap();
    assert!(error.to_string().contains("no database but 0"), "{error}");
}

/// A fleet under load in a cluster, with an issuer of short-lived tokens.
struct Fleet {
    cluster: RedisCluster,
    issuer: Issuer,
    life: Duration,
    workers: Vec<Worker>,
    started: Instant,
}

impl Fleet {
    fn start(life: Duration, args: &[&str]) -> Fleet {
        let cluster = RedisCluster::start_with(args).unwrap();
        let issuer = Issuer::start("127.0.0.1:0", Options { life, ..Options::default() }).unwrap();
        let args = ["a_worker_without_orders_does_nothing", "--exact", "--nocapture"];
        let settings = format!("redis={} issuer={}", cluster.url(), issuer.url());
        let mut workers: Vec<_> = (0..PROCESSES).map(|_| Worker::start(&args, &settings)).collect();
        let started = Instant::now();
        for worker in &mut workers {
            worker.order("fresh on");
            worker.get("first", THREADS, LONG);
            assert_eq!(worker.got("first").number("ok"), THREADS as u64);
            worker.order(&format!("load {THREADS} 10"));
        }
        Fleet { cluster, issuer, life, workers, started }
    }

    /// Ends the load and asserts that no call failed, none got a stale or older token, and there was one fetch a life.
    fn ends_well(&mut self, what: &str) {
        self.workers.iter_mut().for_each(|worker| worker.order("halt"));
        let (mut calls, mut worst, mut tokens) = (0, 0, 0);
        for worker in &mut self.workers {
            let words = worker.got("load");
            assert_eq!(words.text("errors"), "", "{}", words.text("words"));
            let wrong = ["late", "back", "stale"].map(|word| words.number(word));
            assert_eq!(wrong, [0, 0, 0], "calls late, tokens back and stale");
            calls += words.number("ok");
            worst = worst.max(words.number("worst"));
            tokens = words.number("tokens").max(tokens);
        }
        let (lasted, stats) = (self.started.elapsed(), self.issuer.stats());
        println!("{what}: {calls} calls in {lasted:.1?}, the worst took {worst} ms; {} fetches", stats.asked);
        assert_eq!(stats.max_in_flight, 1);
        // The last one may have come after the last call.
        assert!(
            stats.asked == tokens || stats.asked == tokens + 1,
            "{} fetches of {tokens} tokens in use",
            stats.asked
        );
        // A token is refreshed when 70 to 80 % of its life are over, which has begun before a commit that comes as late as a call may.
        let least = (self.life - Duration::from_millis(1300)).as_secs_f64() * 0.69;
        let most = 1 + (lasted.as_secs_f64() / least).floor() as u64;
        assert!(stats.asked <= most, "{} fetches in {lasted:?}", stats.asked);
    }
}

#[test]
fn a_slot_that_moves_all_the_time_costs_four_processes_of_25_threads_no_error_and_no_fetch() {
    // No node is taken for dead because the machine is busy.
    let mut fleet = Fleet::start(Duration::from_secs(6), &["--cluster-node-timeout", "30000"]);
    let slot = fleet.cluster.slot_of(KEY);
    let mut at = fleet.cluster.primary_of(KEY).unwrap();
    // On a busy machine a move may take longer than a call may with the default limits.
    let options = RedisStore::options(&fleet.cluster.url()).connect_timeout(Duration::from_secs(2));
    let store = options.io_timeout(Duration::from_secs(5)).open().unwrap();
    let (mut moves, mut keys, ended) = (0, 0, AtomicBool::new(false));
    thread::scope(|scope| {
        // Callers are served from their process's memory: these ask the store all the time.
        let askers: Vec<_> = (0..4).map(|_| scope.spawn(|| asked_until(&store, &ended))).collect();
        while fleet.started.elapsed() < Duration::from_secs(30) {
            let to = (at + 1) % 3;
            keys += fleet.cluster.move_slot(&slot, at, to, Duration::from_millis(40));
            at = to;
            moves += 1;
            thread::sleep(Duration::from_millis(100));
        }
        ended.store(true, Ordering::Relaxed);
        for asker in askers {
            let (asked, worst) = asker.join().unwrap();
            println!("{asked} inspections, the worst took {worst:.0?}");
            assert!(asked > 200 && worst < Duration::from_secs(12));
        }
    });
    assert!(moves > 20 && keys >= 2 * moves, "{moves} moves of {keys} keys");
    fleet.ends_well(&format!("{moves} moves of the slot, {keys} keys"));
}

/// Inspects all the time; no inspection may fail. Returns how many there were and what the longest took.
fn asked_until(store: &RedisStore, ended: &AtomicBool) -> (u64, Duration) {
    let name =
        TokenName { namespace: "tm".into(), group: "faults".into(), name: "faults".into(), grant: "faults".into() };
    let (mut asked, mut worst) = (0, Duration::ZERO);
    while !ended.load(Ordering::Relaxed) {
        let start = Instant::now();
        store.inspect(&name, "default").expect("the store follows the slot");
        worst = worst.max(start.elapsed());
        asked += 1;
        thread::sleep(Duration::from_millis(1));
    }
    (asked, worst)
}

#[test]
fn the_death_of_a_node_costs_four_processes_of_25_threads_no_error_and_no_fetch() {
    let life = Duration::from_secs(12);
    let mut fleet = Fleet::start(life, &[]);
    let dead = fleet.cluster.primary_of(KEY).unwrap();
    // The death comes when all is quiet: a claim that a node takes with it would cost a fetch.
    let store = RedisStore::open(&fleet.cluster.url()).unwrap();
    let name =
        TokenName { namespace: "tm".into(), group: "faults".into(), name: "faults".into(), grant: "faults".into() };
    let quiet = || store.inspect(&name, "default").is_ok_and(|seen| seen.updater.is_none() && seen.token.is_some());
    wait_until("no fetch is under way", quiet);
    wait_until("its replica has all that it has", || {
        let info = fleet.cluster.nodes[dead].command(&["INFO", "replication"]);
        let offset = info.lines().find_map(|line| line.strip_prefix("master_repl_offset:")).unwrap().to_owned();
        info.contains(&format!("offset={},", offset.trim()))
    });
    fleet.cluster.nodes[dead].kill();
    let killed = Instant::now();
    wait_until("the store follows to the promoted replica", || store.inspect(&name, "default").is_ok());
    println!("the store could be asked again after {:.1?}", killed.elapsed());
    assert_eq!(fleet.cluster.primary_of(KEY), Some(dead + 3));
    // Long enough for two refreshes.
    thread::sleep((life * 2).saturating_sub(fleet.started.elapsed()));
    fleet.ends_well("the death of a node");
}

#[test]
fn a_forked_child_finds_its_own_way_in_a_cluster() {
    let (cluster, issuer) = (RedisCluster::start().unwrap(), Issuer::start("127.0.0.1:0", Options::default()).unwrap());
    let args = ["a_worker_without_orders_does_nothing", "--exact", "--nocapture"];
    let mut worker = Worker::start(&args, &format!("redis={} issuer={}", cluster.url(), issuer.url()));
    for fetches in 1..4 {
        worker.get("all", THREADS, LONG);
        assert_eq!(worker.got("all").number("ok"), THREADS as u64);
        assert_eq!(issuer.stats().asked, fetches);
        // The child rejects the token, fetches another on connections of its own, and ends.
        worker.order("fork");
        assert_eq!(worker.word("got tag=child").number("ok"), 1);
        assert_eq!(worker.word("forked").text("reaped"), "true");
        assert_eq!(issuer.stats().asked, fetches + 1);
        worker.order("reject old 1");
        worker.word("rejected tag=old");
    }
}

/// What no other node can do better is told at once.
#[test]
fn an_error_of_the_programs_own_is_not_repeated_in_a_cluster() {
    let cluster = RedisCluster::start().unwrap();
    let asked = Arc::new(AtomicU64::new(0));
    let count = asked.clone();
    let options = RedisStore::options(&cluster.url()).credentials(move || {
        count.fetch_add(1, Ordering::Relaxed);
        Err(StoreError::new(StoreErrorKind::Denied, "the vault is sealed"))
    });
    let name = TokenName { namespace: "tm".into(), group: "g".into(), name: "t".into(), grant: "t".into() };
    let error = options.open().unwrap().inspect(&name, "default").unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (StoreErrorKind::Denied, "the vault is sealed"));
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

/// No limit of a call is overrun while nobody has the slot.
#[test]
fn while_a_slot_has_no_node_calls_end_within_their_limits() {
    let mut cluster = RedisCluster::start().unwrap();
    let store = RedisStore::open(&cluster.url()).unwrap();
    let name =
        TokenName { namespace: "tm".into(), group: "faults".into(), name: "faults".into(), grant: "faults".into() };
    store.inspect(&name, "default").unwrap();
    let at = cluster.primary_of(KEY).unwrap();
    let ended = AtomicBool::new(false);
    cluster.nodes[at + 3].kill();
    cluster.nodes[at].pause();
    thread::scope(|scope| {
        let calls: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let mut worst = Duration::ZERO;
                    while !ended.load(Ordering::Relaxed) {
                        let start = Instant::now();
                        store.inspect(&name, "default").expect_err("nobody has the slot");
                        worst = worst.max(start.elapsed());
                    }
                    worst
                })
            })
            .collect();
        thread::sleep(Duration::from_secs(8));
        ended.store(true, Ordering::Relaxed);
        let worst = calls.into_iter().map(|call| call.join().unwrap()).max().unwrap();
        // 300 ms to connect and twice 500 ms, and the rest for a busy machine.
        println!("the longest call without a node took {worst:.1?}");
        assert!(worst < Duration::from_millis(1300 + 500), "{worst:?}");
    });
    cluster.nodes[at].resume();
    wait_until("the node is asked again", || store.inspect(&name, "default").is_ok());
}
