//! One process of the fleet: does what each line of its input says and answers with one line.

use crate::original::Original;
use std::io::{BufRead, Write, stdin, stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use token_manager::{Attempt, Budget, Event, Fetched, RedisStore, TokenManager};
use token_manager_benches::measure::machine_time;
use token_manager_benches::sources::{fresh_manager, secret};

pub const THREADS: usize = 25;
/// How long the issuer takes at a turnover.
pub const ISSUER: Duration = Duration::from_millis(150);
/// The life of the tokens of the steady load, that of the demo this library began as, and how often each thread wants one.
pub const LIFE: Duration = Duration::from_secs(5);
const EVERY: Duration = Duration::from_millis(20);
pub const REQUESTS: usize = 750;

/// Serves the parent until it hangs up.
pub fn serve(url: &str) {
    let store = RedisStore::open(url).expect("a valid URL");
    let original = Original::connect(url, THREADS);
    let idle = fresh_manager();
    for line in stdin().lock().lines() {
        let line = line.expect("text");
        let (verb, name) = line.split_once(' ').expect("a verb and a name");
        let answer = match verb {
            "turnover" => turnover(&store, name),
            "polling" => polling(&original, name),
            "bare" => bare(url, name),
            "load" => load(&manager(&store, name, LIFE, Arc::default()), &idle),
            "polling-load" => polling_load(&original, name),
            _ => panic!("no such verb: {verb}"),
        };
        say(&answer);
    }
}

fn say(answer: &[u64]) {
    let words: Vec<String> = answer.iter().map(u64::to_string).collect();
    let mut out = stdout().lock();
    writeln!(out, "{}", words.join(" ")).and_then(|()| out.flush()).expect("the parent reads");
}

/// Makes a manager for a new token; `committed` is set to the moment of its commit's reply, if it is this process's.
fn manager(store: &RedisStore, name: &str, life: Duration, committed: Arc<AtomicU64>) -> TokenManager {
    let source = move |_: &Attempt| {
        thread::sleep(ISSUER);
        Ok(Fetched::new(secret(), life))
    };
    let observer = move |event: &Event| {
        if matches!(event, Event::Committed { .. }) {
            committed.store(machine_time(), Ordering::SeqCst);
        }
    };
    let builder = TokenManager::builder(name).store(store.clone()).source(source).observer(observer);
    builder.budget(Budget::per_minute(600)).build().expect("valid settings")
}

/// Runs the same in all threads and collects what they say.
fn everywhere(run: impl Fn(usize) -> Vec<u64> + Sync) -> Vec<u64> {
    thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> = (0..THREADS).map(|index| scope.spawn(move || run(index))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a thread panicked")).collect()
    })
}

/// All threads want a token that nobody has: the moment of the commit (0 if another process's), then of each service.
fn turnover(store: &RedisStore, name: &str) -> Vec<u64> {
    let committed = Arc::new(AtomicU64::new(0));
    let manager = manager(store, name, Duration::from_secs(3600), committed.clone());
    let served = everywhere(|_| {
        drop(manager.get().expect("a token"));
        served()
    });
    [vec![committed.load(Ordering::SeqCst)], served].concat()
}

/// Returns the moment, and lets no other thread wait for a core because of the end of this one, which costs more than its
/// service.
fn served() -> Vec<u64> {
    let at = machine_time();
    thread::sleep(Duration::from_millis(100));
    vec![at]
}

fn polling(original: &Original, name: &str) -> Vec<u64> {
    let committed = AtomicU64::new(0);
    let served = everywhere(|index| {
        original.get(index, name, Duration::from_secs(3600), ISSUER, &committed);
        served()
    });
    [vec![committed.load(Ordering::SeqCst)], served].concat()
}

/// The least that any design on pub/sub needs: one message and one read.
fn bare(url: &str, name: &str) -> Vec<u64> {
    let client = redis::Client::open(url).expect("a valid URL");
    let (mut listening, mut asking) =
        (client.get_connection().expect("Redis"), client.get_connection().expect("Redis"));
    let mut events = listening.as_pubsub();
    events.subscribe(name).expect("Redis");
    say(&[0]); // subscribed
    events.get_message().expect("a message");
    let token: String = redis::cmd("GET").arg(name).query(&mut asking).expect("Redis");
    let served = machine_time();
    assert!(!token.is_empty());
    vec![0, served]
}

/// Each thread wants a token at its own steady pace over several lives: how long each call took, and beside each a call
/// of a manager that has nothing to refresh, which shows what the machine itself does to a call.
fn load(manager: &TokenManager, idle: &TokenManager) -> Vec<u64> {
    everywhere(|index| {
        let time = |manager: &TokenManager| {
            let before = machine_time();
            drop(manager.get().expect("a token"));
            machine_time() - before
        };
        manager.get().expect("a token"); // the first one has to be waited for
        paced(index, || [time(manager), time(idle)])
    })
}

fn polling_load(original: &Original, name: &str) -> Vec<u64> {
    let committed = AtomicU64::new(0);
    everywhere(|index| {
        let get = || original.get(index, name, LIFE, ISSUER, &committed);
        get();
        paced(index, || {
            let before = machine_time();
            get();
            [machine_time() - before, 0]
        })
    })
}

fn paced(index: usize, mut call: impl FnMut() -> [u64; 2]) -> Vec<u64> {
    let start = Instant::now() + EVERY * index as u32 / THREADS as u32;
    let mut times = Vec::with_capacity(2 * REQUESTS);
    for turn in 0..REQUESTS {
        thread::sleep((start + EVERY * turn as u32).saturating_duration_since(Instant::now()));
        times.extend(call());
    }
    times
}
