//! Many tokens in one process: each key as if it were alone, no more of them than a number, forgotten when nobody asks.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use testbed::{Backing, LONG, Script, on_threads, wait_until};
use token_manager::{
    Attempt, Budget, ErrorKind, FailureClass, FetchError, Fetched, KeyedBuilder, MemoryStore, TokenManager, Verdict,
};

const HOUR: Duration = Duration::from_secs(3600);

/// A source that gives each key a token of its own, `acme-1`, `acme-2` …, and counts its calls.
fn keyed(backing: &Backing, calls: &Arc<AtomicU64>) -> KeyedBuilder {
    let calls = calls.clone();
    backing.builder("crm").keyed(move |key, attempt| {
        assert_eq!(attempt.name(), format!("crm:{key}"));
        let number = calls.fetch_add(1, Ordering::SeqCst) + 1;
        Ok(Fetched::new(format!("{key}-{number}"), HOUR))
    })
}

#[test]
fn each_key_has_a_token_of_its_own_and_one_flight_for_all_its_threads() {
    for backing in Backing::both() {
        let calls = Arc::default();
        let managers = keyed(&backing, &calls).build().unwrap();
        let asked = managers.clone();
        let secrets = on_threads(100, move |number| {
            let key = format!("tenant-{}", number % 10);
            let token = asked.get(&key).unwrap();
            assert!(token.secret().starts_with(&key), "{} for {key}", token.secret());
            token.secret().to_owned()
        });
        assert_eq!(secrets.into_iter().collect::<HashSet<_>>().len(), 10);
        assert_eq!((calls.load(Ordering::SeqCst), managers.len()), (10, 10));
        let handle = managers.manager("tenant-3").unwrap();
        assert_eq!(handle.get().unwrap().secret(), managers.get("tenant-3").unwrap().secret());
    }
}

#[test]
fn another_process_meets_the_tokens_under_their_names() {
    for backing in Backing::both() {
        let (calls, script) = (Arc::default(), Script::new(HOUR));
        let (one, other) = (keyed(&backing, &calls).build().unwrap(), keyed(&backing, &calls).build().unwrap());
        assert_eq!(one.get("acme").unwrap().secret(), "acme-1");
        assert_eq!(other.get("acme").unwrap().secret(), "acme-1");
        let single = backing.builder("crm:acme").source(script.source()).build().unwrap();
        assert_eq!(single.get().unwrap().secret(), "acme-1");
        assert_eq!((calls.load(Ordering::SeqCst), script.fetches()), (1, 0));
    }
}

#[test]
fn an_invalidated_token_is_replaced_and_no_other() {
    for backing in Backing::both() {
        let calls = Arc::default();
        let managers = keyed(&backing, &calls).build().unwrap();
        let [a, b] = ["a", "b"].map(|key| managers.get(key).unwrap());
        managers.invalidate("a", &a).unwrap();
        assert_eq!(managers.get("a").unwrap().secret(), "a-3");
        assert_eq!(managers.get("b").unwrap().secret(), b.secret());
        managers.invalidate("b", &managers.get("a").unwrap()).unwrap(); // a mistake, which changes nothing
        assert_eq!(managers.get("b").unwrap().secret(), b.secret());
        let mut refused = 0;
        let answer = managers.with_token("b", |token| match token.secret() {
            "b-2" => {
                refused += 1;
                Verdict::Unauthorized("refused".to_owned())
            }
            secret => Verdict::Accepted(secret.to_owned()),
        });
        assert_eq!((answer.unwrap().as_str(), refused, calls.load(Ordering::SeqCst)), ("b-4", 1, 4));
    }
}

#[test]
fn a_key_that_fails_hurts_no_other() {
    for backing in Backing::both() {
        let source = |key: &str, _: &Attempt| match key {
            "broken" => Err(FetchError::credentials_rejected("no such tenant")),
            "panics" => panic!("this panic is part of the test"),
            key => Ok(Fetched::new(key, HOUR)),
        };
        let managers = backing.builder("crm").keyed(source).build().unwrap();
        for _ in 0..3 {
            let kind = |key| managers.get(key).unwrap_err().kind();
            assert_eq!(kind("broken"), ErrorKind::Source(FailureClass::CredentialsRejected));
            assert_eq!(kind("panics"), ErrorKind::Source(FailureClass::UnknownOutcome));
            assert_eq!(kind("no spaces"), ErrorKind::Config);
            assert_eq!(kind(""), ErrorKind::Config);
            assert_eq!(managers.get("well").unwrap().secret(), "well");
        }
        assert_eq!(managers.len(), 3, "a key that can be none is not kept");
    }
}

#[test]
fn a_source_that_hangs_for_one_key_holds_up_no_other() {
    for backing in Backing::both() {
        let script = Script::held(HOUR);
        let held = script.source();
        let source = move |key: &str, attempt: &Attempt| match key {
            "slow" => held(attempt),
            key => Ok(Fetched::new(key, HOUR)),
        };
        let managers = backing.builder("crm").keyed(source).build().unwrap();
        thread::scope(|scope| {
            let slow = scope.spawn(|| managers.get("slow").unwrap());
            script.wait_for(1);
            for number in 0..100 {
                let key = format!("quick-{number}");
                assert_eq!(managers.get(&key).unwrap().secret(), key);
            }
            script.release();
            assert_eq!(slow.join().unwrap().secret(), "token-1");
        });
    }
}

#[test]
fn settings_differ_where_the_caller_says_so() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    let limited = Budget::per_minute(1);
    let calls = Arc::default();
    let managers = keyed(&Backing::memory(), &calls)
        .each(move |key, builder| {
            seen.lock().unwrap().push(key.to_owned());
            match key {
                "other" => builder.source(|_: &Attempt| Ok(Fetched::new("of another source", HOUR))),
                "limited" => builder.budget(limited).deadline(Duration::from_millis(20)),
                "absurd" => builder.deadline(Duration::ZERO),
                _ => builder,
            }
        })
        .build()
        .unwrap();
    assert_eq!(managers.get("other").unwrap().secret(), "of another source");
    let first = managers.get("limited").unwrap();
    managers.invalidate("limited", &first).unwrap();
    assert_eq!(managers.get("limited").unwrap_err().kind(), ErrorKind::Limited);
    let refused = managers.get("absurd").unwrap_err().to_string();
    assert_eq!(refused, "deadline is 0ns; it must be between 1 ms and 1 hour");
    for number in 0..10 {
        managers.invalidate("free", &managers.get("free").unwrap()).unwrap();
        assert_eq!(managers.get("free").unwrap().secret(), format!("free-{}", 3 + number));
    }
    assert_eq!(*asked.lock().unwrap(), ["other", "limited", "absurd", "free"]);
}

#[test]
fn no_more_keys_are_kept_than_may_be_and_the_least_used_goes_first() {
    let calls = Arc::default();
    let managers = keyed(&Backing::memory(), &calls).max_keys(3).build().unwrap();
    let tick = || thread::sleep(Duration::from_millis(300)); // of the map's clock
    for key in ["a", "b", "c", "a", "d"] {
        managers.get(key).unwrap();
        quiet(&managers, key);
        tick();
    }
    assert_eq!(managers.len(), 3);
    let fetched = calls.load(Ordering::SeqCst);
    assert_eq!(fetched, 4);
    let is_kept = |key| managers.forget(key);
    assert_eq!([is_kept("a"), is_kept("b"), is_kept("c"), is_kept("d")], [true, false, true, true]);
    assert_eq!((managers.len(), managers.is_empty()), (0, true));
    assert_eq!(managers.get("b").unwrap().secret(), "b-2", "the store has kept it");
}

/// Waits until no flight of this key is at work any more.
fn quiet(managers: &token_manager::TokenManagers, key: &str) {
    assert!(managers.manager(key).unwrap().quiesce(LONG));
}

#[test]
fn what_is_in_use_is_kept_whatever_the_number() {
    let calls = Arc::default();
    let managers = keyed(&Backing::memory(), &calls).max_keys(2).build().unwrap();
    let handles = ["a", "b", "c", "d"].map(|key| managers.manager(key).unwrap());
    assert_eq!(managers.len(), 4);
    handles.iter().for_each(|handle| drop(handle.get().unwrap()));
    handles.iter().for_each(|handle| assert!(handle.quiesce(LONG)));
    drop(handles);
    managers.get("e").unwrap();
    assert_eq!(managers.len(), 2);
}

#[test]
fn a_hundred_threads_over_a_thousand_keys_never_keep_more_than_fifty() {
    let calls = Arc::default();
    let managers = keyed(&Backing::memory(), &calls).max_keys(50).build().unwrap();
    let asked = managers.clone();
    on_threads(8, move |thread| {
        for number in 0..1_000 {
            let key = format!("tenant-{}", (number * 7 + thread) % 200);
            let token = asked.get(&key).unwrap();
            assert!(token.secret().starts_with(&format!("{key}-")));
        }
    });
    assert_eq!(calls.load(Ordering::SeqCst), 200, "the store keeps what this process forgets");
    wait_until("what was in use is idle", || {
        managers.get("tenant-0").unwrap();
        managers.get("another").unwrap();
        managers.forget("another");
        managers.len() <= 50
    });
}

#[test]
fn keys_that_nobody_asks_for_are_forgotten_and_nothing_is_left_of_them() {
    let (calls, held) = (Arc::default(), Arc::new(()));
    let own = held.clone();
    let each = move |key: &str, builder: token_manager::Builder| {
        let own = own.clone();
        if key == "idle" { builder.observer(move |_| drop(own.clone())) } else { builder }
    };
    let managers =
        keyed(&Backing::memory(), &calls).each(each).forget_after(Duration::from_millis(200)).build().unwrap();
    managers.get("idle").unwrap();
    assert_eq!(Arc::strong_count(&held), 3);
    wait_until("it is forgotten", || {
        managers.get("busy").unwrap();
        managers.manager("busy").unwrap();
        managers.len() == 1
    });
    assert_eq!(Arc::strong_count(&held), 2, "its settings are gone with it");
    assert_eq!(managers.get("idle").unwrap().secret(), "idle-1", "the store has kept it");
}

#[test]
fn absurd_numbers_are_refused() {
    let builder = || TokenManager::builder("crm").store(MemoryStore::new()).keyed(|key, _| Ok(Fetched::new(key, HOUR)));
    let refused = |builder: KeyedBuilder| builder.build().unwrap_err().to_string();
    assert_eq!(refused(builder().max_keys(0)), "max_keys is 0; it must be 1 or more");
    assert_eq!(refused(builder().forget_after(Duration::ZERO)), "forget_after is 0ns; it must be 1 ms or longer");
    let unnamed =
        TokenManager::builder("no spaces").store(MemoryStore::new()).keyed(|key, _| Ok(Fetched::new(key, HOUR)));
    assert!(refused(unnamed).starts_with("name is \"no spaces\""));
    let shown = format!("{:?}", builder().build().unwrap());
    assert_eq!(shown, "TokenManagers { prefix: \"crm:\", keys: 0 }");
}

#[test]
fn what_the_store_has_of_many_keys_is_taken_over_at_once_and_nothing_is_fetched() {
    for backing in Backing::both() {
        let calls = Arc::default();
        let fetching = keyed(&backing, &calls).build().unwrap();
        let keys: Vec<String> = (0..300).map(|number| format!("tenant-{number}")).collect();
        for key in &keys[..200] {
            fetching.get(key).unwrap();
        }
        let loading = keyed(&backing, &calls).build().unwrap();
        assert_eq!(loading.load(&keys).unwrap(), 200);
        assert_eq!((calls.load(Ordering::SeqCst), loading.len(), loading.stats().flights), (200, 300, 0));
        for key in &keys[..200] {
            let (token, own) = (loading.get_within(key, Duration::ZERO).unwrap(), fetching.get(key).unwrap());
            assert_eq!((token.secret(), token.generation()), (own.secret(), own.generation()));
        }
        assert_eq!(loading.load(&keys[..200]).unwrap(), 200);
        assert_eq!((calls.load(Ordering::SeqCst), loading.stats().flights, fetching.stats().fetches), (200, 0, 200));
        assert!(matches!(loading.load(["a key"]).unwrap_err().kind(), ErrorKind::Config));
    }
}
