//! Opt-in: with no store and no issuer the last token is served past its end, marked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use testbed::hooked_store::HookedStore;
use testbed::{Backing, LONG, Script, wait_until};
use token_manager::store::StoreErrorKind;
use token_manager::{Error, ErrorKind, FailureClass, FetchError, MemoryStore, TokenManager};

const BRIEF: Duration = Duration::from_millis(100);

fn out_of_order(script: &Script) {
    for _ in 0..100 {
        script.answer(|_| Err(FetchError::unavailable("out of order")));
    }
}

/// A manager whose token of a tenth of a second has ended, and whose issuer is out of order.
fn past_the_end(stale: Option<Duration>) -> (TokenManager, Script) {
    let script = Script::new(BRIEF);
    let builder = Backing::memory().builder("t").source(script.source());
    let manager = stale.into_iter().fold(builder, |builder, limit| builder.serve_stale(limit)).build().unwrap();
    let token = manager.get().unwrap();
    assert!(!token.is_stale());
    out_of_order(&script);
    wait_until("it has ended", || token.expires_in().is_zero());
    assert!(!token.is_stale(), "who holds it sees no change");
    (manager, script)
}

fn source_failed(answer: Result<token_manager::Token, Error>) {
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Source(FailureClass::Unavailable));
}

#[test]
fn without_being_told_to_nobody_serves_a_token_past_its_end() {
    source_failed(past_the_end(None).0.get());
}

#[test]
fn the_last_token_is_served_past_its_end_and_marked_until_a_newer_one_can_be_had() {
    let (manager, script) = past_the_end(Some(LONG));
    for _ in 0..3 {
        let token = manager.get().unwrap();
        assert_eq!((token.secret(), token.is_stale(), token.expires_in()), ("token-1", true, Duration::ZERO));
    }
    assert!(script.fetches() >= 2, "a newer one was asked for first");
    assert!(manager.get_within(Duration::ZERO).unwrap().is_stale());
    manager.lift_pause().unwrap();
    let all = testbed::on_threads(20, {
        let manager = manager.clone();
        move |_| manager.get().unwrap().is_stale()
    });
    assert_eq!(all, [true; 20]);
}

#[test]
fn it_ends_with_its_limit() {
    let (manager, _script) = past_the_end(Some(Duration::from_millis(300)));
    assert!(manager.get().unwrap().is_stale());
    wait_until("the limit has passed", || manager.get().is_err());
    source_failed(manager.get());
}

#[test]
fn an_invalidated_token_is_never_served_past_its_end() {
    let (manager, _script) = past_the_end(Some(LONG));
    manager.invalidate(&manager.get().unwrap());
    source_failed(manager.get());
}

#[test]
fn refused_credentials_are_told_of() {
    let script = Script::new(BRIEF);
    let builder = Backing::memory().builder("t").source(script.source()).serve_stale(LONG);
    let manager = builder.build().unwrap();
    let token = manager.get().unwrap();
    script.answer(|_| Err(FetchError::credentials_rejected("invalid_client")));
    wait_until("it has ended", || token.expires_in().is_zero());
    let kind = manager.get().unwrap_err().kind();
    assert_eq!(kind, ErrorKind::Source(FailureClass::CredentialsRejected));
}

#[test]
fn a_store_that_is_away_and_an_issuer_that_hangs_are_reasons_too() {
    let is_away = Arc::new(AtomicBool::new(false));
    let away = is_away.clone();
    let hook = move |_: &str, _| away.load(Ordering::SeqCst).then_some(StoreErrorKind::Unreachable);
    let script = Script::new(BRIEF);
    let store = HookedStore::new(MemoryStore::new(), hook);
    let manager = TokenManager::builder("t").store(store).source(script.source()).serve_stale(LONG).build().unwrap();
    let token = manager.get().unwrap();
    wait_until("it has ended", || token.expires_in().is_zero());
    is_away.store(true, Ordering::SeqCst);
    assert!(manager.get().unwrap().is_stale());
    is_away.store(false, Ordering::SeqCst);
    script.hold();
    thread::sleep(BRIEF);
    assert!(manager.get_within(BRIEF).unwrap().is_stale());
    script.set_life(LONG);
    script.release();
    wait_until("a fresh one is there", || manager.get().is_ok_and(|token| !token.is_stale()));
}

#[test]
fn a_limit_of_nothing_is_refused() {
    let script = Script::new(BRIEF);
    let builder = Backing::memory().builder("t").source(script.source()).serve_stale(Duration::ZERO);
    let error = builder.build().unwrap_err();
    assert!(error.to_string().contains("serve_stale is 0ns"), "{error}");
}
