//! An issuer that gives the same token, with what is left of its life, until shortly before its end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use testbed::on_threads;
use token_manager::{Attempt, Budget, Fetched, MemoryStore, TokenManager};

const LIFE: Duration = Duration::from_secs(2);
const SAME_UNTIL: Duration = Duration::from_millis(60);
const TOKENS: u64 = 3;

#[test]
fn an_issuer_that_gives_the_same_token_until_shortly_before_its_end_is_asked_twice_a_life() {
    // The number of the token, its end, and how often each was given.
    let issuer = Arc::new(Mutex::new((0, Instant::now(), BTreeMap::<u64, u32>::new())));
    let asked = issuer.clone();
    let source = move |_: &Attempt| {
        let mut issuer = asked.lock().unwrap();
        let now = Instant::now();
        if now + SAME_UNTIL >= issuer.1 {
            (issuer.0, issuer.1) = (issuer.0 + 1, now + LIFE);
        }
        let (number, ends_at, given) = &mut *issuer;
        *given.entry(*number).or_default() += 1;
        Ok(Fetched::new(number.to_string(), *ends_at - now))
    };
    let store = MemoryStore::new();
    let build = || {
        let builder = TokenManager::builder("t").store(store.clone()).source(source.clone());
        builder.budget(Budget::per_minute(60_000)).build().unwrap()
    };
    let managers = [build(), build()];
    let longest = on_threads(8, move |index| {
        let mut longest = Duration::ZERO;
        loop {
            let before = Instant::now();
            let token = managers[index % 2].get().unwrap();
            longest = longest.max(before.elapsed());
            if token.secret().parse::<u64>().unwrap() > TOKENS {
                return longest;
            }
            thread::sleep(Duration::from_millis(1));
        }
    });
    let given: Vec<u32> = issuer.lock().unwrap().2.values().take(TOKENS as usize).copied().collect();
    assert!(given.iter().all(|times| *times <= 2), "given so often: {given:?}");
    assert!(given.contains(&2), "never the same one: {given:?}");
    assert!(longest.iter().all(|wait| *wait < Duration::from_secs(1)), "{longest:?}");
}
