//! A thousand tokens on one store in each of two processes, over a slow line to Redis: nobody gets an error.

use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use testbed::child::{Dialogue, say, told};
use testbed::proxy::{Line, Proxy};
use testbed::{on_threads, redis_server::RedisServer};
use token_manager::{Attempt, Event, Fetched, RedisStore, TokenManager};

const TOKENS: usize = 1_000;
const HOUR: Duration = Duration::from_secs(3600);

/// The other side: a process with a manager for each token. Does nothing when run by itself.
#[test]
fn child_with_a_thousand_tokens() {
    let Ok(url) = env::var("THOUSAND_TOKENS") else { return };
    let store = RedisStore::open(&url).unwrap();
    let (fetches, commits) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let build = |number: usize| {
        let (fetched, committed) = (fetches.clone(), commits.clone());
        let source = move |attempt: &Attempt| {
            fetched.fetch_add(1, Ordering::SeqCst);
            Ok(Fetched::new(attempt.generation().to_string(), HOUR))
        };
        let observer = move |event: &Event| {
            if let Event::Committed { .. } = event {
                committed.fetch_add(1, Ordering::SeqCst);
            }
        };
        let builder = TokenManager::builder(&format!("token-{number}")).store(store.clone());
        builder.source(source).observer(observer).build().unwrap()
    };
    let managers: Vec<TokenManager> = (0..TOKENS).map(build).collect();
    say("> ready");
    told().next();
    let callers = managers.clone();
    let errors = on_threads(TOKENS, move |number| callers[number].get().err().map(|error| error.to_string()));
    let errors: Vec<String> = errors.into_iter().flatten().collect();
    let quiet = managers.iter().all(|manager| manager.quiesce(testbed::LONG));
    let (fetches, commits) = (fetches.load(Ordering::SeqCst), commits.load(Ordering::SeqCst));
    say(&format!("> done {fetches} {commits} {} {quiet} {:?}", errors.len(), errors.first()));
}

#[test]
fn two_thousand_cold_callers_over_a_slow_line_cost_one_fetch_and_one_commit_a_token() {
    let redis = RedisServer::start().unwrap();
    let proxy = Proxy::to(redis.port());
    proxy.set(Line::Late(Duration::from_millis(50)));
    let args = ["child_with_a_thousand_tokens", "--exact", "--nocapture"];
    let mut children = [(); 2].map(|()| Dialogue::start(&args, &[("THOUSAND_TOKENS", &proxy.url())]));
    children.iter_mut().for_each(|child| drop(child.expect("> ready")));
    children.iter_mut().for_each(|child| child.process.tell("go"));
    let reports = children.each_mut().map(|child| child.expect("> done "));
    for mut child in children {
        assert!(child.process.wait().unwrap().success());
    }
    let numbers = |report: &String| report.split(' ').take(3).map(|word| word.parse().unwrap()).collect::<Vec<u64>>();
    let sums = reports.iter().map(numbers).fold([0; 3], |sums, of| [sums[0] + of[0], sums[1] + of[1], sums[2] + of[2]]);
    assert_eq!(sums, [1_000, 1_000, 0], "fetches, commits and errors; {reports:?}");
    assert!(reports.iter().all(|report| report.contains("true")), "{reports:?}");
    let stored = redis.command(&["EVAL", "return #redis.call('KEYS', '*:token')", "0"]);
    assert_eq!(stored, "1000");
}
