//! One process of the fleet: does what each line of its input says and answers with one line.

use crate::keyed::Tokens;
use crate::original::Original;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use testbed::child::{say, told};
use token_manager::{Attempt, Budget, Builder, Event, Fetched, Portion, RedisStore, TokenManager};
use token_manager_benches::measure::machine_time;
use token_manager_benches::sources::{fresh_manager, secret};

pub const THREADS: usize = 25;
/// How long the issuer takes at a turnover.
pub const ISSUER: Duration = Duration::from_millis(150);
/// The life of the tokens of the steady load, that of the demo this library began as, and how often each thread wants one.
pub const LIFE: Duration = Duration::from_secs(5);
const EVERY: Duration = Duration::from_millis(20);
pub const REQUESTS: usize = 750;
/// The steady load whose tokens are refreshed late: their life, refresh window, margin and the requests of each thread.
pub const LATE_LIFE: Duration = Duration::from_secs(10);
const LATE: (Portion, Portion) = (Portion::Share(0.04), Portion::Share(0.01));
pub const LATE_REQUESTS: usize = 2100;

/// Serves the parent until it hangs up.
pub fn serve(url: &str) {
    let store = RedisStore::open(url).expect("a valid URL");
    let original = Original::connect(url, THREADS);
    let (idle, mut tokens) = (fresh_manager(), None);
    for line in told() {
        let (verb, name) = line.split_once(' ').expect("a verb and a name");
        let numbers = match verb {
            "turnover" => turnover(&store, name),
            "polling" => polling(&original, name),
            "bare" => bare(url, name),
            "load" => load(&manager(&store, name, LIFE, Arc::default()), &idle, REQUESTS),
            "late-load" => late_load(&store, name, &idle),
            "tokens" => {
                tokens = Some(Tokens::new(&store, name));
                vec![0]
            }
            "refuse" | "follow" => tokens.as_mut().expect("tokens").turn(verb == "refuse"),
            "polling-load" => polling_load(&original, name),
            _ => panic!("no such verb: {verb}"),
        };
        answer(&numbers);
    }
}

fn answer(numbers: &[u64]) {
    let words: Vec<String> = numbers.iter().map(u64::to_string).collect();
    say(&words.join(" "));
}

/// Makes a manager for a new token; `committed` is set to the moment of its commit's reply, if it is this process's.
fn manager(store: &RedisStore, name: &str, life: Duration, committed: Arc<AtomicU64>) -> TokenManager {
    let observer = move |event: &Event| {
        if matches!(event, Event::Committed { .. }) {
            committed.store(machine_time(), Ordering::SeqCst);
        }
    };
    builder(store, name, life).observer(observer).build().expect("valid settings")
}

fn builder(store: &RedisStore, name: &str, life: Duration) -> Builder {
    let source = move |_: &Attempt| {
        thread::sleep(ISSUER);
        Ok(Fetched::new(secret(), life))
    };
    TokenManager::builder(name).store(store.clone()).source(source).budget(Budget::per_minute(600))
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
    answer(&[0]); // subscribed
    events.get_message().expect("a message");
    let token: String = redis::cmd("GET").arg(name).query(&mut asking).expect("Redis");
    let served = machine_time();
    assert!(!token.is_empty());
    vec![0, served]
}

/// Each thread wants a token at its own steady pace over several lives: how long each call took, and beside each a call
/// of a manager that has nothing to refresh, which shows what the machine itself does to a call.
fn load(manager: &TokenManager, idle: &TokenManager, requests: usize) -> Vec<u64> {
    everywhere(|index| {
        let time = |manager: &TokenManager| {
            let before = machine_time();
            drop(manager.get().expect("a token"));
            machine_time() - before
        };
        manager.get().expect("a token"); // the first one has to be waited for
        paced(index, requests, || [time(manager), time(idle)])
    })
}

/// The same with a late refresh: how many fetches this process made, the moments they began, and then the calls.
fn late_load(store: &RedisStore, name: &str, idle: &TokenManager) -> Vec<u64> {
    let granted = Arc::new(Mutex::new(Vec::new()));
    let noted = granted.clone();
    let observer = move |event: &Event| {
        if matches!(event, Event::Granted { .. }) {
            noted.lock().expect("no panic").push(machine_time());
        }
    };
    let builder = builder(store, name, LATE_LIFE).refresh_before(LATE.0).margin(LATE.1);
    let times = load(&builder.observer(observer).build().expect("valid settings"), idle, LATE_REQUESTS);
    let granted = granted.lock().expect("no panic");
    [vec![granted.len() as u64], granted.clone(), times].concat()
}

fn polling_load(original: &Original, name: &str) -> Vec<u64> {
    let committed = AtomicU64::new(0);
    everywhere(|index| {
        let get = || original.get(index, name, LIFE, ISSUER, &committed);
        get();
        paced(index, REQUESTS, || {
            let before = machine_time();
            get();
            [machine_time() - before, 0]
        })
    })
}

fn paced(index: usize, requests: usize, mut call: impl FnMut() -> [u64; 2]) -> Vec<u64> {
    let start = Instant::now() + EVERY * index as u32 / THREADS as u32;
    let mut times = Vec::with_capacity(2 * requests);
    for turn in 0..requests {
        thread::sleep((start + EVERY * turn as u32).saturating_duration_since(Instant::now()));
        times.extend(call());
    }
    times
}
