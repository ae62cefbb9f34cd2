//! Threads of one process: one fetch, shared outcomes, deadlines of one's own. On both stores.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use testbed::{Backing, LONG, Script, on_threads, wait_until};
use token_manager::{Budget, ErrorKind, Execution, FailureClass, FetchError, Fetched, TokenManager, Verdict};

const HOUR: Duration = Duration::from_secs(3600);

fn release_when_all_wait(script: &Script, manager: &TokenManager, count: u64) -> thread::JoinHandle<()> {
    let (script, manager) = (script.clone(), manager.clone());
    thread::spawn(move || {
        wait_until("all wait", || manager.stats().waits == count);
        script.release();
    })
}

#[test]
fn a_hundred_threads_on_an_empty_store_make_one_fetch() {
    for backing in Backing::all() {
        let script = Script::held(HOUR);
        let manager = backing.builder("t").source(script.source()).build().unwrap();
        let releaser = release_when_all_wait(&script, &manager, 100);
        let tokens = on_threads(100, move |_| manager.get().unwrap().secret().to_owned());
        releaser.join().unwrap();
        assert_eq!(tokens, vec!["token-1"; 100]);
        assert_eq!(script.fetches(), 1);
    }
}

#[test]
fn waiting_threads_hold_no_pooled_connection() {
    let Backing::Redis(server) = Backing::redis() else { unreachable!() };
    let script = Script::held(HOUR);
    let store = || token_manager::RedisStore::options(&server.url()).pool_size(1).open().unwrap();
    let build = |script: &Script| {
        TokenManager::builder("t").store(store()).deadline(LONG).source(script.source()).build().unwrap()
    };
    let (updater, waiter) = (build(&script), build(&script));
    let first = thread::spawn(move || updater.get().unwrap().secret().to_owned());
    script.wait_for(1);
    let watched = waiter.clone();
    let releaser = thread::spawn({
        let script = script.clone();
        move || {
            wait_until("all wait", || watched.stats().waits == 100);
            watched.inspect().expect("the only pooled connection is free");
            script.release();
        }
    });
    let tokens = on_threads(100, move |_| waiter.get().unwrap().secret().to_owned());
    releaser.join().unwrap();
    assert_eq!(tokens, vec!["token-1"; 100]);
    assert_eq!(first.join().unwrap(), "token-1");
    assert_eq!(script.fetches(), 1);
}

#[test]
fn nobody_blocks_while_a_token_is_due() {
    for backing in Backing::all() {
        let script = Script::new(Duration::from_secs(4));
        let manager = backing.builder("t").source(script.source()).build().unwrap();
        assert_eq!(manager.get().unwrap().secret(), "token-1");
        script.hold();
        wait_until("the token is due and refreshed", || {
            assert_eq!(manager.get_within(Duration::ZERO).unwrap().secret(), "token-1");
            script.fetches() == 2
        });
        let tokens = on_threads(100, {
            let manager = manager.clone();
            move |_| manager.get_within(Duration::ZERO).unwrap().secret().to_owned()
        });
        assert_eq!(tokens, vec!["token-1"; 100]);
        script.set_life(HOUR);
        script.release();
        wait_until("the new token is in use", || manager.get().unwrap().secret() == "token-2");
        assert_eq!((script.fetches(), manager.stats().waits), (2, 1));
    }
}

#[test]
fn a_callers_deadline_is_its_own() {
    for backing in Backing::all() {
        let script = Script::held(HOUR);
        let manager = backing.builder("t").source(script.source()).build().unwrap();
        let patient = thread::spawn({
            let manager = manager.clone();
            move || manager.get().unwrap().secret().to_owned()
        });
        script.wait_for(1);
        let start = Instant::now();
        let error = manager.get_within(Duration::from_millis(200)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(start.elapsed() >= Duration::from_millis(200));
        assert_eq!(manager.get_within(Duration::ZERO).unwrap_err().kind(), ErrorKind::Timeout);
        script.release();
        assert_eq!(patient.join().unwrap(), "token-1");
        assert_eq!(script.fetches(), 1);
    }
}

#[test]
fn an_impatient_leader_does_not_end_the_flight() {
    let backing = Backing::redis();
    let script = Script::held(HOUR);
    let manager = backing.builder("t").source(script.source()).build().unwrap();
    assert_eq!(manager.get_within(Duration::ZERO).unwrap_err().kind(), ErrorKind::Timeout);
    script.wait_for(1);
    script.release();
    assert_eq!(manager.get().unwrap().secret(), "token-1");
    assert_eq!(script.fetches(), 1);
}

#[test]
fn all_waiters_get_the_sources_error_with_its_class_and_pause() {
    for backing in Backing::all() {
        let script = Script::held(HOUR);
        script.answer(|_| Err(FetchError::throttled(Some(Duration::from_secs(7)))));
        let manager = backing.builder("t").source(script.source()).build().unwrap();
        let releaser = release_when_all_wait(&script, &manager, 100);
        let caller = manager.clone();
        let errors = on_threads(100, move |_| caller.get().unwrap_err());
        releaser.join().unwrap();
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::Source(FailureClass::Throttled));
            assert_eq!(error.retry_after().unwrap().as_millis().div_ceil(1000), 7);
        }
        let other = backing.builder("t").source(script.source()).build().unwrap();
        let error = other.get().unwrap_err();
        assert_eq!(
            error.kind(),
            ErrorKind::Source(FailureClass::Throttled),
            "another process learns it from the store"
        );
        assert_eq!(script.fetches(), 1);
    }
}

#[test]
fn a_failed_refresh_leaves_the_valid_token_in_use() {
    for backing in Backing::all() {
        let script = Script::new(Duration::from_secs(5));
        let manager = backing.builder("t").source(script.source()).build().unwrap();
        assert_eq!(manager.get().unwrap().secret(), "token-1");
        script.answer(|_| Err(FetchError::unavailable("down")));
        wait_until("the refresh failed", || {
            assert_eq!(manager.get_within(Duration::ZERO).unwrap().secret(), "token-1");
            manager.stats().failures == 1
        });
        assert_eq!(manager.get_within(Duration::ZERO).unwrap().secret(), "token-1");
        assert_eq!(script.fetches(), 2);
    }
}

#[test]
fn a_panicking_source_is_an_error_for_all() {
    for backing in Backing::all() {
        let script = Script::held(HOUR);
        script.answer(|_| panic!("this panic is part of the test"));
        let manager = backing.builder("t").source(script.source()).build().unwrap();
        let releaser = release_when_all_wait(&script, &manager, 10);
        let errors = on_threads(10, move |_| manager.get().unwrap_err().kind());
        releaser.join().unwrap();
        assert_eq!(errors, vec![ErrorKind::Source(FailureClass::UnknownOutcome); 10]);
        assert_eq!(script.fetches(), 1);
    }
}

#[test]
fn a_source_that_never_returns_is_abandoned_and_the_third_time_not_called() {
    for backing in Backing::all() {
        let script = Script::held(HOUR);
        let manager =
            backing.builder("t").fetch_limit(Duration::from_millis(50)).source(script.source()).build().unwrap();
        for fetches in 1..=2 {
            wait_until("the source was called again and abandoned", || {
                let error = manager.get().unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Source(FailureClass::UnknownOutcome));
                script.fetches() == fetches && manager.stats().abandoned == fetches
            });
        }
        wait_until("the error says that the source never returned", || {
            let error = manager.get().unwrap_err();
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            cause.is_some_and(|cause| cause.contains("never returned"))
        });
        assert_eq!((script.fetches(), manager.stats().abandoned), (2, 2));
        script.release();
        wait_until("what it brought late is committed and served", || manager.get().is_ok());
    }
}

#[test]
fn a_source_that_asks_its_own_manager_gets_an_error() {
    for flights in [Execution::Background, Execution::Inline] {
        let manager = Arc::new(std::sync::OnceLock::<TokenManager>::new());
        let own = manager.clone();
        let source = move |_: &token_manager::Attempt| {
            let error = own.get().unwrap().get().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Reentrant);
            Ok(Fetched::new("brought all the same", HOUR))
        };
        let built = Backing::memory().builder("t").execution(flights).source(source).build().unwrap();
        manager.set(built).unwrap();
        assert_eq!(manager.get().unwrap().get().unwrap().secret(), "brought all the same");
    }
}

#[test]
fn a_rejected_token_is_invalidated_by_a_hundred_threads_with_one_fetch() {
    for backing in Backing::all() {
        let script = Script::new(HOUR);
        let manager = backing.builder("t").source(script.source()).build().unwrap();
        let rejected = manager.get().unwrap();
        let (caller, token) = (manager.clone(), rejected.clone());
        let tokens = on_threads(100, move |_| {
            caller.invalidate(&token);
            caller.get().unwrap().secret().to_owned()
        });
        assert_eq!(tokens, vec!["token-2"; 100]);
        manager.invalidate(&rejected);
        assert_eq!(manager.get().unwrap().secret(), "token-2", "a late invalidation of the old token does nothing");
        assert_eq!(script.fetches(), 2);
    }
}

#[test]
fn a_token_of_another_name_is_not_taken_for_this_managers() {
    for backing in Backing::all() {
        let script = Script::new(HOUR);
        let build =
            |name: &str, group: &str| backing.builder(name).group(group).source(script.source()).build().unwrap();
        let manager = build("t", "g");
        let token = manager.get().unwrap();
        for other in [build("u", "g"), build("t", "h")] {
            let later = other.get().unwrap();
            assert!(later.generation() > token.generation());
            manager.invalidate(&later);
        }
        assert_eq!((manager.get().unwrap().secret(), manager.inspect().unwrap().invalidated), ("token-1", 0));
        assert_eq!(script.fetches(), 3);
        // The same token by way of another manager of the name is this one's.
        manager.invalidate(&build("t", "g").get().unwrap());
        assert_eq!(manager.inspect().unwrap().invalidated, token.generation());
        assert_eq!((manager.get().unwrap().secret(), script.fetches()), ("token-4", 4));
    }
}

#[test]
fn with_token_calls_once_more_after_a_rejection() {
    let script = Script::new(HOUR);
    let manager = Backing::memory().builder("t").source(script.source()).build().unwrap();
    let call = |token: &token_manager::Token| match token.secret() {
        "token-1" => Verdict::Unauthorized(401),
        _ => Verdict::Accepted(200),
    };
    assert_eq!(manager.with_token(call).unwrap(), 200);
    assert_eq!(manager.with_token(|_| Verdict::Accepted(204)).unwrap(), 204);
    assert_eq!(script.fetches(), 2);
}

#[test]
fn a_used_up_budget_is_waited_for_if_the_deadline_allows() {
    for backing in Backing::all() {
        let script = Script::new(HOUR);
        let budget = Budget::per_minute(15).burst(1);
        let manager = backing.builder("t").budget(budget).source(script.source()).build().unwrap();
        manager.invalidate(&manager.get().unwrap());
        let error = manager.get_within(Duration::from_secs(2)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limited, "four seconds do not fit into two");
        assert!(error.retry_after().unwrap() > Duration::from_secs(2));
        assert_eq!(script.fetches(), 1);
        assert_eq!(manager.get().unwrap().secret(), "token-2");
        assert_eq!(script.fetches(), 2);
    }
}

#[test]
fn an_api_that_always_answers_401_costs_no_more_than_the_budget() {
    for backing in Backing::all() {
        let script = Script::new(HOUR);
        let budget = Budget::per_minute(3).burst(3);
        let managers: Vec<_> =
            (0..4).map(|_| backing.builder("t").budget(budget).source(script.source()).build().unwrap()).collect();
        let limited = on_threads(16, move |number| {
            let manager = &managers[number % 4];
            loop {
                match manager.get_within(Duration::from_secs(2)) {
                    Ok(token) => manager.invalidate(&token),
                    Err(error) => return error.kind(),
                }
            }
        });
        assert_eq!(limited, vec![ErrorKind::Limited; 16]);
        assert_eq!(script.fetches(), 3);
    }
}

#[test]
fn flights_on_the_callers_thread_start_no_other_thread() {
    for backing in Backing::all() {
        let script = Script::new(HOUR);
        let (here, seen) = (thread::current().id(), Arc::new(AtomicU64::new(0)));
        let counter = seen.clone();
        script.answer(move |_| {
            counter.fetch_add(u64::from(thread::current().id() == here), Ordering::SeqCst);
            Ok(Fetched::new("inline", HOUR))
        });
        let manager = backing.builder("t").execution(Execution::Inline).source(script.source()).build().unwrap();
        assert_eq!(manager.get_within(Duration::ZERO).unwrap_err().kind(), ErrorKind::Timeout, "zero never blocks");
        assert_eq!(script.fetches(), 0);
        assert_eq!(manager.get().unwrap().secret(), "inline");
        assert_eq!((seen.load(Ordering::SeqCst), script.fetches()), (1, 1));
    }
}

#[test]
fn what_a_source_carries_reaches_the_next_one() {
    for backing in Backing::all() {
        let script = Script::new(HOUR);
        script.answer(|attempt| {
            assert_eq!(attempt.carry(), None);
            Ok(Fetched::new("a", HOUR).carry("refresh-1"))
        });
        script.answer(|attempt| Ok(Fetched::new(format!("with {}", attempt.carry().unwrap()), HOUR)));
        let first = backing.builder("t").source(script.source()).build().unwrap();
        first.invalidate(&first.get().unwrap());
        let second = backing.builder("t").source(script.source()).build().unwrap();
        assert_eq!(second.get().unwrap().secret(), "with refresh-1");
    }
}

#[test]
fn no_lock_is_held_while_the_source_or_the_observer_runs() {
    let manager = Arc::new(std::sync::OnceLock::<TokenManager>::new());
    let (own, observing) = (manager.clone(), manager.clone());
    let use_it = |manager: &TokenManager| {
        manager.stats();
        manager.inspect().unwrap();
        assert_eq!(manager.get_within(Duration::ZERO).is_ok(), manager.inspect().unwrap().token.is_some());
    };
    let built = Backing::memory()
        .builder("t")
        .source(move |_: &token_manager::Attempt| {
            use_it(own.get().unwrap());
            Ok(Fetched::new("token", HOUR))
        })
        .observer(move |_| assert!(observing.get().unwrap().stats().flights > 0))
        .build()
        .unwrap();
    manager.set(built).unwrap();
    assert_eq!(manager.get().unwrap().get().unwrap().secret(), "token");
}
