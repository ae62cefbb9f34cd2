//! A Redis that dies and comes back under eight processes that keep hundreds of tokens fresh: nobody gets an error, what anybody holds
//! is given back, and they do not all come at once.

use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use testbed::child::{Dialogue, say, told};
use testbed::redis_server::RedisServer;
use testbed::{LONG, wait_until};
use token_manager::{Budget, Fetched, TokenManager, TokenManagers};

const PROCESSES: usize = 8;
const HOUR: Duration = Duration::from_secs(3600);

/// How many tokens each process has; another number measures by hand.
fn tokens() -> usize {
    env::var("TOKENS").map_or(250, |count| count.parse().unwrap())
}

fn key(number: usize) -> String {
    format!("t-{number}")
}

/// The other side: a process with many tokens, which does what it is told. Does nothing when run by itself.
#[test]
fn child_with_many_tokens() {
    let Ok(url) = env::var("MANY_RESTARTS") else { return };
    let fetches = Arc::new(AtomicU64::new(0));
    let counted = fetches.clone();
    let builder = TokenManager::builder("crm").redis(&url).unwrap().deadline(LONG);
    let keyed = builder.budget(Budget::per_minute(6_000)).keyed(move |key, _| {
        counted.fetch_add(1, Ordering::SeqCst);
        Ok(Fetched::new(key, HOUR))
    });
    let managers = keyed.build().unwrap();
    let _guard = managers.keep_fresh().unwrap();
    let count = |keys: &[String], served: fn(&TokenManagers, &str) -> bool| {
        keys.iter().filter(|key| served(&managers, key)).count()
    };
    let keys: Vec<String> = (0..tokens()).map(key).collect();
    for order in told() {
        match order.as_str() {
            "get" => say(&format!("> got {}", count(&keys, |managers, key| managers.get(key).is_ok()))),
            "hit" => say(&format!(
                "> hit {}",
                count(&keys, |managers, key| managers.get_within(key, Duration::ZERO).is_ok())
            )),
            "unheld" => say(&format!("> unheld {}", managers.get("unheld").is_ok())),
            _ => say(&format!("> fetches {}", fetches.load(Ordering::SeqCst))),
        }
    }
}

struct Processes(Vec<Dialogue>);

impl Processes {
    fn start(url: &str) -> Processes {
        let args = ["child_with_many_tokens", "--exact", "--nocapture"];
        Processes((0..PROCESSES).map(|_| Dialogue::start(&args, &[("MANY_RESTARTS", url)])).collect())
    }

    /// Has all do it at once, and returns what they say.
    fn all(&mut self, order: &str, mark: &str) -> Vec<String> {
        self.0.iter_mut().for_each(|child| child.process.tell(order));
        self.0.iter_mut().map(|child| child.expect(mark)).collect()
    }

    fn fetches(&mut self) -> u64 {
        self.all("fetches", "> fetches ").iter().map(|count| count.parse::<u64>().unwrap()).sum()
    }
}

fn stored(redis: &RedisServer) -> usize {
    let count = redis.try_command(&["EVAL", "return #redis.call('KEYS', '*:token')", "0"]);
    count.ok().and_then(|count| count.parse().ok()).unwrap_or(0)
}

fn followers(redis: &RedisServer) -> usize {
    redis.try_command(&["CLIENT", "LIST", "TYPE", "pubsub"]).map_or(0, |list| list.lines().count())
}

#[test]
fn a_redis_that_dies_and_comes_back_empty_is_given_every_token_back_and_one_that_nobody_holds_costs_one_fetch() {
    let mut redis = RedisServer::start().unwrap();
    let tokens = tokens();
    let mut processes = Processes::start(&redis.url());
    let everyone = vec![tokens.to_string(); PROCESSES];
    assert_eq!(processes.all("get", "> got "), everyone);
    assert_eq!(processes.fetches(), tokens as u64, "one fetch a token in the fleet");
    wait_until("all tokens are followed", || channels(&redis) == tokens && followers(&redis) == PROCESSES);
    for round in 1..=3 {
        redis.kill();
        assert_eq!(processes.all("hit", "> hit "), everyone, "with no Redis");
        redis.restart().unwrap();
        let began = std::time::Instant::now();
        while stored(&redis) < tokens {
            assert_eq!(processes.all("hit", "> hit "), everyone, "while tokens are given back");
            assert!(began.elapsed() < LONG, "{} of {tokens} are back", stored(&redis));
        }
        println!("round {round}: all {tokens} tokens of {PROCESSES} processes are back after {:?}", began.elapsed());
        assert_eq!(processes.fetches(), tokens as u64, "what anybody holds is not fetched");
        wait_until("all are followed again", || channels(&redis) == tokens && followers(&redis) == PROCESSES);
        println!("round {round}: all are followed again after {:?}", began.elapsed());
    }
    assert_eq!(processes.all("unheld", "> unheld "), vec!["true"; PROCESSES]);
    assert_eq!(processes.fetches(), tokens as u64 + 1);
}

fn channels(redis: &RedisServer) -> usize {
    redis
        .try_command(&["PUBSUB", "CHANNELS", "*"])
        .map_or(0, |list| list.lines().filter(|line| !line.is_empty()).count())
}
