//! Whom a failure concerns: the fleet, or this process alone; and what is left of its pause.

use std::thread;
use std::time::Duration;
use testbed::hooked_store::HookedStore;
use testbed::{Backing, LONG, Script, wait_until};
use token_manager::store::StoreErrorKind;
use token_manager::{Error, ErrorKind, FailureClass, FetchError, MemoryStore, Store, TokenManager};

const HOUR: Duration = Duration::from_secs(3600);
const S: Duration = Duration::from_secs(1);

fn build(store: impl Store, script: &Script) -> TokenManager {
    TokenManager::builder("t").store(store).deadline(LONG).source(script.source()).build().unwrap()
}

/// Asserts what kind of error it is, and that this many seconds, or up to one less, are left of its pause.
#[track_caller]
fn assert_pause(error: &Error, class: FailureClass, seconds: u32) {
    assert_eq!(error.kind(), ErrorKind::Source(class), "{error}");
    let left = error.retry_after().expect("a pause");
    assert!(left <= seconds * S && left > (seconds - 1) * S, "{left:?} of {seconds} s");
}

#[test]
fn what_is_told_of_a_remembered_failure_is_what_is_left_of_its_pause() {
    let script = Script::new(HOUR);
    script.answer(|_| Err(FetchError::throttled(Some(7 * S))));
    let manager = build(MemoryStore::new(), &script);
    let first = manager.get().unwrap_err();
    thread::sleep(Duration::from_millis(200)); // some of the pause, and less than the failure is remembered
    let second = manager.get().unwrap_err();
    assert_pause(&first, FailureClass::Throttled, 7);
    assert_pause(&second, FailureClass::Throttled, 7);
    assert!(first.retry_after().unwrap() >= second.retry_after().unwrap() + Duration::from_millis(190));
    assert_eq!((manager.stats().flights, script.fetches()), (1, 1));
    let cause = |error: &Error| std::error::Error::source(error).map(ToString::to_string);
    assert!(cause(&first).is_some() && cause(&first) == cause(&second));
}

#[test]
fn refused_credentials_pause_their_process_and_not_a_fleet_that_has_a_token() {
    for backing in Backing::all() {
        let (good, bad) = (Script::new(HOUR), Script::new(HOUR));
        let fleet = backing.builder("t").source(good.source()).build().unwrap();
        let process = backing.builder("t").source(bad.source()).build().unwrap();
        bad.answer(|_| Err(FetchError::credentials_rejected("wrong password")));
        let first = fleet.get().unwrap();
        assert_eq!(process.get().unwrap().secret(), "token-1");
        cast_doubt(&backing, first.generation());
        // The token is due for both now; the process is refused, and serves its token on.
        let guard = process.keep_fresh().unwrap();
        wait_until("it was refused", || process.stats().failures == 1);
        assert_eq!(process.get().unwrap().secret(), "token-1");
        // The fleet fetches on, and the process takes over what it has.
        fleet.invalidate(&first);
        assert_eq!(fleet.get().unwrap().secret(), "token-2");
        wait_until("it takes over", || {
            process.get_within(Duration::ZERO).is_ok_and(|token| token.secret() == "token-2")
        });
        drop(guard);
        thread::sleep(Duration::from_millis(1_100)); // until the failure is not remembered any more
        process.invalidate(&process.get().unwrap());
        let refused = process.get_within(S).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Source(FailureClass::CredentialsRejected));
        assert!(refused.retry_after().is_some_and(|left| left > 30 * S && left < 76 * S), "{refused}");
        let cause = std::error::Error::source(&refused).unwrap().to_string();
        assert_eq!(cause, "wrong password");
        assert_eq!(fleet.get_within(LONG).unwrap().secret(), "token-2", "its own hit");
        let newest = backing.builder("t").source(good.source()).build().unwrap().get().unwrap();
        assert_eq!(newest.secret(), "token-3");
        wait_until("it takes over again", || process.get().is_ok_and(|token| token.secret() == "token-3"));
        assert_eq!((bad.fetches(), good.fetches()), (1, 3));
    }
}

/// Casts doubt on every generation up to this one, as a fetch of unknown outcome does.
fn cast_doubt(backing: &Backing, generation: u64) {
    let store: Box<dyn Store> = match backing {
        Backing::Memory(store) => Box::new(store.clone()),
        Backing::Redis(server) => Box::new(token_manager::RedisStore::open(&server.url()).unwrap()),
        Backing::File(store, _) => Box::new(store.clone()),
    };
    let name = token_manager::store::TokenName {
        namespace: "tm".into(),
        group: "t".into(),
        name: "t".into(),
        grant: "t".into(),
    };
    let lease = token_manager::store::Lease { owner: "a late one".into(), attempt: 1, generation };
    let failure =
        token_manager::store::Failure { class: FailureClass::UnknownOutcome, retry_after: None, egress: "default" };
    store.record_failure(&name, &lease, &failure).unwrap();
}

#[test]
fn a_fleet_without_a_token_pauses_as_a_whole_when_credentials_are_refused() {
    for backing in Backing::all() {
        let script = Script::new(HOUR);
        script.answer(|_| Err(FetchError::credentials_rejected("wrong password")));
        let managers = [(); 2].map(|()| backing.builder("t").source(script.source()).build().unwrap());
        for manager in &managers {
            assert_eq!(manager.get().unwrap_err().kind(), ErrorKind::Source(FailureClass::CredentialsRejected));
        }
        assert_eq!(script.fetches(), 1);
        // An operator puts it right, and lifts the pause for all.
        managers[0].lift_pause().unwrap();
        assert_eq!(managers[0].get().unwrap().secret(), "token-2");
        wait_until("the other one learns of it", || managers[1].get().is_ok());
        assert_eq!(script.fetches(), 2);
    }
}

#[test]
fn a_retry_after_that_the_store_could_not_be_told_of_is_kept_by_the_process() {
    let (store, script) = (MemoryStore::new(), Script::new(HOUR));
    let hooked =
        HookedStore::new(store.clone(), |verb, _| (verb == "record_failure").then_some(StoreErrorKind::Unreachable));
    let manager = TokenManager::builder("t").store(hooked).lease(Duration::from_millis(50)).deadline(LONG);
    let manager = manager.source(script.source()).build().unwrap();
    script.answer(|_| Err(FetchError::throttled(Some(30 * S))));
    assert_pause(&manager.get().unwrap_err(), FailureClass::Throttled, 30);
    thread::sleep(Duration::from_millis(1_100)); // until the failure is not remembered any more
    assert_pause(&manager.get().unwrap_err(), FailureClass::Throttled, 29);
    assert_eq!((manager.stats().flights, script.fetches()), (2, 1));
    let other = Script::new(HOUR);
    assert_eq!(build(store, &other).get().unwrap().secret(), "token-1");
    wait_until("it takes over what another one fetched", || manager.get().is_ok());
    assert_eq!((script.fetches(), other.fetches()), (1, 1));
}

#[test]
fn lifting_the_pause_ends_the_processs_own_and_its_memory_of_failures() {
    let script = Script::new(HOUR);
    let hooked = HookedStore::new(MemoryStore::new(), |verb, _| {
        (verb == "record_failure").then_some(StoreErrorKind::Unreachable)
    });
    let manager = TokenManager::builder("t").store(hooked.clone()).lease(Duration::from_millis(50)).deadline(LONG);
    let manager = manager.source(script.source()).build().unwrap();
    script.answer(|_| Err(FetchError::throttled(Some(HOUR))));
    assert_eq!(manager.get().unwrap_err().kind(), ErrorKind::Source(FailureClass::Throttled));
    manager.lift_pause().unwrap();
    assert_eq!(manager.get().unwrap().secret(), "token-2");
    assert_eq!((script.fetches(), hooked.calls("lift_pause")), (2, 1));
}

#[test]
fn a_429_that_an_abandoned_source_gets_late_pauses_the_egress() {
    for told in [true, false] {
        let (store, script) = (MemoryStore::new(), Script::held(HOUR));
        let hooked = HookedStore::new(store.clone(), move |verb, before| {
            (verb == "record_failure" && before > 0 && !told).then_some(StoreErrorKind::Unreachable)
        });
        script.answer(|_| Err(FetchError::throttled(Some(30 * S))));
        let manager = TokenManager::builder("t").store(hooked).fetch_limit(Duration::from_millis(20)).deadline(LONG);
        let manager = manager.source(script.source()).build().unwrap();
        assert_eq!(manager.get().unwrap_err().kind(), ErrorKind::Source(FailureClass::UnknownOutcome));
        script.release();
        assert!(manager.quiesce(LONG));
        thread::sleep(Duration::from_millis(1_100)); // until the failure is not remembered any more
        assert_pause(&manager.get().unwrap_err(), FailureClass::Throttled, 29);
        assert_eq!(
            (
                script.fetches(),
                manager.inspect().unwrap().pause.is_some_and(|cooling| cooling.class == FailureClass::Throttled)
            ),
            (1, told)
        );
    }
}

#[test]
fn neither_a_failure_nor_a_pause_displaces_a_valid_token() {
    let (hooked, script) = (
        HookedStore::new(MemoryStore::new(), |verb, _| (verb == "record_failure").then_some(StoreErrorKind::Denied)),
        Script::new(4 * S),
    );
    let manager = build(hooked, &script);
    let token = manager.get().unwrap();
    script.answer(|_| Err(FetchError::credentials_rejected("wrong password")));
    while !token.expires_in().is_zero() {
        // On a thread of its own, which has no hits, each call looks at all there is.
        match thread::scope(|scope| scope.spawn(|| manager.get()).join().unwrap()) {
            Ok(served) => assert_eq!(served.generation(), token.generation()),
            Err(error) => {
                assert!(token.expires_in().is_zero(), "{error} beside a token with {:?} left", token.expires_in())
            }
        }
        thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(script.fetches(), 2);
}
