//! What the store does not take at once: a commit is repeated, and kept beyond its lease; full pools are waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use testbed::hooked_store::HookedStore;
use testbed::{LONG, Script, wait_until};
use token_manager::store::StoreErrorKind;
use token_manager::{Builder, ErrorKind, Execution, FailureClass, FetchError, Fetched, MemoryStore, TokenManager};

const HOUR: Duration = Duration::from_secs(3600);

fn builder(store: impl token_manager::Store, script: &Script) -> Builder {
    TokenManager::builder("t").store(store).deadline(LONG).source(script.source())
}

/// Has the first so many calls of a verb fail like this.
fn first(count: u64, hooked: &'static str, kind: StoreErrorKind) -> impl Fn(&str, u64) -> Option<StoreErrorKind> {
    move |verb, before| (verb == hooked && before < count).then_some(kind)
}

#[test]
fn a_commit_that_failed_is_repeated_while_callers_go_on_with_the_token() {
    for kind in [StoreErrorKind::Unreachable, StoreErrorKind::Exhausted, StoreErrorKind::NotWritable] {
        let (store, script) = (MemoryStore::new(), Script::new(HOUR));
        let hooked = HookedStore::new(store.clone(), first(4, "commit", kind));
        let manager = builder(hooked.clone(), &script).build().unwrap();
        assert_eq!(manager.get().unwrap().secret(), "token-1");
        assert!(manager.quiesce(LONG), "the repetition is counted as running");
        let other = builder(store, &script).build().unwrap();
        assert_eq!(other.get().unwrap().secret(), "token-1");
        assert_eq!((hooked.calls("commit"), script.fetches(), manager.stats().adopted), (5, 1, 1));
        assert_eq!(other.inspect().unwrap().doubted, 0);
    }
}

#[test]
fn an_updater_can_be_seen_until_its_commit_has_been_repeated() {
    let commits_until_vanished = Arc::new(AtomicU64::new(0));
    let seen = commits_until_vanished.clone();
    let failing = first(4, "commit", StoreErrorKind::Unreachable);
    let hooked = HookedStore::new(MemoryStore::new(), move |verb, before| {
        if verb == "commit" && seen.load(Ordering::SeqCst) == before {
            seen.fetch_add(1, Ordering::SeqCst);
        } else if verb == "vanish" {
            seen.fetch_add(100, Ordering::SeqCst); // no further one counts
        }
        failing(verb, before)
    });
    let script = Script::held(HOUR);
    let manager = builder(hooked.clone(), &script).build().unwrap();
    assert!(manager.get_within(Duration::ZERO).is_err());
    wait_until("the updater is shown", || hooked.calls("show_presence") == 1);
    script.release();
    assert!(manager.quiesce(LONG));
    assert_eq!((hooked.calls("show_presence"), hooked.calls("commit")), (1, 5));
    assert_eq!(commits_until_vanished.load(Ordering::SeqCst), 105);
}

#[test]
fn an_updater_whose_source_answers_at_once_is_not_shown() {
    let hooked = HookedStore::new(MemoryStore::new(), |_, _| None);
    let manager = builder(hooked.clone(), &Script::new(HOUR)).build().unwrap();
    // On a busy machine a thread may take longer to start.
    wait_until("one is not shown", || {
        let shown = hooked.calls("show_presence");
        manager.invalidate(&manager.get().unwrap());
        hooked.calls("show_presence") == shown
    });
}

#[test]
fn a_commit_that_cannot_mend_is_not_repeated() {
    let (store, script) = (MemoryStore::new(), Script::new(HOUR));
    let hooked = HookedStore::new(store, first(u64::MAX, "commit", StoreErrorKind::Malformed));
    let manager = builder(hooked.clone(), &script).build().unwrap();
    assert_eq!(manager.get().unwrap().secret(), "token-1");
    assert!(manager.quiesce(LONG));
    assert_eq!(hooked.calls("commit"), 1);
}

/// A manager on a store that takes no commit and no rejection until it is told to, and that store.
fn uncommitted(script: &Script) -> (TokenManager, HookedStore, Arc<AtomicBool>) {
    let takes = Arc::new(AtomicBool::new(false));
    let open = takes.clone();
    let hooked = HookedStore::new(MemoryStore::new(), move |verb, _| {
        let is_bent = ["commit", "invalidate"].contains(&verb) && !open.load(Ordering::SeqCst);
        is_bent.then_some(StoreErrorKind::Unreachable)
    });
    let manager = builder(hooked.clone(), script).lease(Duration::from_millis(100)).build().unwrap();
    manager.get().unwrap();
    // The thread of the flight gives up with the lease.
    assert!(manager.quiesce(LONG));
    assert_eq!(manager.inspect().unwrap().token, None);
    (manager, hooked, takes)
}

#[test]
fn a_token_kept_beyond_its_lease_is_committed_by_keep_fresh_and_is_beyond_doubt() {
    let script = Script::new(HOUR);
    let (manager, store, takes) = uncommitted(&script);
    takes.store(true, Ordering::SeqCst);
    let _guard = manager.keep_fresh().unwrap();
    wait_until("the store has it", || manager.inspect().unwrap().token.is_some());
    let other = builder(store, &script).build().unwrap();
    assert_eq!((other.get().unwrap().secret(), other.inspect().unwrap().doubted, script.fetches()), ("token-1", 0, 1));
}

#[test]
fn while_a_kept_token_cannot_be_committed_keep_fresh_fetches_no_other() {
    let script = Script::new(HOUR);
    let (manager, _store, takes) = uncommitted(&script);
    let _guard = manager.keep_fresh().unwrap();
    std::thread::sleep(Duration::from_millis(1_500)); // nothing is to happen
    assert_eq!((manager.get().unwrap().secret(), script.fetches()), ("token-1", 1));
    takes.store(true, Ordering::SeqCst);
    wait_until("the store has it", || manager.inspect().unwrap().token.is_some());
    assert_eq!(script.fetches(), 1);
}

#[test]
fn what_a_kept_token_carries_reaches_the_next_fetch_though_the_token_has_expired() {
    let script = Script::new(HOUR);
    script.answer(|_| Ok(Fetched::new("brief", Duration::from_millis(50)).carry("refresh-1")));
    script.answer(|attempt| Ok(Fetched::new(format!("with {}", attempt.carry().unwrap_or("nothing")), HOUR)));
    let (manager, _store, takes) = uncommitted(&script);
    takes.store(true, Ordering::SeqCst);
    wait_until("the next one is fetched", || manager.get().unwrap().secret() != "brief");
    assert_eq!((manager.get().unwrap().secret(), script.fetches()), ("with refresh-1", 2));
}

#[test]
fn what_a_kept_token_carries_outlives_its_invalidation_and_its_token_does_not() {
    let script = Script::new(HOUR);
    script.answer(|_| Ok(Fetched::new("refused", HOUR).carry("refresh-1")));
    script.answer(|attempt| Ok(Fetched::new(format!("with {}", attempt.carry().unwrap_or("nothing")), HOUR)));
    let (manager, store, takes) = uncommitted(&script);
    let refused = manager.get().unwrap();
    manager.invalidate(&refused); // the store does not learn of it
    takes.store(true, Ordering::SeqCst);
    assert_eq!((manager.get().unwrap().secret(), script.fetches()), ("with refresh-1", 2));
    let other = builder(store, &script).build().unwrap();
    assert_eq!((other.get().unwrap().secret(), script.fetches()), ("with refresh-1", 2));
    assert_eq!(manager.inspect().unwrap().invalidated, refused.generation());
}

#[test]
fn a_kept_token_that_was_rejected_meanwhile_is_never_committed() {
    let script = Script::new(HOUR);
    let (manager, hooked, takes) = uncommitted(&script);
    // The store does not learn of the rejection.
    manager.invalidate(&manager.get().unwrap());
    assert_eq!(manager.inspect().unwrap().invalidated, 0);
    let commits = hooked.calls("commit");
    takes.store(true, Ordering::SeqCst);
    assert_eq!((manager.get().unwrap().secret(), script.fetches()), ("token-2", 2));
    assert_eq!((hooked.calls("commit") - commits, manager.inspect().unwrap().doubted), (1, 0));
}

#[test]
fn a_full_pool_is_waited_for_as_long_as_anybody_waits_for_the_flight() {
    for flights in [Execution::Background, Execution::Inline] {
        let (hooked, script) =
            (HookedStore::new(MemoryStore::new(), first(10, "claim", StoreErrorKind::Exhausted)), Script::new(HOUR));
        let manager = builder(hooked.clone(), &script).execution(flights).build().unwrap();
        assert_eq!(manager.get().unwrap().secret(), "token-1");
        assert_eq!((hooked.calls("claim"), script.fetches(), manager.stats().flights), (11, 1, 1));
    }
}

#[test]
fn a_pool_that_stays_full_costs_no_caller_more_than_its_deadline() {
    for flights in [Execution::Background, Execution::Inline] {
        let hooked = HookedStore::new(MemoryStore::new(), first(u64::MAX, "claim", StoreErrorKind::Exhausted));
        let manager = builder(hooked, &Script::new(HOUR)).execution(flights).build().unwrap();
        let start = Instant::now();
        let error = manager.get_within(Duration::from_millis(300)).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Store), "{error}");
        assert!(start.elapsed() < LONG / 4, "{:?}", start.elapsed());
    }
}

#[test]
fn rejections_and_failures_reach_a_store_whose_pool_was_full() {
    let (store, script) = (MemoryStore::new(), Script::new(HOUR));
    let hooked = HookedStore::new(store, |verb, before| {
        (["invalidate", "record_failure"].contains(&verb) && before < 3).then_some(StoreErrorKind::Exhausted)
    });
    let manager = builder(hooked.clone(), &script).build().unwrap();
    let token = manager.get().unwrap();
    manager.invalidate(&token);
    assert_eq!((manager.inspect().unwrap().invalidated, hooked.calls("invalidate")), (token.generation(), 4));
    script.answer(|_| Err(FetchError::unavailable("down")));
    assert_eq!(manager.get().unwrap_err().kind(), ErrorKind::Source(FailureClass::Unavailable));
    assert_eq!((manager.inspect().unwrap().fails, hooked.calls("record_failure")), (1, 4));
}
