//! The tail of hits while a refresh is running, and how fast 100 waiting threads are served after a fetch.

use std::hint::black_box;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Barrier, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use token_manager::{Attempt, Budget, Fetched, MemoryStore, TokenManager};
use token_manager_benches::measure::{asked_for, machine_time, quantile, ratio};
use token_manager_benches::sources::{due_manager, fresh_manager, secret};

const HITS: usize = 100_000;
const TAIL_ROUNDS: usize = 101;
const WAITERS: usize = 100;
const STAMPEDES: usize = 51;

fn main() {
    if asked_for() {
        tail();
        stampede();
    }
}

/// Returns p50 and p99.99 of so many single hits, in nanoseconds with the two reads of the clock around each.
fn tail_of(manager: &TokenManager) -> [f64; 2] {
    let mut times: Vec<f64> = (0..HITS)
        .map(|_| {
            let before = machine_time();
            black_box(manager.get().expect("a token"));
            (machine_time() - before) as f64
        })
        .collect();
    [quantile(&mut times, 0.5), quantile(&mut times, 0.9999)]
}

fn tail() {
    let quiet = fresh_manager();
    // Its refresh never ends: a hung issuer.
    let hung = due_manager(|| thread::sleep(Duration::from_secs(3600)));
    // Its refresh ends and starts again all the time: each token is due at once.
    let busy = due_manager(|| thread::sleep(Duration::from_millis(50)));
    for manager in [&quiet, &hung, &busy] {
        manager.get().expect("a token");
    }
    let candidates = [("no refresh", &quiet), ("a refresh that hangs", &hung), ("a new token every 50 ms", &busy)];
    let mut times = [const { [const { Vec::<f64>::new() }; 2] }; 3];
    for round in 0..TAIL_ROUNDS {
        for turn in 0..candidates.len() {
            let chosen = (turn + round) % candidates.len();
            for (times, time) in times[chosen].iter_mut().zip(tail_of(candidates[chosen].1)) {
                times.push(time);
            }
        }
    }
    println!("{HITS} single hits, {TAIL_ROUNDS} rounds in turns, medians; reading the precise clock is part of each");
    println!("| hits during | p50 ns | p99.99 ns | p99.99 against no refresh |\n|---|---|---|---|");
    for ((name, _), [p50, p9999]) in candidates.iter().zip(&times) {
        let ratio = ratio(p9999, &times[0][1]);
        let [p50, p9999] = [p50, p9999].map(|times| quantile(&mut times.clone(), 0.5));
        println!("| {name} | {p50:.0} | {p9999:.0} | {ratio:.2} |");
    }
}

/// Has 100 threads wait for one fetch, and the same number for a plain broadcast, in turns.
fn stampede() {
    let mut times = [const { Vec::<f64>::new() }; 3];
    for _ in 0..STAMPEDES {
        times[0].push(manager_round());
        times[1].push(std_round());
        times[2].push(parking_lot_round());
    }
    println!("\nLast of {WAITERS} waiting threads served, after the fetch returned; {STAMPEDES} rounds in turns");
    println!("| | p50 ms | p90 ms | × std condvar |\n|---|---|---|---|");
    for (name, own) in ["token-manager", "std condvar broadcast", "parking_lot condvar broadcast"].iter().zip(&times) {
        let [p50, p90] = [0.5, 0.9].map(|part| quantile(&mut own.clone(), part) / 1e6);
        println!("| {name} | {p50:.2} | {p90:.2} | {:.2} |", ratio(own, &times[1]));
    }
}

/// Starts the waiters, waits until all of them wait, and returns when the last of them was served after `serve`.
fn round(wait: impl Fn() + Sync, serve: impl FnOnce() -> u64) -> f64 {
    let started = Barrier::new(WAITERS + 1);
    let waiter = || {
        started.wait();
        wait();
        let served_at = machine_time();
        // The end of a thread costs more than its service; let nobody wait for a core because of it.
        thread::sleep(Duration::from_millis(50));
        served_at
    };
    thread::scope(|scope| {
        let waiters: Vec<_> = (0..WAITERS).map(|_| scope.spawn(waiter)).collect();
        started.wait();
        thread::sleep(Duration::from_millis(30));
        let served_at = serve();
        let last = waiters.into_iter().map(|waiter| waiter.join().expect("a waiter panicked")).max();
        last.unwrap_or(served_at).saturating_sub(served_at) as f64
    })
}

fn manager_round() -> f64 {
    let (start, started) = channel::<()>();
    let (tell, told) = channel();
    let (started, tell) = (Mutex::new(started), Mutex::new(tell));
    let lock = |receiver: &Mutex<Receiver<()>>| receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
    let source = move |_: &Attempt| {
        lock(&started).expect("the bench is running");
        let fetched = Fetched::new(secret(), Duration::from_secs(3600));
        tell.lock().unwrap_or_else(PoisonError::into_inner).send(machine_time()).expect("the bench is running");
        Ok(fetched)
    };
    let builder = TokenManager::builder("stampede").store(MemoryStore::new()).source(source);
    let manager = builder.budget(Budget::per_minute(60_000)).build().expect("valid settings");
    let serve = || {
        start.send(()).expect("the source is waiting");
        told.recv().expect("the source returns")
    };
    round(|| drop(black_box(manager.get().expect("a token"))), serve)
}

fn std_round() -> f64 {
    let (ready, changed) = (Mutex::new(false), Condvar::new());
    let wait = || {
        let ready = ready.lock().unwrap_or_else(PoisonError::into_inner);
        drop(changed.wait_while(ready, |ready| !*ready));
    };
    let serve = || {
        let at = machine_time();
        *ready.lock().unwrap_or_else(PoisonError::into_inner) = true;
        changed.notify_all();
        at
    };
    round(wait, serve)
}

fn parking_lot_round() -> f64 {
    let meeting = Arc::new((parking_lot::Mutex::new(false), parking_lot::Condvar::new()));
    let deadline = Instant::now() + Duration::from_secs(15);
    let wait = || {
        let mut ready = meeting.0.lock();
        while !*ready && !meeting.1.wait_until(&mut ready, deadline).timed_out() {}
    };
    let serve = || {
        let at = machine_time();
        *meeting.0.lock() = true;
        meeting.1.notify_all();
        at
    };
    round(wait, serve)
}
