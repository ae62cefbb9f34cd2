//! Time per hit in each of 1, 2, 4 and 8 threads, against the floor and against what people would use instead.

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};
use token_manager::internals::Moment;
use token_manager_benches::measure::{self, Cost, asked_for, per_call, ratio};
use token_manager_benches::sources::{fresh_manager, secret};

const ROUNDS: usize = 31;
const CALLS: u32 = 400_000;
const THREADS: [usize; 4] = [1, 2, 4, 8];
const HOUR: Duration = Duration::from_secs(3600);

/// What people would keep in a cache of their own.
struct Entry {
    _secret: String,
    expires_at: Instant,
    coarse: Moment,
}

impl Entry {
    fn new() -> Arc<Entry> {
        Arc::new(Entry { _secret: secret(), expires_at: Instant::now() + HOUR, coarse: Moment::now().after(HOUR) })
    }
}

/// Measures one batch in so many threads.
type Batch = Box<dyn Fn(usize) -> Cost>;

fn candidates() -> Vec<(&'static str, Batch)> {
    let manager = fresh_manager();
    let swap = ArcSwap::new(Entry::new());
    let coarse_swap = ArcSwap::new(Entry::new());
    let mutex = Mutex::new(Entry::new());
    let moka = moka::sync::Cache::builder().max_capacity(64).time_to_live(HOUR).build();
    vec![
        ("floor", Box::new(|threads| per_call(threads, CALLS, Entry::new, |own| (Moment::now(), own.clone())))),
        (
            "token-manager",
            Box::new(move |threads| per_call(threads, CALLS, || (), |()| manager.get().expect("a fresh token"))),
        ),
        (
            "ArcSwap",
            Box::new(move |threads| {
                let get = || {
                    let entry = swap.load();
                    (Instant::now() < entry.expires_at).then(|| Arc::clone(&entry))
                };
                per_call(threads, CALLS, || (), |()| get())
            }),
        ),
        (
            "ArcSwap, our clocks",
            Box::new(move |threads| {
                let get = || {
                    let entry = coarse_swap.load();
                    (!Moment::now().reached(entry.coarse)).then(|| Arc::clone(&entry))
                };
                per_call(threads, CALLS, || (), |()| get())
            }),
        ),
        (
            "mutex",
            Box::new(move |threads| {
                let get = || {
                    let entry = mutex.lock();
                    (Instant::now() < entry.expires_at).then(|| Arc::clone(&entry))
                };
                per_call(threads, CALLS, || (), |()| get())
            }),
        ),
        (
            "moka get_with",
            // The cheapest key there is.
            Box::new(move |threads| per_call(threads, CALLS, || (), |()| moka.get_with((), Entry::new))),
        ),
    ]
}

fn main() {
    if !asked_for() {
        return;
    }
    let candidates = candidates();
    // costs[threads][candidate][round]
    let mut costs = vec![vec![Vec::with_capacity(ROUNDS); candidates.len()]; THREADS.len()];
    for round in 0..ROUNDS {
        for (by_candidate, threads) in costs.iter_mut().zip(THREADS) {
            for turn in 0..candidates.len() {
                let chosen = (turn + round) % candidates.len();
                by_candidate[chosen].push(candidates[chosen].1(threads));
            }
        }
    }
    let names: Vec<&str> = candidates.iter().map(|(name, _)| *name).collect();
    show("CPU time", &names, &costs, |cost| cost.cpu);
    show("Time passed", &names, &costs, |cost| cost.elapsed);
}

fn show(what: &str, names: &[&str], costs: &[Vec<Vec<Cost>>], of: fn(&Cost) -> f64) {
    let times = |threads: usize, candidate: usize| costs[threads][candidate].iter().map(of).collect::<Vec<_>>();
    println!("\n{what} per call in each thread: median of {ROUNDS} rounds taken in turns");
    println!("| | threads | ns | × floor | × token-manager | × one thread alone |\n|---|---|---|---|---|---|");
    for (candidate, name) in names.iter().enumerate() {
        for (index, threads) in THREADS.iter().enumerate() {
            let own = times(index, candidate);
            println!(
                "| {name} | {threads} | {:.1} | {:.2} | {:.2} | {:.2} |",
                measure::quantile(&mut own.clone(), 0.5),
                ratio(&own, &times(index, 0)),
                ratio(&own, &times(index, 1)),
                ratio(&own, &times(0, candidate)),
            );
        }
    }
}
