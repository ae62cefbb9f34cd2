//! What a fleet costs its Redis, in keys, bytes, connections and commands: the figures of `doc/operating.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use testbed::{LONG, redis_server::RedisServer, wait_until};
use token_manager::{Attempt, Budget, Fetched, TokenManager};

const HOUR: Duration = Duration::from_secs(3600);
const PROCESSES: usize = 8;
const THREADS: usize = 25;

fn managers(redis: &RedisServer, name: &str, secret: &str) -> Vec<TokenManager> {
    let secret = secret.to_owned();
    (0..PROCESSES)
        .map(|_| {
            let secret = secret.clone();
            let source = move |attempt: &Attempt| Ok(Fetched::new(format!("{}{secret}", attempt.generation()), HOUR));
            let builder = TokenManager::builder(name).redis(&redis.url()).unwrap().deadline(LONG).group("fleet");
            builder.budget(Budget::per_minute(60).burst(20)).source(source).build().unwrap()
        })
        .collect()
}

/// Hears which commands Redis is sent, those of scripts left out.
struct Monitor(Arc<Mutex<BTreeMap<String, u64>>>);

impl Monitor {
    fn new(redis: &RedisServer) -> Monitor {
        let mut stream = TcpStream::connect(("127.0.0.1", redis.port())).unwrap();
        stream.write_all(b"MONITOR\r\n").unwrap();
        let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
        assert_eq!(lines.next().unwrap(), "+OK");
        let heard = Monitor(Arc::default());
        let counts = heard.0.clone();
        thread::spawn(move || {
            for line in lines.filter(|line| !line.contains(" lua] ")) {
                let command = line.split('"').nth(1).unwrap_or_default().to_lowercase();
                *counts.lock().unwrap().entry(command).or_default() += 1;
            }
        });
        heard
    }

    /// Returns how often each of the fleet's commands came since the last time, and how many that makes.
    fn take(&self) -> (BTreeMap<String, u64>, u64) {
        thread::sleep(Duration::from_millis(200));
        let mut counts = std::mem::take(&mut *self.0.lock().unwrap());
        counts.retain(|command, _| ["eval", "evalsha", "exists", "subscribe", "ping"].contains(&&**command));
        let sum = counts.values().sum();
        (counts, sum)
    }
}

fn connections(redis: &RedisServer) -> usize {
    // Less the one that asks and the one that listens.
    redis.command(&["CLIENT", "LIST"]).lines().filter(|line| !line.is_empty()).count() - 2
}

fn get_everywhere(managers: &[TokenManager]) {
    thread::scope(|scope| {
        for manager in managers {
            (0..THREADS).for_each(|_| drop(scope.spawn(|| manager.get().unwrap())));
        }
    });
}

#[test]
fn what_a_fleet_costs_its_redis() {
    let redis = RedisServer::start().unwrap();
    let monitor = Monitor::new(&redis);
    let fleet = managers(&redis, "one", &"x".repeat(1_000));
    get_everywhere(&fleet);
    let (cold, requests) = monitor.take();
    println!("cold start: {requests} requests: {cold:?}");
    assert!((PROCESSES as u64..=6 * PROCESSES as u64).contains(&requests), "{cold:?}");
    let keys: Vec<String> = redis.command(&["KEYS", "*"]).lines().map(str::to_owned).collect();
    let bytes: u64 = keys.iter().map(|key| redis.command(&["MEMORY", "USAGE", key]).parse::<u64>().unwrap()).sum();
    println!("{} keys, {bytes} bytes, {} connections", keys.len(), connections(&redis));
    assert_eq!(
        keys.iter().cloned().collect::<BTreeSet<_>>(),
        ["budget:default", "one:meta", "one:token"].map(|key| format!("tm:{{fleet}}:{key}")).into()
    );
    assert!((1_000..2_500).contains(&bytes), "{bytes}");
    wait_until("who has nothing to wait for listens no more", || connections(&redis) == PROCESSES);

    let guards: Vec<_> = fleet.iter().map(|manager| manager.keep_fresh().unwrap()).collect();
    let subscribed = || redis.command(&["PUBSUB", "NUMSUB", "tm:{fleet}:one:events:0"]);
    wait_until("all are subscribed", || subscribed().ends_with(&format!("\n{PROCESSES}")));
    assert_eq!(connections(&redis), 2 * PROCESSES);

    thread::sleep(Duration::from_millis(500));
    monitor.take();
    let turnovers = 10;
    for _ in 0..turnovers {
        let old = fleet[0].get().unwrap().generation();
        fleet[0].invalidate(&fleet[0].get().unwrap());
        let is_newer =
            |manager: &TokenManager| manager.get_within(Duration::ZERO).is_ok_and(|token| token.generation() > old);
        wait_until("all have the new token", || fleet.iter().all(is_newer));
        get_everywhere(&fleet);
    }
    let (counts, requests) = monitor.take();
    println!("{turnovers} turnovers: {requests} requests: {counts:?}");
    assert!((2 * turnovers..=6 * turnovers * PROCESSES as u64).contains(&requests), "{counts:?}");

    // Each process makes sure every ten seconds that the store still has the token, and its subscription stands.
    thread::sleep(Duration::from_secs(1));
    monitor.take();
    get_everywhere(&fleet);
    thread::sleep(Duration::from_secs(10));
    let (counts, requests) = monitor.take();
    println!("10 s of hits: {requests} requests: {counts:?}");
    assert_eq!(counts.keys().collect::<Vec<_>>(), ["evalsha", "ping"]);
    assert!((2 * PROCESSES as u64 - 4..=2 * PROCESSES as u64 + 4).contains(&requests), "{counts:?}");
    drop(guards);
}
