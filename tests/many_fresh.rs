//! A thousand tokens that are kept fresh: one thread and one subscription for all. Alone in its process, so that threads can be counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use testbed::proxy::{Line, Proxy};
use testbed::redis_server::RedisServer;
use testbed::{LONG, threads_named, wait_until};
use token_manager::{Budget, Fetched, RedisStore, TokenManager, TokenManagers};

/// Long beside a test, and short enough for a look each six seconds.
const LIFE: Duration = Duration::from_secs(60);
const TOKENS: usize = 1_000;
const LOST: usize = 300;
/// The tests of this file count threads by name: one at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn managers(url: &str, calls: &Arc<AtomicU64>) -> TokenManagers {
    let (store, calls) =
        (RedisStore::options(url).io_timeout(Duration::from_millis(300)).open().unwrap(), calls.clone());
    let source = move |key: &str, _: &_| {
        let number = calls.fetch_add(1, Ordering::SeqCst) + 1;
        Ok(Fetched::new(format!("{key}-{number}"), LIFE))
    };
    let builder = TokenManager::builder("crm").store(store).deadline(LONG);
    builder.budget(Budget::per_minute(6_000)).keyed(source).build().unwrap()
}

fn all_serve(managers: &TokenManagers) -> bool {
    (0..LOST).all(|number| managers.get_within(&format!("t-{number}"), Duration::ZERO).is_ok())
}

fn connections(redis: &RedisServer) -> usize {
    redis.command(&["CLIENT", "LIST"]).lines().count() - 1 // that of the command itself
}

fn pings(redis: &RedisServer) -> usize {
    let stats = redis.command(&["INFO", "commandstats"]);
    let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_ping:calls="));
    line.and_then(|line| line.split(',').next()).map_or(0, |count| count.parse().unwrap())
}

#[test]
fn a_thousand_tokens_take_two_threads_and_one_subscription_and_follow_what_others_do() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    wait_until("no other test's thread is left", || threads_named("tkm-events") == 0);
    let (redis, calls) = (RedisServer::start().unwrap(), Arc::default());
    let (one, other) = (managers(&redis.url(), &calls), managers(&redis.url(), &Arc::default()));
    let guard = one.keep_fresh().unwrap();
    for number in 0..TOKENS {
        drop(one.get(&format!("t-{number}")).unwrap());
    }
    wait_until("all are followed", || redis.command(&["PUBSUB", "CHANNELS", "*"]).lines().count() == TOKENS);
    assert_eq!((calls.load(Ordering::SeqCst), threads_named("tkm-fresh"), threads_named("tkm-events")), (1_000, 1, 1));
    wait_until("the flights have ended", || threads_named("tkm-flight") == 0);
    let subscribers = || redis.command(&["CLIENT", "LIST", "TYPE", "pubsub"]).lines().count();
    assert_eq!(subscribers(), 1);
    assert!(connections(&redis) <= 34, "the pool's and one: {}", connections(&redis));
    for key in ["t-7", "t-700"] {
        other.invalidate(key, &other.get(key).unwrap()).unwrap();
        let newest = other.get(key).unwrap();
        wait_until("the idle one follows", || one.get(key).unwrap().generation() == newest.generation());
    }
    drop(guard);
    wait_until("its threads have ended", || threads_named("tkm-fresh") + threads_named("tkm-events") == 0);
    wait_until("the subscription has ended", || subscribers() == 0);
}

#[test]
fn a_redis_that_lost_all_tokens_is_given_them_back_without_a_fetch() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (mut redis, calls) = (RedisServer::start().unwrap(), Arc::default());
    let managers = managers(&redis.url(), &calls);
    let _guard = managers.keep_fresh().unwrap();
    for number in 0..LOST {
        drop(managers.get(&format!("t-{number}")).unwrap());
    }
    let stored = |redis: &RedisServer| redis.command(&["EVAL", "return #redis.call('KEYS', '*:token')", "0"]);
    wait_until("all are followed", || redis.command(&["PUBSUB", "CHANNELS", "*"]).lines().count() == LOST);
    let pinged = pings(&redis);
    wait_until("the last one has been looked at", || pings(&redis) > pinged);
    for loss in ["FLUSHALL", "a restart without data"] {
        match loss {
            "FLUSHALL" => drop(redis.command(&["FLUSHALL"])),
            _ => {
                redis.kill();
                assert!(all_serve(&managers), "no error while tokens are valid");
                redis.restart().unwrap();
            }
        }
        wait_until(loss, || {
            assert!(all_serve(&managers), "no error while tokens are valid");
            stored(&redis) == LOST.to_string()
        });
    }
    assert_eq!(calls.load(Ordering::SeqCst), LOST as u64);
}

#[test]
fn a_subscription_whose_line_went_dead_is_replaced() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (redis, calls) = (RedisServer::start().unwrap(), Arc::default());
    let proxy = Proxy::to(redis.port());
    let (idle, busy) = (managers(&proxy.url(), &calls), managers(&redis.url(), &calls));
    let _guard = idle.keep_fresh().unwrap();
    idle.get("t-1").unwrap();
    wait_until("it is followed", || redis.command(&["PUBSUB", "CHANNELS", "*"]).lines().count() == 1);
    proxy.set(Line::Mute);
    busy.invalidate("t-1", &busy.get("t-1").unwrap()).unwrap();
    let newest = busy.get("t-1").unwrap();
    proxy.set(Line::Pass);
    wait_until("it follows again", || idle.get("t-1").unwrap().generation() == newest.generation());
    wait_until("it is followed again", || redis.command(&["PUBSUB", "CHANNELS", "*"]).lines().count() == 1);
    let again = {
        busy.invalidate("t-1", &newest).unwrap();
        busy.get("t-1").unwrap()
    };
    wait_until("events come again", || idle.get("t-1").unwrap().generation() == again.generation());
}
