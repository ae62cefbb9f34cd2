//! A store behind Redis Sentinels: it goes where they say, soon after a primary died and soon after one was replaced in order, and
//! what an old primary still takes in counts for nobody.

use std::thread;
use std::time::{Duration, Instant};
use testbed::issuer::{Issuer, Options};
use testbed::redis_server::RedisServer;
use testbed::sentinels::{MASTER, Sentinel, Sentinels};
use testbed::worker_handle::Worker;
use testbed::{LONG, Script, wait_until};
use token_manager::store::{Claim, Claimed, Grant, Lease, Secret, StoreErrorKind, TokenName, contract};
use token_manager::{Budget, RedisStore, Store, TokenManager};

const HOUR: Duration = Duration::from_secs(3600);
const PROCESSES: usize = 4;
const THREADS: usize = 25;

/// Where this test binary turns into a worker, when it is started as one.
#[test]
fn a_worker_without_orders_does_nothing() {
    testbed::worker::work_if_ordered();
}

fn name() -> TokenName {
    TokenName { namespace: "tm".into(), group: "faults".into(), name: "faults".into(), grant: "faults".into() }
}

/// A store with limits that a busy machine keeps.
fn patient(url: &str) -> RedisStore {
    let options = RedisStore::options(url).connect_timeout(Duration::from_secs(2));
    options.io_timeout(Duration::from_secs(5)).open().unwrap()
}

/// What a server holds as the last grant.
fn granted(server: &RedisServer) -> u64 {
    server.command(&["HGET", "tm:{faults}:faults:meta", "gen"]).parse().unwrap_or(0)
}

#[test]
fn the_store_behind_sentinels_keeps_the_contract() {
    let trio = Sentinels::start().unwrap();
    let store = RedisStore::open(&trio.url()).unwrap();
    contract::check(&store);
    contract::check_events(&store);
}

#[test]
fn sentinels_and_servers_with_passwords_of_their_own_are_asked_with_them() {
    let user = ["--user", "app", "on", ">redis-pw", "~*", "&*", "+@all"];
    let trio = Sentinels::start_with(&user, "sentinel-pw", "").unwrap();
    let hosts: Vec<_> = trio.sentinels.iter().map(|one| format!("127.0.0.1:{}", one.port())).collect();
    let list = hosts.join(",");
    let one_url = format!("redis+sentinel://app:redis-pw@{list}/{MASTER}/3?sentinel_password=sentinel-pw");
    contract::check(&RedisStore::open(&one_url).unwrap());
    contract::check(&RedisStore::open(&format!("{one_url}&protocol=resp3")).unwrap());
    assert_ne!(trio.servers[0].command(&["INFO", "keyspace"]).find("db3"), None, "the database is that of the URL");

    let urls: Vec<_> = hosts.iter().map(|host| format!("redis://:sentinel-pw@{host}")).collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let store = RedisStore::sentinel(&format!("redis://app:redis-pw@{MASTER}"), &urls).open().unwrap();
    store.inspect(&name(), "default").unwrap();

    let fails = |url: &str| RedisStore::open(url).unwrap().inspect(&name(), "default").unwrap_err();
    let error = fails(&format!("redis+sentinel://app:redis-pw@{list}/{MASTER}?sentinel_password=wrong"));
    assert_eq!(error.kind(), StoreErrorKind::Denied, "{error}");
    assert!(error.to_string().contains("sentinel_password"), "{error}");
    let error = fails(&format!("redis+sentinel://app:wrong@{list}/{MASTER}?sentinel_password=sentinel-pw"));
    assert_eq!(error.kind(), StoreErrorKind::Denied, "{error}");
    let error = fails(&format!("redis+sentinel://app:redis-pw@{list}/unknown?sentinel_password=sentinel-pw"));
    assert!(error.to_string().contains("check the name"), "{error}");
    let redis = format!("redis+sentinel://127.0.0.1:{}/{MASTER}", trio.servers[0].port());
    assert!(fails(&redis).to_string().contains("is named as a sentinel is none"), "{}", fails(&redis));
    for url in ["redis+sentinel://127.0.0.1:1", "redis+sentinel://127.0.0.1:1/", "redis+sentinel://,/name"] {
        assert_eq!(RedisStore::open(url).err().unwrap().kind(), StoreErrorKind::Malformed, "{url}");
    }
}

#[test]
#[cfg(feature = "tls")]
fn sentinels_and_servers_that_speak_tls_are_followed_over_a_failover() {
    use testbed::certificates::Authority;
    use token_manager::Tls;
    let authority = Authority::new();
    let identity = authority.issue("server", &["127.0.0.1"]);
    let (servers, ports): (Vec<_>, Vec<_>) =
        (0..3).map(|_| authority.start_redis(&identity, false, &["--tls-replication", "yes"])).unzip();
    let lines = format!(
        "tls-port TLS_PORT\ntls-replication yes\ntls-auth-clients no\ntls-cert-file {}\ntls-key-file {}\n\
         tls-ca-cert-file {}",
        identity.certificate.display(),
        identity.key.display(),
        authority.file().display()
    );
    let trio = Sentinels::over(servers, ports, "sentinel-pw", &lines).unwrap();
    let hosts: Vec<_> = trio.sentinels.iter().map(|one| format!("127.0.0.1:{}", one.tls_port())).collect();
    let url = format!("rediss+sentinel://{}/{MASTER}?sentinel_password=sentinel-pw", hosts.join(","));
    let open = |url: &str| {
        let patient =
            RedisStore::options(url).connect_timeout(Duration::from_secs(5)).io_timeout(Duration::from_secs(2));
        patient.tls(Tls::new().ca_file(authority.file())).open().unwrap()
    };
    let store = open(&url);
    contract::check(&store);
    contract::check_events(&store);
    trio.failover();
    wait_until("the sentinels name another one", || trio.primary() != 0);
    wait_until("the store follows", || {
        let generation = strangers_token(&store);
        generation > 0 && granted(&trio.servers[trio.primary()]) == generation
    });
    let error = open(&url.replace("?", "?sentinel_tls=false&")).inspect(&name(), "default").unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unreachable, "they speak TLS there: {error}");
}

/// Has a stranger ask for the right to fetch, and returns the generation of it, 0 if somebody has it.
fn strangers_token(store: &RedisStore) -> u64 {
    let (lease, budget) = (Duration::from_millis(200), Some(Budget::per_minute(60_000).burst(1_000)));
    let claim = Claim { owner: "stranger", attempt: 1, newer_than: u64::MAX / 2, lease, budget, egress: "default" };
    match store.claim(&name(), &claim) {
        Ok(Claimed::Granted { generation, .. }) => generation,
        _ => 0,
    }
}

#[test]
fn the_newest_configuration_counts_and_among_equal_ones_that_of_the_most() {
    let trio = Sentinels::start().unwrap();
    // A sentinel of the same name that has no part in the trio, as one that was cut off.
    let other = RedisServer::start().unwrap();
    let line = format!("sentinel monitor {MASTER} 127.0.0.1 {} 1", other.port());
    let lone = Sentinel::start(&line, "").unwrap();
    let ports = [lone.port()].into_iter().chain(trio.sentinels.iter().map(Sentinel::port));
    let hosts: Vec<_> = ports.map(|port| format!("127.0.0.1:{port}")).collect();
    let url = format!("redis+sentinel://{}/{MASTER}", hosts.join(","));
    let script = Script::new(HOUR);
    let manager = || TokenManager::builder("faults").redis(&url).unwrap().source(script.source()).build().unwrap();
    manager().get().unwrap();
    assert!(granted(&trio.servers[0]) > 0 && granted(&other) == 0, "most of them name the trio's");
    trio.failover();
    wait_until("the sentinels name another one", || trio.primary() != 0);
    manager().get().unwrap();
    assert_eq!((script.fetches(), granted(&other)), (1, 0));
    // One sentinel that knows is enough, though it is the last.
    let mut trio = trio;
    trio.sentinels[0].kill();
    trio.sentinels[1].kill();
    manager().get().unwrap();
    assert_eq!((script.fetches(), granted(&other)), (1, 0));
}

#[test]
fn sentinels_that_are_gone_or_hang_stop_nobody_while_the_primary_is_well() {
    let mut trio = Sentinels::start().unwrap();
    let store = patient(&trio.url());
    trio.sentinels[0].pause();
    let start = Instant::now();
    store.inspect(&name(), "default").unwrap();
    assert!(start.elapsed() < Duration::from_secs(4), "one hangs: {:?}", start.elapsed());
    for sentinel in &mut trio.sentinels {
        sentinel.kill();
    }
    // As long as the answers of before count, and longer.
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until {
        store.inspect(&name(), "default").unwrap();
        thread::sleep(Duration::from_millis(50));
    }
    let error = RedisStore::open(&trio.url()).unwrap().inspect(&name(), "default").unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unreachable, "{error}");
}

/// A fleet under load behind sentinels, with an issuer of tokens that outlive the test.
struct Fleet {
    trio: Sentinels,
    issuer: Issuer,
    workers: Vec<Worker>,
}

impl Fleet {
    fn start() -> Fleet {
        let trio = Sentinels::start().unwrap();
        let options = Options { life: Duration::from_secs(600), ..Options::default() };
        let issuer = Issuer::start("127.0.0.1:0", options).unwrap();
        let mut fleet = Fleet { trio, issuer, workers: Vec::new() };
        for _ in 0..PROCESSES {
            let mut worker = fleet.worker();
            worker.order("fresh on");
            worker.get("first", THREADS, LONG);
            assert_eq!(worker.got("first").number("ok"), THREADS as u64);
            worker.order(&format!("load {THREADS} 10"));
            fleet.workers.push(worker);
        }
        // A token that no replica has yet would be lost with the primary.
        for replica in &fleet.trio.servers[1..] {
            wait_until("the replicas have the token", || {
                replica.command(&["EXISTS", "tm:{faults}:faults:token"]) == "1"
            });
        }
        fleet
    }

    fn worker(&self) -> Worker {
        let args = ["a_worker_without_orders_does_nothing", "--exact", "--nocapture"];
        Worker::start(&args, &format!("redis={} issuer={}", self.trio.url(), self.issuer.url()))
    }

    /// The generation of the token that a server has, 0 if it has none.
    fn stored(&self, server: usize) -> u64 {
        self.trio.servers[server].command(&["HGET", "tm:{faults}:faults:token", "gen"]).parse().unwrap_or(0)
    }

    /// Has the newest token rejected by one process.
    fn renew(&mut self) {
        self.workers[0].order("invalidate old");
        self.workers[0].word("rejected tag=old");
    }

    /// Ends the load and asserts that no call failed or got an older token after a newer one; returns the newest generation
    /// of each process.
    fn end(&mut self, what: &str) -> Vec<u64> {
        self.workers.iter_mut().for_each(|worker| worker.order("halt"));
        let mut worst = 0;
        let newest = self.workers.iter_mut().map(|worker| {
            let words = worker.got("load");
            assert_eq!(words.text("errors"), "", "{}", words.text("words"));
            assert_eq!(["late", "back", "stale"].map(|word| words.number(word)), [0, 0, 0], "calls that went wrong");
            assert!(!words.text("secrets").contains("strangers"), "{}", words.text("secrets"));
            worst = worst.max(words.number("worst"));
            words.number("high")
        });
        let newest = newest.collect();
        println!("{what}: the worst call took {worst} ms; {} fetches", self.issuer.stats().asked);
        newest
    }
}

/// Has a process that knows of one server alone commit a token there; returns its generation.
fn strangers_token_on(url: &str, newer_than: u64) -> u64 {
    let (store, lease, budget) = (RedisStore::open(url).unwrap(), HOUR, Some(Budget::default()));
    let claim = Claim { owner: "stranger", attempt: 1, newer_than, lease, budget, egress: "default" };
    let Claimed::Granted { generation, .. } = store.claim(&name(), &claim).unwrap() else { panic!("no grant") };
    let value = Secret::new("strangers");
    let grant = Grant { value, left: HOUR, life: HOUR, age: None, carry: None, carry_lifetime: None };
    store.commit(&name(), &Lease { owner: "stranger".into(), attempt: 1, generation }, &grant).unwrap();
    generation
}

/// Calls until there is a token, and returns how long that took since `start`.
fn until_served(worker: &mut Worker, start: Instant) -> Duration {
    loop {
        worker.get("newcomer", 1, Duration::from_secs(5));
        if worker.got("newcomer").number("ok") == 1 {
            return start.elapsed();
        }
        assert!(start.elapsed() < LONG, "waited in vain for a token");
    }
}

#[test]
fn a_primary_killed_is_followed_in_two_seconds_and_costs_at_most_one_fetch() {
    let mut fleet = Fleet::start();
    let mut newcomer = fleet.worker();
    let killed = Instant::now();
    fleet.trio.servers[0].kill();
    let served = until_served(&mut newcomer, killed);
    println!("kill -9: a process without a token was served after {served:.1?}");
    assert!(served < Duration::from_secs(10), "{served:?}");
    assert!(fleet.issuer.stats().asked <= 2, "{:?}", fleet.issuer.stats());
    wait_until("the sentinels name another one", || fleet.trio.primary() != 0);
    let primary = fleet.trio.primary();
    let before = fleet.stored(primary);
    fleet.renew();
    wait_until("the new primary has a newer token", || fleet.stored(primary) > before);
    thread::sleep(Duration::from_secs(3));
    let stored = fleet.stored(primary);
    let newest = fleet.end("kill -9");
    assert_eq!(newest, vec![stored; PROCESSES], "all follow the new primary");
    assert!(fleet.issuer.stats().asked <= 3, "{:?}", fleet.issuer.stats());
}

#[test]
fn a_planned_failover_is_followed_within_a_second_and_no_token_of_the_old_primary_wins() {
    let mut fleet = Fleet::start();
    let mut newcomer = fleet.worker();
    let before = granted(&fleet.trio.servers[0]);
    let ordered = Instant::now();
    fleet.trio.failover();
    let served = until_served(&mut newcomer, ordered);
    wait_until("the sentinels name another one", || fleet.trio.primary() != 0);
    let (named, primary) = (Instant::now(), fleet.trio.primary());
    println!(
        "failover: named after {:.1?}, a process without a token was served after {served:.1?}",
        ordered.elapsed()
    );
    // From a second after that on nobody writes to the old one, though it takes all writes.
    thread::sleep(Duration::from_millis(1500));
    let old = &fleet.trio.servers[0];
    println!("the old primary says {} by then", old.command(&["ROLE"]).lines().next().unwrap());
    // What a process that was not told writes there now, all others would hear of who still listened.
    let strangers = strangers_token_on(&old.url(), before);
    assert!(strangers > before && granted(old) == strangers, "the old primary takes writes");
    fleet.renew();
    wait_until("the new primary has a newer token", || fleet.stored(primary) > before);
    assert!(named.elapsed() < Duration::from_secs(7), "the old primary was followed until it gave way");
    println!("a newer token was on the new primary {:.1?} after it was named", named.elapsed());
    if fleet.trio.servers[0].command(&["ROLE"]).starts_with("master") {
        assert_eq!(granted(&fleet.trio.servers[0]), strangers, "nobody else was granted anything by the old primary");
    }
    thread::sleep(Duration::from_secs(12));
    wait_until("the old primary is a replica", || fleet.trio.servers[0].command(&["ROLE"]).starts_with("slave"));
    let stored = fleet.stored(primary);
    let newest = fleet.end("failover");
    assert_eq!(newest, vec![stored; PROCESSES], "all have the new primary's token");
    // One at the start, one for the rejection, and one more at most.
    assert!(fleet.issuer.stats().asked <= 3, "{:?}", fleet.issuer.stats());
}

#[test]
fn a_forked_child_asks_the_sentinels_itself() {
    let (trio, issuer) = (Sentinels::start().unwrap(), Issuer::start("127.0.0.1:0", Options::default()).unwrap());
    let args = ["a_worker_without_orders_does_nothing", "--exact", "--nocapture"];
    let mut worker = Worker::start(&args, &format!("redis={} issuer={}", trio.url(), issuer.url()));
    worker.get("all", THREADS, LONG);
    assert_eq!(worker.got("all").number("ok"), THREADS as u64);
    // The child rejects the token, fetches another on connections of its own, and ends.
    worker.order("fork");
    assert_eq!(worker.word("got tag=child").number("ok"), 1);
    assert_eq!(worker.word("forked").text("reaped"), "true");
    worker.order("reject old 1");
    worker.word("rejected tag=old");
    worker.get("all", THREADS, LONG);
    assert_eq!(worker.got("all").number("ok"), THREADS as u64);
    assert_eq!(issuer.stats().asked, 2);
}

#[test]
fn nothing_is_asked_of_sentinels_that_nobody_needs() {
    let trio = Sentinels::start().unwrap();
    let store = patient(&trio.url());
    // How many seconds ago each sentinel was asked.
    let idle = || {
        let asked = |sentinel: &Sentinel| {
            let clients = sentinel.ask(&["CLIENT", "LIST"]).unwrap();
            let ours = clients.lines().find(|line| line.contains(" cmd=sentinel")).map(str::to_owned);
            ours.and_then(|line| line.split(" idle=").nth(1)?.split(' ').next()?.parse::<u64>().ok())
        };
        trio.sentinels.iter().map(asked).collect::<Vec<_>>()
    };
    // Those who waited until the sentinels were ready may not have left yet.
    wait_until("opening a store asks nobody", || idle() == [None; 3]);
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until {
        store.inspect(&name(), "default").unwrap();
        assert!(idle().iter().all(|idle| idle.is_some_and(|idle| idle <= 2)), "{:?}", idle());
        thread::sleep(Duration::from_millis(100));
    }
    thread::sleep(Duration::from_secs(4));
    assert!(idle().iter().all(|idle| idle.is_some_and(|idle| idle >= 3)), "{:?}", idle());
}
