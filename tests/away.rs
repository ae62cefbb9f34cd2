//! Brown-out: the fleet's store is away, each host goes on by itself, and the fleet is one again when it is back.
#![cfg(unix)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use testbed::hooked_store::HookedStore;
use testbed::issuer::{Issuer, Options};
use testbed::redis_server::RedisServer;
use testbed::worker_handle::Worker;
use testbed::{LONG, Script, wait_until};
use token_manager::store::{StoreErrorKind, TokenName};
use token_manager::{
    Attempt, Budget, Builder, ErrorKind, Fetched, FileStore, MemoryStore, RedisStore, Store, TokenManager,
};

const HOUR: Duration = Duration::from_secs(3600);

/// Where this test binary turns into a worker, when it is started as one.
#[test]
fn a_worker_without_orders_does_nothing() {
    testbed::worker::work_if_ordered();
}

/// Has one call made by each; all must be served. Returns the generations, and whether all have the same.
fn generations(workers: &mut [Worker]) -> Vec<u64> {
    workers.iter_mut().for_each(|worker| worker.get("ask", 1, LONG));
    workers
        .iter_mut()
        .map(|worker| {
            let got = worker.got("ask");
            assert_eq!((got.number("ok"), got.text("errors")), (1, ""), "{}", got.text("words"));
            got.number("high")
        })
        .collect()
}

/// Waits until each host of four has one generation, above this one; returns them.
fn one_for_each_host(workers: &mut [Worker], above: u64) -> Vec<u64> {
    let start = Instant::now();
    loop {
        let mut all = generations(workers);
        let hosts = all.chunks(4).all(|host| host.iter().all(|one| *one == host[0] && *one > above));
        if hosts {
            all.dedup();
            return all;
        }
        assert!(start.elapsed() < LONG, "{all:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn eight_processes_on_two_hosts_make_six_fetches_in_three_lives_without_redis_and_two_more_at_most_when_it_is_back() {
    let mut redis = RedisServer::start().unwrap();
    let life = Duration::from_secs(3);
    let issuer = Issuer::start("127.0.0.1:0", Options { life, ..Options::default() }).unwrap();
    let hosts = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let args = ["a_worker_without_orders_does_nothing", "--exact", "--nocapture"];
    let start = |number: usize| {
        let away = hosts[number / 4].path().display();
        Worker::start(&args, &format!("redis={} issuer={} away={away}", redis.url(), issuer.url()))
    };
    let mut workers: Vec<Worker> = (0..8).map(start).collect();
    for worker in &mut workers {
        worker.order("fresh on");
        worker.word("fresh on");
        worker.order("load 2 10");
    }
    let mut all = one_for_each_host(&mut workers, 0);
    assert_eq!((all.len(), issuer.stats().asked), (1, 1), "the fleet has one token");

    redis.kill();
    // Each life ends on both hosts before the next one does on either.
    for (lives, fetches) in [(1, 3), (2, 5), (3, 7)] {
        assert!(issuer.wait_for(|stats| stats.issued == fetches, LONG), "{:?}", issuer.stats());
        issuer.set(|options| options.life = if lives < 2 { life } else { HOUR });
    }
    all = one_for_each_host(&mut workers, all[0]);
    assert_eq!(issuer.stats().asked, 7, "one fetch for each life of each host");

    redis.restart().unwrap();
    let newest = *all.iter().max().unwrap();
    let deadline = Instant::now() + LONG;
    while all.len() > 1 || all[0] <= newest {
        assert!(Instant::now() < deadline, "{all:?}");
        all = one_for_each_host(&mut workers, 0);
    }
    thread::sleep(Duration::from_secs(2)); // for what should not come
    assert_eq!(one_for_each_host(&mut workers, newest).len(), 1, "the fleet is one again");
    let asked = issuer.stats().asked;
    assert!((8..=9).contains(&asked), "{asked} fetches in all");
    for worker in &mut workers {
        worker.order("halt");
        let load = worker.got("load");
        assert_eq!(
            (load.text("errors"), load.number("late"), load.number("back")),
            ("", 0, 0),
            "{}",
            load.text("words")
        );
    }
}

/// A fleet's store in memory that is away when it is told to be.
#[derive(Clone)]
struct Fleet {
    store: HookedStore,
    is_away: Arc<AtomicBool>,
}

impl Fleet {
    fn new() -> Fleet {
        let is_away = Arc::new(AtomicBool::new(false));
        let away = is_away.clone();
        let hook = move |_: &str, _| away.load(Ordering::SeqCst).then_some(StoreErrorKind::Unreachable);
        Fleet { store: HookedStore::new(MemoryStore::new(), hook), is_away }
    }

    fn set_away(&self, is_away: bool) {
        self.is_away.store(is_away, Ordering::SeqCst);
    }

    fn builder(&self, script: &Script) -> Builder {
        let builder = TokenManager::builder("t").store(self.store.clone()).source(script.source());
        builder.budget(Budget::per_minute(6_000).burst(1_000)).deadline(LONG)
    }

    fn inspect(&self) -> token_manager::store::Inspection {
        self.store.inspect(&name(), "default").unwrap()
    }
}

fn name() -> TokenName {
    TokenName { namespace: "tm".into(), group: "t".into(), name: "t".into(), grant: "t".into() }
}

/// Keeps what the library logs about being away; a logger is for the whole process.
struct Heard(std::sync::Mutex<Vec<String>>);

static HEARD: Heard = Heard(std::sync::Mutex::new(Vec::new()));

impl log::Log for Heard {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        self.0.lock().unwrap().push(format!("{} {}", record.level(), record.args()));
    }

    fn flush(&self) {}
}

#[test]
fn the_log_says_when_a_host_begins_to_be_alone_and_when_that_ends() {
    log::set_logger(&HEARD).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    let (fleet, script, folder) = (Fleet::new(), Script::new(HOUR), tempfile::tempdir().unwrap());
    let host = FileStore::open(folder.path()).unwrap();
    let manager = fleet.builder(&script).when_away(host, Budget::default()).build().unwrap();
    manager.get().unwrap();
    let place = folder.path().canonicalize().unwrap().display().to_string();
    let begins = || {
        let heard = HEARD.0.lock().unwrap();
        heard
            .iter()
            .filter(|line| line.starts_with("WARN") && line.contains("is away") && line.contains(&place))
            .count()
    };
    assert_eq!(begins(), 0);
    fleet.set_away(true);
    reject(&manager);
    reject(&manager);
    assert_eq!(begins(), 1, "once, with the place where the host meets");
    fleet.set_away(false);
    let ended =
        || HEARD.0.lock().unwrap().iter().any(|line| line.starts_with("WARN") && line.contains("is back after"));
    wait_until("it is told that it has ended", || {
        reject(&manager);
        ended()
    });
}

fn reject(manager: &TokenManager) -> u64 {
    let token = manager.get().unwrap();
    manager.invalidate(&token);
    token.generation()
}

#[test]
fn a_store_that_is_away_is_tried_by_one_thread_at_a_time_and_ever_more_rarely() {
    let (fleet, script) = (Fleet::new(), Script::new(HOUR));
    let host = MemoryStore::new();
    let manager = fleet.builder(&script).when_away(host, Budget::per_minute(60_000).burst(1_000)).build().unwrap();
    fleet.set_away(true);
    let start = Instant::now();
    for _ in 0..200 {
        reject(&manager);
    }
    // 20 ms, doubling to a second, each up to a half shorter.
    let tries: u64 =
        ["claim", "commit", "invalidate", "has_updater", "subscribe"].map(|verb| fleet.store.calls(verb)).iter().sum();
    let most = 8 + 2 * start.elapsed().as_secs();
    assert!((1..=most).contains(&tries), "{tries} tries in {:?}", start.elapsed());
    assert_eq!(script.fetches(), 200);
}

#[test]
fn a_host_goes_on_within_its_own_budget_and_not_without_being_told_to() {
    let (fleet, script) = (Fleet::new(), Script::new(HOUR));
    let alone = fleet.builder(&script).deadline(Duration::from_millis(200)).fetch_limit(Duration::from_millis(100));
    let alone = alone.build().unwrap();
    let hosted = fleet.builder(&script).deadline(Duration::from_millis(200)).fetch_limit(Duration::from_millis(100));
    let hosted = hosted.when_away(MemoryStore::new(), Budget::per_minute(1).burst(3)).build().unwrap();
    fleet.set_away(true);
    assert_eq!(alone.get().unwrap_err().kind(), ErrorKind::Store);
    for _ in 0..3 {
        reject(&hosted);
    }
    assert_eq!(hosted.get().unwrap_err().kind(), ErrorKind::Limited);
    assert_eq!(script.fetches(), 3);
    let absurd = fleet.builder(&script).when_away(MemoryStore::new(), Budget::per_minute(0)).build().unwrap_err();
    assert!(absurd.to_string().contains("when_away.budget.per_minute is 0"), "{absurd}");
}

#[test]
fn what_the_fleet_had_when_its_store_went_away_serves_the_processes_of_the_host() {
    let (fleet, script, folder) = (Fleet::new(), Script::new(HOUR), tempfile::tempdir().unwrap());
    let process = || {
        let host = FileStore::open(folder.path()).unwrap();
        fleet.builder(&script).when_away(host, Budget::default()).build().unwrap()
    };
    let (old, new) = (process(), process());
    let token = old.get().unwrap();
    fleet.set_away(true);
    old.invalidate(&token);
    let second = old.get().unwrap();
    assert_eq!(new.get().unwrap().generation(), second.generation(), "a process that starts now");
    assert_eq!(script.fetches(), 2);
}

#[test]
fn what_a_host_fetched_alone_is_doubted_once_and_then_the_fleet_is_one_again() {
    let (fleet, script) = (Fleet::new(), Script::new(HOUR));
    let process = || {
        let builder = fleet.builder(&script).when_away(MemoryStore::new(), Budget::default());
        builder.build().unwrap()
    };
    let hosts = [process(), process()];
    let first = hosts.each_ref().map(|host| host.get().unwrap().generation());
    assert_eq!(first[0], first[1]);
    fleet.set_away(true);
    let own = hosts.each_ref().map(|host| {
        host.invalidate(&host.get().unwrap());
        host.get().unwrap().generation()
    });
    assert!(own[0] != own[1] && own.iter().all(|own| *own > first[0]));
    assert_eq!(script.fetches(), 3);
    fleet.set_away(false);
    let guards = hosts.each_ref().map(|host| host.keep_fresh().unwrap());
    wait_until("both have the same newer token", || {
        let [one, other] = hosts.each_ref().map(|host| host.get().unwrap().generation());
        one == other && one > own[0].max(own[1]) && fleet.inspect().token.is_some_and(|(stored, _)| stored == one)
    });
    wait_until("nothing is in doubt", || {
        let seen = fleet.inspect();
        seen.token.is_some_and(|(stored, _)| stored > seen.doubted) && seen.updater.is_none()
    });
    assert_eq!(fleet.inspect().invalidated, first[0], "the store was told of what was rejected meanwhile");
    assert!((4..=5).contains(&script.fetches()), "{}", script.fetches());
    drop(guards);
}

#[test]
fn a_lease_of_the_fleet_is_not_given_up_for_its_store_being_away_for_a_while() {
    let (fleet, script) = (Fleet::new(), Script::held(HOUR));
    let manager = fleet.builder(&script).when_away(MemoryStore::new(), Budget::default()).build().unwrap();
    let waiting = manager.clone();
    let waiter = thread::spawn(move || waiting.get().unwrap().generation());
    script.wait_for(1);
    fleet.set_away(true);
    script.release();
    let generation = waiter.join().unwrap();
    assert_eq!(fleet.inspect_when_back().token, None);
    wait_until("the commit is repeated", || fleet.inspect().token.is_some_and(|(stored, _)| stored == generation));
    assert_eq!((fleet.inspect().doubted, script.fetches()), (0, 1), "it is of the last grant: beyond doubt");
}

impl Fleet {
    fn inspect_when_back(&self) -> token_manager::store::Inspection {
        self.set_away(false);
        self.inspect()
    }
}

#[test]
fn no_secret_is_carried_to_two_hosts() {
    let (fleet, script) = (Fleet::new(), Script::new(HOUR));
    script.answer(|_: &Attempt| Ok(Fetched::new("token", HOUR).carry("refresh")));
    let host = MemoryStore::new();
    let manager = fleet.builder(&script).when_away(host, Budget::default()).build().unwrap();
    manager.get().unwrap();
    fleet.set_away(true);
    reject(&manager);
    assert_eq!(manager.get().unwrap_err().kind(), ErrorKind::Store);
    assert_eq!(script.fetches(), 1);
    fleet.set_away(false);
    wait_until("the fleet's store is tried again", || manager.get().is_ok());
    assert_eq!(script.fetches(), 2);
}

#[test]
fn a_primary_whose_replicas_are_missing_is_not_away() {
    let (redis, folder, script) = (RedisServer::start().unwrap(), tempfile::tempdir().unwrap(), Script::new(HOUR));
    let store = RedisStore::options(&redis.url()).wait_replicas(1, Duration::from_millis(50)).open().unwrap();
    let host = FileStore::open(folder.path()).unwrap();
    let builder = TokenManager::builder("t").store(store).when_away(host, Budget::per_minute(60));
    let manager = builder.source(script.source()).deadline(LONG).build().unwrap();
    for number in 1..=3 {
        let token = manager.get().unwrap();
        assert_eq!(token.secret(), format!("token-{number}"));
        assert_eq!(
            redis.command(&["HGET", "tm:{t}:t:token", "value"]),
            token.secret(),
            "it is in Redis, not in the host"
        );
        manager.invalidate(&token);
    }
    assert_eq!(script.fetches(), 3);
}
