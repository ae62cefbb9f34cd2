//! `tkm bench`: what tokens cost in a store, measured with tokens that nobody else has.

use crate::args::Args;
use crate::failure::Failure;
use crate::print;
use serde_json::{Map, json};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use token_manager::store::{Claim, Claimed, Grant, Lease, Secret, TokenName};
use token_manager::{Attempt, Budget, Fetched, Store, TokenManager};
use token_manager_config::Config;

/// Long enough for a bench, short enough to be gone soon.
const LIFE: Duration = Duration::from_secs(300);
const NAMESPACE: &str = "tkm-bench";
/// How many hits are measured at once: one is too short for a clock.
const HITS: u32 = 1000;
/// How long an event may take.
const EVENT: Duration = Duration::from_secs(1);

/// What was measured, in the order in which it is told.
struct Times(&'static str, Vec<Duration>);

pub fn run(config: &Config, args: &Args) -> Result<(), Failure> {
    let name = args.name(1)?;
    let store = config.store(name)?;
    let count = args.number("count")?.unwrap_or(200).clamp(1, 100_000);
    let mut all = vec![look(&store, count)?, rotate(&store, count)?, adopt(&store, count)?, hit(&store, count)?];
    let (told, lost) = events(&store, count)?;
    all.push(told);
    for Times(_, times) in &mut all {
        times.sort_unstable();
    }
    let at = |times: &[Duration], share: f64| {
        times
            .get(((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1)))
            .copied()
            .unwrap_or_default()
    };
    if args.json() {
        let mut report = Map::new();
        for Times(what, times) in &all {
            let micros = |share| at(times, share).as_nanos() as f64 / 1000.0;
            report.insert(
                (*what).into(),
                json!({ "p50_us": micros(0.5), "p99_us": micros(0.99), "max_us": micros(1.0), "count": times.len() }),
            );
        }
        report.insert("events lost".into(), lost.into());
        return print(&(serde_json::Value::Object(report).to_string() + "\n"));
    }
    let mut text = format!("{}\n{:<52} {:>12} {:>12} {:>12}\n", store.place(), "", "p50", "p99", "max");
    for Times(what, times) in &all {
        let [p50, p99, max] = [0.5, 0.99, 1.0].map(|share| format!("{:.1?}", at(times, share)));
        text += &format!("{what:<52} {p50:>12} {p99:>12} {max:>12}\n");
    }
    if lost > 0 {
        text += &format!(
            "{lost} of {count} events did not come within {EVENT:?}: waiters of this store fall back on polling\n"
        );
    }
    print(&text)
}

fn manager(store: &Arc<dyn Store>) -> Result<TokenManager, Failure> {
    let number = AtomicU64::new(0);
    let source = move |_: &Attempt| Ok(Fetched::new(format!("bench-{}", number.fetch_add(1, Ordering::Relaxed)), LIFE));
    let builder = TokenManager::builder("bench").namespace(NAMESPACE).store(store.clone()).source(source);
    Ok(builder.budget(Budget::per_minute(60_000).burst(60_000)).build()?)
}

fn place() -> TokenName {
    let [namespace, name] = [NAMESPACE, "bench"].map(Arc::from);
    TokenName { namespace, group: Arc::clone(&name), grant: Arc::clone(&name), name }
}

fn times(count: u64, mut act: impl FnMut() -> Result<(), Failure>) -> Result<Vec<Duration>, Failure> {
    act()?; // connections are made, scripts are known
    let mut times = Vec::new();
    for _ in 0..count {
        let begun = Instant::now();
        act()?;
        times.push(begun.elapsed());
    }
    Ok(times)
}

fn look(store: &Arc<dyn Store>, count: u64) -> Result<Times, Failure> {
    let look = || Ok(store.inspect(&place(), "default").map(drop)?);
    Ok(Times("look into the store (one exchange)", times(count, look)?))
}

fn rotate(store: &Arc<dyn Store>, count: u64) -> Result<Times, Failure> {
    let manager = manager(store)?;
    manager.get()?;
    let rotate = || {
        manager.invalidate(&manager.get()?);
        Ok(manager.get().map(drop)?)
    };
    Ok(Times("invalidate, claim, fetch nothing, commit", times(count, rotate)?))
}

fn adopt(store: &Arc<dyn Store>, count: u64) -> Result<Times, Failure> {
    manager(store)?.get()?;
    let adopt = || Ok(manager(store)?.get().map(drop)?);
    Ok(Times("first get of a process, token in the store", times(count, adopt)?))
}

fn hit(store: &Arc<dyn Store>, count: u64) -> Result<Times, Failure> {
    let manager = manager(store)?;
    manager.get()?;
    let hits = || {
        for _ in 0..HITS {
            black_box(manager.get()?);
        }
        Ok(())
    };
    let times = times(count, hits)?.into_iter().map(|time| time / HITS).collect();
    Ok(Times("any further get", times))
}

/// Measures the way of an event from one connection to another.
fn events(store: &Arc<dyn Store>, count: u64) -> Result<(Times, u64), Failure> {
    let place = place();
    let mut subscription = store.subscribe(&place)?;
    let (mut times, mut lost) = (Vec::new(), 0);
    for attempt in 1..=count {
        // A whole claim and commit each time, timed from the commit on.
        let lease = claim(store, &place, attempt)?;
        while subscription.wait(Duration::ZERO)?.is_some() {}
        let grant = Grant {
            value: Secret::new(format!("bench-{attempt}")),
            left: LIFE,
            life: LIFE,
            age: None,
            carry: None,
            carry_lifetime: None,
        };
        let begun = Instant::now();
        store.commit(&place, &lease, &grant)?;
        match subscription.wait(EVENT)? {
            Some(_) => times.push(begun.elapsed()),
            None => lost += 1,
        }
    }
    Ok((Times("a commit until a waiting process is told", times), lost))
}

fn claim(store: &Arc<dyn Store>, place: &TokenName, attempt: u64) -> Result<Lease, Failure> {
    let newest = store.inspect(place, "default")?.token.map_or(0, |(generation, _)| generation);
    let budget = Some(Budget::per_minute(60_000).burst(60_000));
    let lease = Duration::from_secs(3);
    let claim = Claim { owner: "tkm-bench", attempt, newer_than: newest, lease, budget, egress: "default" };
    match store.claim(place, &claim)? {
        Claimed::Granted { generation, .. } => Ok(Lease { owner: "tkm-bench".into(), attempt, generation }),
        _ => Err(Failure::new(crate::failure::LATER, "another bench is at work in this store; try later")),
    }
}
