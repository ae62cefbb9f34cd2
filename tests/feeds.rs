//! The one subscription of a process on every way to Redis, and through all that ends it: callers get no error, and events flow again.
#![cfg(target_os = "linux")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use testbed::proxy::{Line, Proxy};
use testbed::redis_cluster::RedisCluster;
use testbed::redis_server::RedisServer;
use testbed::sentinels::Sentinels;
use testbed::{LONG, wait_until};
use token_manager::store::{Change, Heard, TokenName, Topic};
use token_manager::{
    Attempt, Budget, Fetched, FreshGuard, RedisOptions, RedisStore, Store, TokenManager, TokenManagers,
};

const HOUR: Duration = Duration::from_secs(3600);
const POOL: u32 = 4;

/// Two stores as two processes have them: one that only keeps its tokens fresh, and one that does something.
struct Two {
    idle: TokenManagers,
    busy: TokenManagers,
    tokens: usize,
    _guard: FreshGuard,
}

fn managers(options: RedisOptions) -> TokenManagers {
    let limit = Duration::from_secs(1); // a busy machine keeps it
    let store = options.pool_size(POOL).connect_timeout(limit).io_timeout(limit).open().unwrap();
    let builder = TokenManager::builder("crm").store(store).deadline(LONG).budget(Budget::per_minute(6_000));
    builder.keyed(|key, attempt| Ok(Fetched::new(format!("{key}-{}", attempt.generation()), HOUR))).build().unwrap()
}

impl Two {
    fn of(options: impl Fn() -> RedisOptions, tokens: usize) -> Two {
        let (idle, busy) = (managers(options()), managers(options()));
        let guard = idle.keep_fresh().unwrap();
        (0..tokens).for_each(|number| drop(idle.get(&format!("t-{number}")).unwrap()));
        Two { idle, busy, tokens, _guard: guard }
    }

    /// Has the idle one follow what the other does to a few tokens; no call of its own fails meanwhile.
    fn follow(&self) {
        for number in [0, self.tokens / 2, self.tokens - 1] {
            let key = format!("t-{number}");
            self.busy.invalidate(&key, &self.busy.get(&key).unwrap()).unwrap();
            let newest = self.busy.get(&key).unwrap();
            wait_until("the idle one follows", || self.idle.get(&key).unwrap().generation() >= newest.generation());
        }
        for number in 0..self.tokens {
            self.idle.get_within(&format!("t-{number}"), Duration::ZERO).unwrap();
        }
    }
}

fn followed(redis: &RedisServer) -> usize {
    redis.command(&["PUBSUB", "CHANNELS", "tm:*"]).lines().count()
}

fn subscribers(redis: &RedisServer) -> usize {
    redis.command(&["CLIENT", "LIST", "TYPE", "pubsub"]).lines().count()
}

fn connections(redis: &RedisServer) -> usize {
    redis.command(&["CLIENT", "LIST"]).lines().count() - 1 // that of the command itself
}

/// Has the subscription be followed through its end by the server, again and again.
fn survives_kills(redis: &RedisServer, two: &Two) {
    for _ in 0..3 {
        wait_until("all are followed", || followed(redis) == two.tokens);
        two.follow();
        wait_until("one subscription is left", || subscribers(redis) == 1);
        // Those that this test has just asked by may not have gone yet.
        wait_until("each has its pool and one", || connections(redis) <= 2 * (POOL as usize + 1));
        redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        two.follow();
    }
    wait_until("all are followed again", || followed(redis) == two.tokens);
}

#[test]
fn over_a_socket_and_either_protocol_hundreds_are_followed_through_the_end_of_their_subscription() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("redis.sock");
    let redis = RedisServer::start_with(&["--unixsocket", socket.to_str().unwrap()]).unwrap();
    for url in
        [redis.url(), format!("{}?protocol=resp3", redis.url()), format!("unix://{}?protocol=resp3", socket.display())]
    {
        survives_kills(&redis, &Two::of(|| RedisStore::options(&url), 300));
        wait_until("the last ones have gone", || connections(&redis) == 0);
        redis.command(&["FLUSHALL"]);
    }
}

#[test]
#[cfg(feature = "tls")]
fn over_tls_and_either_protocol_hundreds_are_followed_through_the_end_of_their_subscription() {
    use testbed::certificates::Authority;
    use token_manager::Tls;
    let authority = Authority::new();
    let (redis, port) = authority.start_redis(&authority.issue("server", &["localhost"]), false, &[]);
    for query in ["", "?protocol=resp3"] {
        let url = format!("rediss://localhost:{port}/{query}");
        let tls = || Tls::new().ca_file(authority.file());
        survives_kills(&redis, &Two::of(|| RedisStore::options(&url).tls(tls()), 200));
        wait_until("the last ones have gone", || connections(&redis) == 0);
        redis.command(&["FLUSHALL"]);
    }
}

#[test]
fn behind_sentinels_the_subscription_goes_over_to_the_new_primary() {
    let trio = Sentinels::start().unwrap();
    let two = Two::of(|| RedisStore::options(&trio.url()), 50);
    two.follow();
    let old = trio.primary();
    wait_until("all are followed", || followed(&trio.servers[old]) == two.tokens);
    trio.failover();
    wait_until("there is another primary", || trio.primary() != old);
    let new = trio.primary();
    wait_until("all are followed there", || {
        two.idle.get("t-0").unwrap();
        followed(&trio.servers[new]) == two.tokens
    });
    two.follow();
}

#[test]
fn in_a_cluster_the_subscription_goes_over_to_another_node_when_its_own_dies() {
    let mut cluster = RedisCluster::start().unwrap();
    let url = cluster.url();
    let two = Two::of(|| RedisStore::options(&url), 30);
    two.follow();
    let of_feed = |node: &RedisServer| {
        node.try_command(&["PUBSUB", "CHANNELS", "*"]).is_ok_and(|text| text.lines().count() == 30)
    };
    wait_until("all are followed", || cluster.nodes.iter().any(of_feed));
    let node = cluster.nodes.iter().position(of_feed).unwrap();
    cluster.nodes[node].kill();
    wait_until("all are followed at another node", || {
        (0..30).for_each(|number| drop(two.idle.get_within(&format!("t-{number}"), Duration::ZERO).unwrap()));
        cluster.nodes.iter().any(of_feed)
    });
    // What is in the slots of the dead node is there again once its replica has taken over.
    let serves = |number: usize| cluster.primary_of(&format!("tm:{{crm:t-{number}}}:crm:t-{number}:token")).is_some();
    wait_until("all slots are served", || [0, 15, 29].into_iter().all(serves));
    two.follow();
}

fn name() -> TokenName {
    TokenName { namespace: "tm".into(), group: "t".into(), name: "t".into(), grant: "t".into() }
}

#[test]
fn a_subscription_that_is_renewed_while_events_come_loses_none() {
    const EVENTS: u64 = 1_500;
    let redis = RedisServer::start().unwrap();
    for line in [Line::Pass, Line::Late(Duration::from_millis(20))] {
        let proxy = Proxy::to(redis.port());
        proxy.set(line.clone());
        let options = RedisStore::options(&proxy.url()).max_connection_age(Duration::from_millis(150));
        let store = options.io_timeout(Duration::from_secs(1)).open().unwrap();
        let mut feed = store.feed().unwrap();
        feed.tuner().follow(&Topic::Changes(name()));
        while !matches!(feed.wait(LONG).unwrap(), Some(Heard::Following(_))) {}
        let (ended, before) = (Arc::new(AtomicBool::new(false)), proxy.accepted());
        let telling = thread::spawn({
            let (ended, url) = (ended.clone(), redis.url());
            move || {
                for event in 1..=EVENTS {
                    testbed::redis_server::ask(&url, &["PUBLISH", "tm:{t}:t:events:0", &format!("committed {event}")])
                        .unwrap();
                    thread::sleep(Duration::from_millis(1));
                }
                ended.store(true, Ordering::SeqCst);
            }
        });
        let mut heard = BTreeSet::new();
        loop {
            let has_ended = ended.load(Ordering::SeqCst);
            match feed.wait(Duration::from_millis(300)).unwrap() {
                Some(Heard::Changed(_, Change::Committed(generation))) => drop(heard.insert(generation)),
                None if has_ended => break,
                _ => {}
            }
        }
        telling.join().unwrap();
        assert!(proxy.accepted() - before > 5, "it was renewed {} times", proxy.accepted() - before);
        let missed: Vec<u64> = (1..=EVENTS).filter(|event| !heard.contains(event)).collect();
        assert_eq!(missed, [0; 0], "over a line that is {line:?}");
    }
}

#[test]
fn thousands_are_followed_and_renewed_at_a_server_that_keeps_little_for_a_subscriber() {
    const TOPICS: usize = 3_000;
    let redis = RedisServer::start_with(&["--client-output-buffer-limit", "pubsub 8kb 0 0"]).unwrap();
    let options = RedisStore::options(&redis.url()).max_connection_age(Duration::from_millis(500));
    let mut feed = options.io_timeout(Duration::from_secs(1)).open().unwrap().feed().unwrap();
    let topic = |number: usize| Topic::Changes(TokenName { grant: format!("t-{number}").into(), ..name() });
    (0..TOPICS).for_each(|number| feed.tuner().follow(&topic(number)));
    for number in 0..TOPICS {
        let heard = feed.wait(LONG).unwrap();
        assert!(matches!(&heard, Some(Heard::Following(confirmed)) if *confirmed == topic(number)), "{heard:?}");
    }
    let id = || redis.command(&["CLIENT", "LIST", "TYPE", "pubsub"]).split(' ').next().unwrap_or_default().to_owned();
    let first = id();
    wait_until("it was renewed", || {
        assert!(feed.wait(Duration::from_millis(50)).unwrap().is_none());
        subscribers(&redis) == 1 && id() != first
    });
    assert_eq!(followed(&redis), TOPICS);
    redis.command(&["PUBLISH", "tm:{t}:t-2999:events:0", "committed 7"]);
    let heard = feed.wait(LONG).unwrap();
    assert!(matches!(&heard, Some(Heard::Changed(_, Change::Committed(7)))), "{heard:?}");
}

#[test]
fn who_stands_subscribed_loses_nothing_while_others_come_and_go_on_the_same_names() {
    const NAMES: usize = 3;
    const EVENTS: u64 = 200;
    let redis = RedisServer::start().unwrap();
    let store = RedisStore::options(&redis.url()).io_timeout(Duration::from_secs(1)).open().unwrap();
    let manager = |name: usize| {
        let builder = TokenManager::builder(&format!("s-{name}"))
            .store(store.clone())
            .deadline(LONG)
            .budget(Budget::per_minute(60_000));
        builder.source(|_: &Attempt| Ok(Fetched::new("secret", HOUR))).build().unwrap()
    };
    let standing: Vec<_> = (0..NAMES).map(manager).collect();
    standing.iter().for_each(|manager| drop(manager.get().unwrap()));
    let guards: Vec<_> = standing.iter().map(|manager| manager.keep_fresh().unwrap()).collect();
    wait_until("all are followed", || followed(&redis) == NAMES);
    let other = RedisStore::open(&redis.url()).unwrap();
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        for number in 0..8 {
            let (manager, ended) = (&manager, &ended);
            scope.spawn(move || {
                for round in (number..10_000).take_while(|_| !ended.load(Ordering::SeqCst)) {
                    let passing = manager(round % NAMES);
                    let guard = passing.keep_fresh().unwrap();
                    thread::sleep(Duration::from_millis(round as u64 % 7));
                    drop(guard);
                }
            });
        }
        for event in 0..EVENTS {
            let manager = &standing[event as usize % NAMES];
            let held = manager.get().unwrap();
            other.invalidate(manager.name(), held.generation()).unwrap();
            let told = Instant::now();
            wait_until("the event has come", || manager.get().unwrap().generation() > held.generation());
            // Whoever misses one learns of it when it looks, which one token does each ten seconds.
            assert!(told.elapsed() < Duration::from_secs(8), "event {event} was missed for {:?}", told.elapsed());
        }
        ended.store(true, Ordering::SeqCst);
    });
    assert_eq!(subscribers(&redis), 1);
    wait_until("the standing ones are all that is followed", || followed(&redis) == NAMES);
    drop((guards, standing));
    wait_until("nothing is followed", || followed(&redis) + subscribers(&redis) == 0);
}
