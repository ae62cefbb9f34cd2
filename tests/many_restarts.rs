//! A Redis that dies and comes back empty under eight processes that keep the same hundreds of tokens fresh: nobody gets an error,
//! what they hold is given back, and they do not all come back at once.
#![cfg(target_os = "linux")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, fs};
use testbed::LONG;
use testbed::child::{Dialogue, say, told};
use testbed::proxy::Proxy;
use testbed::redis_server::RedisServer;
use token_manager::{Attempt, Budget, FetchError, Fetched, RedisStore, TokenManager, TokenManagers};

const HOUR: Duration = Duration::from_secs(3600);
const PROCESSES: usize = 8;
/// By which a child knows its Redis; it does nothing when this test is run by itself.
const REDIS: &str = "MANY_RESTARTS_REDIS";
/// How many tokens each holds, where it is not 500: to measure by hand with more.
const TOKENS: &str = "MANY_RESTARTS_TOKENS";

fn tokens() -> usize {
    env::var(TOKENS).map_or(500, |number| number.parse().expect("a number"))
}

/// Where this test binary turns into one of the processes, when it is started as one.
#[test]
fn child_of_many() {
    let Ok(url) = env::var(REDIS) else { return };
    let fetches = Arc::new(AtomicU64::new(0));
    let counted = fetches.clone();
    let source = move |key: &str, _: &Attempt| -> Result<Fetched, FetchError> {
        counted.fetch_add(1, Ordering::SeqCst);
        Ok(Fetched::new(key, HOUR))
    };
    // What a busy machine needs: a Redis that is gone is noticed at once.
    let store = RedisStore::options(&url).io_timeout(Duration::from_secs(1)).connect_timeout(Duration::from_secs(1));
    let builder =
        TokenManager::builder("crm").store(store.open().unwrap()).budget(Budget::per_minute(60_000)).deadline(LONG);
    let managers = builder.keyed(source).build().unwrap();
    let _guard = managers.keep_fresh().unwrap();
    let (mut watch, end) = (None, Arc::new(AtomicBool::new(false)));
    for line in told() {
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("get", key) => say(&format!("got {}", managers.get(key).is_ok_and(|token| token.secret() == key))),
            ("hold", _) => {
                managers.load(keys()).unwrap();
                let errors = keys().filter(|key| managers.get(key).is_err()).count();
                say(&format!("held {errors}"));
            }
            ("watch", _) => {
                let (managers, end) = (managers.clone(), end.clone());
                watch = Some(thread::spawn(move || watched(&managers, &end)));
            }
            ("halt", _) => {
                end.store(true, Ordering::SeqCst);
                say(&format!("watched {}", watch.take().map_or(u64::MAX, |watch| watch.join().unwrap())));
            }
            ("fetches", _) => say(&format!("fetched {}", fetches.load(Ordering::SeqCst))),
            _ => panic!("what is {line}?"),
        }
    }
    std::process::exit(0);
}

fn keys() -> impl Iterator<Item = String> {
    (0..tokens()).map(|number| format!("t-{number}"))
}

/// Gets every token, again and again and without waiting; returns how often that failed.
fn watched(managers: &TokenManagers, end: &AtomicBool) -> u64 {
    let (keys, mut errors) = (keys().collect::<Vec<_>>(), 0);
    while !end.load(Ordering::SeqCst) {
        errors += keys.iter().filter(|key| managers.get_within(key, Duration::ZERO).is_err()).count() as u64;
        thread::sleep(Duration::from_micros(20 * keys.len() as u64)); // a small share of a core
    }
    errors
}

struct Process {
    dialogue: Dialogue,
    proxy: Proxy,
}

impl Process {
    fn start(redis: &RedisServer) -> Process {
        let proxy = Proxy::to(redis.port());
        let variables = [(REDIS, &*proxy.url())];
        Process { dialogue: Dialogue::start(&["child_of_many", "--exact", "--nocapture"], &variables), proxy }
    }

    fn order(&mut self, order: &str) {
        self.dialogue.process.tell(order);
    }

    /// How much of a core it has used, in seconds.
    fn cpu(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.dialogue.process.pid())).unwrap();
        let words: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        (words[11].parse::<f64>().unwrap() + words[12].parse::<f64>().unwrap()) / 100.0
    }
}

/// Gives all an order at once, and returns what each says behind this word.
fn all(processes: &mut [Process], order: &str, word: &str) -> Vec<String> {
    processes.iter_mut().for_each(|process| process.order(order));
    processes.iter_mut().map(|process| process.dialogue.expect(&format!("{word} "))).collect()
}

fn fetches(processes: &mut [Process]) -> u64 {
    all(processes, "fetches", "fetched").iter().map(|number| number.parse::<u64>().unwrap()).sum()
}

fn commands(redis: &RedisServer) -> u64 {
    let stats = redis.command(&["INFO", "stats"]);
    let number = stats.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
    number.and_then(|number| number.trim().parse().ok()).unwrap()
}

fn stored(redis: &RedisServer) -> usize {
    redis.command(&["EVAL", "return #redis.call('KEYS', '*:token')", "0"]).parse().unwrap()
}

fn followed(redis: &RedisServer) -> usize {
    let subscribed = "local all = 0
        for _, channel in ipairs(redis.call('PUBSUB', 'CHANNELS', '*')) do
            all = all + redis.call('PUBSUB', 'NUMSUB', channel)[2]
        end
        return all";
    redis.command(&["EVAL", subscribed, "0"]).parse().unwrap()
}

/// Waits until the condition holds, which costs the server something to tell.
fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + LONG * (tokens() / 500).max(1) as u32;
    while !condition() {
        assert!(Instant::now() < until, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(100));
    }
}

fn spread(times: impl Iterator<Item = Instant> + Clone) -> Duration {
    times.clone().max().unwrap() - times.min().unwrap()
}

#[test]
fn a_redis_that_comes_back_empty_under_eight_processes_is_given_all_tokens_back_and_none_is_fetched() {
    let (mut redis, tokens) = (RedisServer::start().unwrap(), tokens());
    let mut processes: Vec<_> = (0..PROCESSES).map(|_| Process::start(&redis)).collect();
    assert_eq!(all(&mut processes[..1], "hold", "held"), ["0"]);
    assert_eq!(all(&mut processes, "hold", "held"), ["0"; PROCESSES]);
    for (number, process) in processes.iter_mut().enumerate() {
        process.order(&format!("get own-{number}"));
        assert_eq!(process.dialogue.expect("got "), "true");
    }
    let held = tokens + PROCESSES;
    assert_eq!((fetches(&mut processes), stored(&redis)), (held as u64, held));
    wait_until("all are followed", || followed(&redis) == PROCESSES * (tokens + 1));
    processes.iter_mut().for_each(|process| process.order("watch"));

    redis.kill();
    let killed = Instant::now();
    thread::sleep(Duration::from_millis(700)); // an outage
    let cpu: Vec<f64> = processes.iter().map(Process::cpu).collect();
    let restarting = Instant::now();
    redis.restart().unwrap();
    let restarted = Instant::now();
    assert_eq!(all(&mut processes, "get nobodys", "got"), ["true"; PROCESSES]);
    wait_until("all are given back", || stored(&redis) == held + 1);
    let (back, asked) = (restarted.elapsed(), commands(&redis));
    wait_until("all are followed again", || followed(&redis) == PROCESSES * (tokens + 2));
    let (follow, follow_asked) = (restarted.elapsed(), commands(&redis));
    let used: Vec<f64> = processes.iter().zip(&cpu).map(|(process, before)| process.cpu() - before).collect();
    assert_eq!(all(&mut processes, "halt", "watched"), ["0"; PROCESSES], "no error while tokens are valid");
    assert_eq!(fetches(&mut processes), held as u64 + 1, "one for the token that nobody held");
    for (number, process) in processes.iter_mut().enumerate() {
        process.order(&format!("get own-{}", (number + 1) % PROCESSES));
        assert_eq!(process.dialogue.expect("got "), "true");
    }
    assert_eq!(fetches(&mut processes), held as u64 + 1, "what one process held, all have again");

    let arrivals: Vec<_> = processes.iter().map(|process| process.proxy.arrivals()).collect();
    let last_try = |arrivals: &Vec<Instant>| *arrivals.iter().rev().find(|at| **at < restarting).unwrap();
    assert!(
        spread(arrivals.iter().map(last_try)) > Duration::from_millis(20),
        "they came all at once during the outage"
    );
    // The first connection is that of the call.
    let second = |arrivals: &Vec<Instant>| *arrivals.iter().filter(|at| **at > restarting).nth(1).unwrap();
    assert!(spread(arrivals.iter().map(second)) > Duration::from_millis(20), "they came back all at once");
    let tries = |arrivals: &Vec<Instant>| arrivals.iter().filter(|at| **at > killed && **at < restarting).count();
    let tries: Vec<usize> = arrivals.iter().map(tries).collect();
    assert!(tries.iter().all(|tries| *tries < 40), "no process knocks all the time: {tries:?}");
    println!(
        "back {back:?} {asked} commands; followed {follow:?} {follow_asked} commands; CPU {used:.1?}; tries {tries:?}"
    );
}
