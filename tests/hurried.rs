//! Flights on a caller's thread: who has less time than a fetch may take leaves it to others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use testbed::hooked_store::HookedStore;
use testbed::{Backing, LONG, Script, wait_until};
use token_manager::{Attempt, ErrorKind, Execution, Fetched, MemoryStore, TokenManager};

const HOUR: Duration = Duration::from_secs(3600);
const HURRY: Duration = Duration::from_millis(100);

#[test]
fn hurried_callers_start_no_fetch_and_take_over_what_a_patient_one_fetches() {
    for backing in Backing::all() {
        let script = Script::new(HOUR);
        let answer = script.source();
        let source = move |attempt: &Attempt| {
            thread::sleep(Duration::from_millis(300)); // longer than the hurried wait
            answer(attempt)
        };
        let source = Arc::new(source);
        let build = || {
            let source = source.clone();
            let inline = backing.builder("t").execution(Execution::Inline);
            inline.source(move |attempt: &Attempt| source(attempt)).build().unwrap()
        };
        let (hurried, patient) = (build(), build());
        let caller = hurried.clone();
        let loops = thread::spawn(move || {
            loop {
                match caller.get_within(HURRY) {
                    Ok(token) => return token.secret().to_owned(),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Timeout, "{error}"),
                }
            }
        });
        wait_until("some hurried calls were in vain", || hurried.stats().timeouts >= 3);
        assert_eq!(script.fetches(), 0);
        assert_eq!(patient.get().unwrap().secret(), "token-1");
        assert_eq!(loops.join().unwrap(), "token-1");
        assert_eq!((script.fetches(), hurried.stats().fetches), (1, 0));
    }
}

/// An inline manager on this store with a token that is due, and for a while not expired.
fn due(hooked: &HookedStore, script: &Script) -> TokenManager {
    script.set_life(Duration::from_secs(6));
    let inline = TokenManager::builder("t").store(hooked.clone()).execution(Execution::Inline).deadline(LONG);
    let manager = inline.refresh_before(Duration::from_secs(4)).source(script.source()).build().unwrap();
    assert_eq!(manager.get().unwrap().secret(), "token-1");
    wait_until("the token is due", || {
        manager.get_within(HURRY).unwrap();
        hooked.calls("claim") == 2
    });
    manager
}

#[test]
fn a_hurried_caller_with_a_due_token_looks_at_the_store_once_a_second_at_most() {
    let (hooked, script) = (HookedStore::new(MemoryStore::new(), |_, _| None), Script::new(HOUR));
    let manager = due(&hooked, &script);
    let start = Instant::now();
    let served = (0..1_000).filter(|_| manager.get_within(HURRY).unwrap().secret() == "token-1").count();
    let looks = hooked.calls("claim") - 2;
    assert_eq!((served, script.fetches()), (1_000, 1));
    assert!(looks <= start.elapsed().as_secs(), "{looks} looks in {:?}", start.elapsed());
    // With time enough the same caller refreshes.
    wait_until("the token is due again", || manager.get().unwrap().secret() == "token-2");
}

#[test]
fn a_patient_caller_does_not_wait_for_another_updater_beside_a_valid_token() {
    let (store, script) = (MemoryStore::new(), Script::new(HOUR));
    let hooked = HookedStore::new(store.clone(), |_, _| None);
    let manager = due(&hooked, &script);
    script.hold();
    let updater = TokenManager::builder("t").store(store).deadline(LONG).source(script.source());
    let updater = updater.refresh_before(Duration::from_secs(4)).build().unwrap();
    wait_until("the other one fetches", || updater.get().is_ok() && script.fetches() == 2);
    let (claims, start) = (hooked.calls("claim"), Instant::now());
    wait_until("it has looked at the store", || {
        assert_eq!(manager.get().unwrap().secret(), "token-1");
        hooked.calls("claim") > claims
    });
    assert!(start.elapsed() < Duration::from_secs(3), "it waited {:?}", start.elapsed());
    script.release();
    assert_eq!(script.fetches(), 2);
}

#[test]
fn a_hurried_caller_is_not_kept_by_an_updater_that_is_absent() {
    let manager = TokenManager::builder("t").store(MemoryStore::new()).execution(Execution::Inline);
    let asked = Arc::new(AtomicBool::new(false));
    let seen = asked.clone();
    let source = move |_: &Attempt| {
        seen.store(true, Ordering::SeqCst);
        Ok(Fetched::new("token", HOUR))
    };
    let manager = manager.source(source).build().unwrap();
    let start = Instant::now();
    assert_eq!(manager.get_within(HURRY).unwrap_err().kind(), ErrorKind::Timeout);
    assert!(start.elapsed() >= HURRY && start.elapsed() < LONG / 4);
    assert!(!asked.load(Ordering::SeqCst));
    assert_eq!(manager.get().unwrap().secret(), "token");
}
