//! After `quiesce` no thread of the library is left that holds the source: when the manager is gone, so is the source.

use std::sync::Arc;
use std::time::Duration;
use testbed::{Backing, LONG, Script, on_threads};
use token_manager::{Attempt, TokenManager};

const HOUR: Duration = Duration::from_secs(3600);

/// A manager whose source holds what is returned with it.
fn holding(script: &Script, limit: Duration) -> (Arc<()>, TokenManager) {
    let held = Arc::new(());
    let (own, source) = (held.clone(), script.source());
    let source = move |attempt: &Attempt| {
        let _held = &own;
        source(attempt)
    };
    (held, Backing::memory().builder("t").fetch_limit(limit).source(source).build().unwrap())
}

#[test]
fn the_source_is_gone_with_the_manager_each_of_five_hundred_times() {
    // Four at a time, so that the system takes threads off their processor anywhere.
    let counts = on_threads(4, |_| {
        let once = |_| {
            let (held, manager) = holding(&Script::new(HOUR), LONG);
            manager.get().unwrap();
            assert!(manager.quiesce(LONG));
            drop(manager);
            Arc::strong_count(&held)
        };
        (0..125).map(once).collect::<Vec<usize>>()
    });
    assert_eq!(counts, vec![vec![1; 125]; 4]);
}

#[test]
fn an_abandoned_source_is_waited_for_though_it_panics() {
    for _ in 0..50 {
        let script = Script::held(HOUR);
        script.answer(|_| std::panic::resume_unwind(Box::new("part of the test")));
        let (held, manager) = holding(&script, Duration::from_millis(5));
        manager.get().unwrap_err();
        assert!(!manager.quiesce(Duration::ZERO), "the source is still running");
        script.release();
        assert!(manager.quiesce(LONG));
        drop(manager);
        assert_eq!(Arc::strong_count(&held), 1);
    }
}

#[test]
fn the_thread_of_a_dropped_guard_is_waited_for() {
    for _ in 0..20 {
        let (held, manager) = holding(&Script::new(HOUR), LONG);
        let guard = manager.keep_fresh().unwrap();
        manager.get().unwrap();
        assert!(!manager.quiesce(Duration::from_millis(1)), "the guard's thread is running");
        drop(guard);
        assert!(manager.quiesce(LONG));
        drop(manager);
        assert_eq!(Arc::strong_count(&held), 1);
    }
}

/// Callers' own flights are no threads of the library's, and are waited for all the same.
#[test]
fn a_flight_on_a_callers_thread_is_waited_for() {
    let script = Script::held(HOUR);
    let builder = Backing::memory().builder("t").execution(token_manager::Execution::Inline);
    let manager = builder.source(script.source()).build().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| manager.get().unwrap());
        script.wait_for(1);
        assert!(!manager.quiesce(Duration::ZERO));
        script.release();
        assert!(manager.quiesce(LONG));
        assert_eq!(manager.stats().flights, 1);
    });
}
