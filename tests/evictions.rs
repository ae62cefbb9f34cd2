//! A Redis that is full: what each eviction policy does to a fleet.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use testbed::redis_server::RedisServer;
use testbed::{LONG, Script};
use token_manager::{Budget, TokenManager};

const HOUR: Duration = Duration::from_secs(3600);
const LASTS: Duration = Duration::from_millis(1_500);

/// What a fleet went through.
#[derive(Debug, Default)]
struct Seen {
    calls: u64,
    errors: Vec<String>,
    backwards: u64,
    invalidated: u64,
}

/// Keeps a Redis full with values of somebody else's, all of which expire, for as long as it lives.
struct Filler {
    over: Arc<AtomicBool>,
    refused: Arc<AtomicU64>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Filler {
    fn start(url: String) -> Filler {
        let (over, refused) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (until, count) = (over.clone(), refused.clone());
        let fill = "for i = 1, 200 do redis.call('SET', 'other:' .. ARGV[1] .. ':' .. i, string.rep('x', 2000), 'PX', 3600000) end";
        let thread = thread::spawn(move || {
            let mut round = 0;
            while !until.load(Ordering::SeqCst) {
                round += 1;
                if testbed::redis_server::ask(&url, &["EVAL", fill, "0", &round.to_string()]).is_err() {
                    count.fetch_add(1, Ordering::SeqCst);
                    thread::sleep(Duration::from_millis(5));
                }
            }
        });
        Filler { over, refused, thread: Some(thread) }
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}

/// A Redis of this policy, with room for a few thousand values of others.
fn full_redis(policy: &str) -> (RedisServer, Filler) {
    let redis = RedisServer::start_with(&["--maxmemory-policy", policy, "--maxmemory-samples", "1"]).unwrap();
    let used = redis.command(&["INFO", "memory"]);
    let used: u64 = used.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap().parse().unwrap();
    redis.command(&["CONFIG", "SET", "maxmemory", &(used + (2 << 20)).to_string()]);
    let filler = Filler::start(redis.url());
    testbed::wait_until("it is full", || evicted(&redis) > 0 || filler.refused.load(Ordering::SeqCst) > 0);
    (redis, filler)
}

fn evicted(redis: &RedisServer) -> u64 {
    let stats = redis.command(&["INFO", "stats"]);
    stats.lines().find_map(|line| line.strip_prefix("evicted_keys:")).unwrap().parse().unwrap()
}

fn manager(redis: &RedisServer, script: &Script) -> TokenManager {
    let builder = TokenManager::builder("t").redis(&redis.url()).unwrap().deadline(LONG);
    builder.budget(Budget::per_minute(60_000).burst(10_000)).source(script.source()).build().unwrap()
}

/// Calls, and invalidates now and then, from three processes' worth of managers.
fn work(redis: &RedisServer, script: &Script) -> Seen {
    let managers: Vec<_> = (0..3).map(|_| manager(redis, script)).collect();
    let guards: Vec<_> = managers.iter().map(|manager| manager.keep_fresh().unwrap()).collect();
    let (seen, start) = (Mutex::new(Seen::default()), Instant::now());
    thread::scope(|scope| {
        for number in 0..9 {
            let (manager, seen) = (&managers[number % 3], &seen);
            scope.spawn(move || {
                let (mut newest, mut round) = (0, 0);
                while start.elapsed() < LASTS {
                    round += 1;
                    let got = manager.get();
                    let mut all = seen.lock().unwrap();
                    all.calls += 1;
                    match got {
                        Ok(token) => {
                            all.backwards += u64::from(token.generation() < newest);
                            newest = newest.max(token.generation());
                            let invalidates = number == 0 && round % 10 == 0;
                            all.invalidated += u64::from(invalidates);
                            drop(all);
                            if invalidates {
                                manager.invalidate(&token);
                            }
                        }
                        Err(error) => all.errors.push(format!("{error:?}")),
                    }
                    thread::sleep(Duration::from_millis(5));
                }
            });
        }
    });
    drop(guards);
    seen.into_inner().unwrap()
}

#[test]
fn a_redis_that_evicts_keys_costs_fetches_and_neither_an_error_nor_an_older_token() {
    for policy in ["volatile-random", "volatile-lru", "volatile-ttl", "allkeys-random", "allkeys-lru"] {
        let (redis, _filler) = full_redis(policy);
        let script = Script::new(HOUR);
        let seen = work(&redis, &script);
        let (fetches, evicted) = (script.fetches(), evicted(&redis));
        println!("{policy}: {fetches} fetches, {evicted} keys evicted, {seen:?}");
        assert_eq!((&seen.errors[..], seen.backwards), (&[][..], 0), "{policy}");
        assert!(evicted > 1_000 && seen.calls > 300 && seen.invalidated > 5, "{policy}: {evicted} evicted, {seen:?}");
        assert!(fetches > seen.invalidated, "{policy}: {fetches} fetches, {seen:?}");
    }
}

#[test]
fn a_full_redis_that_evicts_nothing_refuses_and_whoever_has_a_token_goes_on() {
    let redis = RedisServer::start_with(&["--maxmemory-policy", "noeviction"]).unwrap();
    let script = Script::new(HOUR);
    let holder = manager(&redis, &script);
    let held = holder.get().unwrap();
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]);
    for _ in 0..100 {
        assert_eq!(holder.get().unwrap().generation(), held.generation());
    }
    // A claim that grants nothing writes nothing that a full Redis would refuse.
    let newcomer = manager(&redis, &script);
    assert_eq!(newcomer.get().unwrap().generation(), held.generation());
    newcomer.invalidate(&held);
    let error = newcomer.get().unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("OOM: Redis is at its maxmemory"), "{cause}");
    assert_eq!(holder.get().unwrap().generation(), held.generation());
    assert_eq!(script.fetches(), 1);
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]);
    testbed::wait_until("all is well", || newcomer.get().is_ok_and(|token| token.generation() > held.generation()));
    assert_eq!(script.fetches(), 2);
}
