//! Time per hit among 100,000 tokens, by key and by handle, against what people would use instead.

use arc_swap::ArcSwap;
use dashmap::DashMap;
use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};
use token_manager::{Attempt, Fetched, TokenManager};
use token_manager_benches::measure::{Cost, asked_for, per_call, quantile, ratio};
use token_manager_benches::sources::{Fixed, fresh_manager, secret};

const ROUNDS: usize = 21;
const CALLS: u32 = 200_000;
const TOKENS: usize = 100_000;
const THREADS: [usize; 2] = [1, 2];
const HOUR: Duration = Duration::from_secs(3600);

/// What people would keep in a map of their own.
struct Entry {
    _secret: String,
    expires_at: Instant,
}

impl Entry {
    fn new() -> Arc<Entry> {
        Arc::new(Entry { _secret: secret(), expires_at: Instant::now() + HOUR })
    }
}

/// Walks over the keys so that neither caches nor branches learn the way: a step of a prime, from a place of its own.
struct Walk<'a> {
    keys: &'a [String],
    at: Cell<usize>,
}

impl Walk<'_> {
    fn next(&self) -> &str {
        let at = (self.at.get() + 7_919) % self.keys.len();
        self.at.set(at);
        &self.keys[at]
    }
}

fn walk(keys: &[String]) -> Walk<'_> {
    let own: usize = std::ptr::from_ref(&keys).addr() % keys.len();
    Walk { keys, at: Cell::new(own) }
}

/// Measures one batch in so many threads.
type Batch<'a> = Box<dyn Fn(usize) -> Cost + 'a>;

fn main() {
    if !asked_for() {
        return;
    }
    let keys: Vec<String> = (0..TOKENS).map(|number| format!("tenant-{number:06}")).collect();
    let source = |_: &str, _: &Attempt| Ok(Fetched::new(secret(), HOUR));
    let builder = TokenManager::builder("keyed").store(Fixed::stocked());
    let managers = builder.keyed(source).build().expect("valid settings");
    let map: DashMap<String, Arc<Entry>, foldhash::fast::RandomState> = DashMap::default();
    let swaps: DashMap<String, ArcSwap<Entry>, foldhash::fast::RandomState> = DashMap::default();
    let moka = moka::sync::Cache::builder().max_capacity(2 * TOKENS as u64).time_to_live(HOUR).build();
    let quick = quick_cache::sync::Cache::new(2 * TOKENS);
    for key in &keys {
        managers.get(key).expect("a token");
        map.insert(key.clone(), Entry::new());
        swaps.insert(key.clone(), ArcSwap::new(Entry::new()));
        moka.insert(key.clone(), Entry::new());
        quick.insert(key.clone(), Entry::new());
    }
    let one = fresh_manager();
    let few: Vec<TokenManager> =
        keys.iter().step_by(TOKENS / 1_000).map(|key| managers.manager(key).expect("one")).collect();
    let own = &managers;
    let candidates: Vec<(&str, Batch)> = vec![
        (
            "dashmap, lookup and clone",
            Box::new(|threads| {
                per_call(threads, CALLS, || walk(&keys), |walk| map.get(walk.next()).map(|entry| Arc::clone(&entry)))
            }),
        ),
        (
            "dashmap, and Instant::now()",
            Box::new(|threads| {
                let get = |key: &str| {
                    map.get(key).filter(|entry| Instant::now() < entry.expires_at).map(|entry| Arc::clone(&entry))
                };
                per_call(threads, CALLS, || walk(&keys), move |walk| get(walk.next()))
            }),
        ),
        (
            "ArcSwap in a dashmap, and Instant::now()",
            Box::new(|threads| {
                let get = |key: &str| {
                    let entry = swaps.get(key)?.load_full();
                    (Instant::now() < entry.expires_at).then_some(entry)
                };
                per_call(threads, CALLS, || walk(&keys), move |walk| get(walk.next()))
            }),
        ),
        (
            "quick_cache get",
            Box::new(|threads| per_call(threads, CALLS, || walk(&keys), |walk| quick.get(walk.next()))),
        ),
        (
            "moka get_with",
            Box::new(|threads| {
                per_call(threads, CALLS, || walk(&keys), |walk| moka.get_with_by_ref(walk.next(), Entry::new))
            }),
        ),
        (
            "token-manager, by key",
            Box::new(|threads| {
                per_call(threads, CALLS, || walk(&keys), |walk| own.get(walk.next()).expect("a fresh token"))
            }),
        ),
        (
            "token-manager, one manager",
            Box::new(|threads| per_call(threads, CALLS, || (), |()| one.get().expect("a fresh token"))),
        ),
        (
            "token-manager, 1 handle",
            Box::new(|threads| per_call(threads, CALLS, || &few[7], |handle| handle.get().expect("a fresh token"))),
        ),
        (
            "token-manager, 1,000 handles",
            Box::new(|threads| {
                let next = |at: &Cell<usize>| {
                    let handle = &few[at.get()];
                    at.set(if at.get() + 1 == few.len() { 0 } else { at.get() + 1 });
                    handle
                };
                per_call(threads, CALLS, || Cell::new(0), |at| next(at).get().expect("a fresh token"))
            }),
        ),
    ];
    let mut costs = vec![vec![Vec::with_capacity(ROUNDS); candidates.len()]; THREADS.len()];
    for round in 0..ROUNDS {
        for (by_candidate, threads) in costs.iter_mut().zip(THREADS) {
            for turn in 0..candidates.len() {
                let chosen = (turn + round) % candidates.len();
                by_candidate[chosen].push(candidates[chosen].1(threads).cpu);
            }
        }
    }
    println!("\nCPU time per call in each thread, {TOKENS} tokens: median of {ROUNDS} rounds taken in turns");
    println!("| | threads | ns | × dashmap | × by key |\n|---|---|---|---|---|");
    for (candidate, (name, _)) in candidates.iter().enumerate() {
        for (index, threads) in THREADS.iter().enumerate() {
            let own = &costs[index][candidate];
            println!(
                "| {name} | {threads} | {:.1} | {:.2} | {:.2} |",
                quantile(&mut own.clone(), 0.5),
                ratio(own, &costs[index][0]),
                ratio(own, &costs[index][5]),
            );
        }
    }
}
