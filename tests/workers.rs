//! The flights of many keys on few threads: whose turn it is, and what a slow issuer cannot take from others.
#![cfg(target_os = "linux")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;
use testbed::{Backing, LONG, Script, on_threads, threads_named, wait_until};
use token_manager::{Attempt, Budget, FetchError, Fetched, KeyedBuilder};

const HOUR: Duration = Duration::from_secs(3600);

/// Lets the tests count threads by name: one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keys that begin with `slow` are of one group, and are fetched as the script allows; all others at once.
fn two_kinds(backing: &Backing, script: &Script, order: &Arc<Mutex<Vec<String>>>) -> KeyedBuilder {
    let (held, order) = (script.source(), order.clone());
    let source = move |key: &str, attempt: &Attempt| -> Result<Fetched, FetchError> {
        order.lock().unwrap().push(key.to_owned());
        if key.starts_with("slow") { held(attempt) } else { Ok(Fetched::new(key, HOUR)) }
    };
    let builder = backing.builder("crm").budget(Budget::per_minute(6_000)).keyed(source);
    builder.each(|key, builder| if key.starts_with("slow") { builder.group("slow") } else { builder })
}

#[test]
fn a_tenant_whose_issuer_hangs_has_its_share_of_the_workers_and_no_more() {
    let _alone = alone();
    for backing in Backing::both() {
        let (script, order) = (Script::held(HOUR), Arc::default());
        let managers = two_kinds(&backing, &script, &order).workers(8).workers_per_group(4).build().unwrap();
        let asking = managers.clone();
        let slow = thread::spawn(move || on_threads(20, move |number| asking.get(&format!("slow-{number}")).is_ok()));
        script.wait_for(2);
        for number in 0..50 {
            let key = format!("quick-{number}");
            assert_eq!(managers.get(&key).unwrap().secret(), key);
        }
        assert_eq!(script.fetches(), 2, "two flights of two threads each");
        script.release();
        assert_eq!(slow.join().unwrap(), [true; 20]);
        assert_eq!((script.fetches(), order.lock().unwrap().len()), (20, 70));
        assert!(managers.quiesce(LONG));
    }
}

#[test]
fn a_flight_that_a_caller_waits_for_goes_before_those_that_nobody_waits_for() {
    let _alone = alone();
    let (script, order) = (Script::held(HOUR), Arc::default());
    let managers = two_kinds(&Backing::memory(), &script, &order).workers(2).workers_per_group(2).build().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| managers.get("slow").unwrap());
        script.wait_for(1);
        for key in ["later-1", "later-2", "later-3"] {
            managers.get_within(key, Duration::ZERO).unwrap_err();
        }
        let flights = |key| managers.manager(key).unwrap().stats().waits;
        for (waits, key) in [(2, "now-1"), (3, "later-3")] {
            let managers = &managers;
            scope.spawn(move || managers.get(key).unwrap());
            wait_until("it waits", || flights(key) == waits + 3);
            thread::sleep(Duration::from_millis(20)); // from the count to the place in the queue
        }
        script.release();
    });
    assert!(managers.quiesce(LONG));
    assert_eq!(*order.lock().unwrap(), ["slow", "now-1", "later-3", "later-1", "later-2"]);
}

#[test]
fn two_thousand_keys_at_once_take_no_more_flights_than_there_are_workers_for() {
    let _alone = alone();
    for backing in Backing::both() {
        let (at_work, most) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
        let seen = most.clone();
        let source = move |key: &str, _: &Attempt| {
            seen.fetch_max(at_work.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            thread::yield_now();
            at_work.fetch_sub(1, Ordering::SeqCst);
            Ok(Fetched::new(key, HOUR))
        };
        let builder = backing.builder("crm").budget(Budget::per_minute(6_000)).keyed(source);
        let managers = builder.workers(12).workers_per_group(4).build().unwrap();
        for number in 0..2_000 {
            let _ = managers.get_within(&format!("t-{number}"), Duration::ZERO);
        }
        let is_served = |number| managers.get_within(&format!("t-{number}"), Duration::ZERO).is_ok();
        wait_until("all have a token", || (0..2_000).all(is_served));
        assert!((2..=6).contains(&most.load(Ordering::SeqCst)), "two threads a flight: {most:?}");
        assert_eq!(managers.stats().fetches, 2_000);
        assert!(managers.quiesce(LONG));
        wait_until("the system has ended its threads", || threads_named("tkm-worker") == 0);
    }
}

#[test]
fn a_source_that_overruns_keeps_its_place_until_it_returns() {
    let _alone = alone();
    let (script, order) = (Script::held(HOUR), Arc::default());
    let keyed = two_kinds(&Backing::memory(), &script, &order).workers(2).workers_per_group(2);
    let limited = keyed.each(|_, builder| builder.fetch_limit(Duration::from_millis(50)).deadline(HOUR));
    let managers = limited.build().unwrap();
    managers.get("slow").unwrap_err();
    assert_eq!((managers.stats().abandoned, managers.stats().fetches), (1, 1));
    managers.get_within("quick", Duration::from_millis(100)).unwrap_err();
    assert_eq!(order.lock().unwrap().len(), 1, "the only place is taken");
    script.release();
    assert_eq!(managers.get("quick").unwrap().secret(), "quick");
    assert!(managers.quiesce(LONG));
    assert_eq!(managers.stats().abandoned, 0);
}

#[test]
fn a_forked_child_has_workers_of_its_own_and_none_of_its_parents_flights() {
    let _alone = alone();
    let (script, order) = (Script::held(HOUR), Arc::default());
    let managers = two_kinds(&Backing::memory(), &script, &order).workers(2).workers_per_group(2).build().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| managers.get("slow").unwrap());
        script.wait_for(1);
        managers.get_within("queued", Duration::ZERO).unwrap_err();
        // SAFETY: the child uses what is meant to work after a fork, and leaves through `_exit`.
        let child = match unsafe { libc::fork() } {
            0 => unsafe {
                libc::alarm(20);
                let served = |key: &str| managers.get(key).is_ok_and(|token| token.secret() == key);
                let held = served("queued") && served("another") && managers.stats().fetches == 2;
                libc::_exit(i32::from(!held))
            },
            child => child,
        };
        let mut status = -1;
        // SAFETY: it is our child, and nobody else waits for it.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0);
        script.release();
    });
    assert_eq!(managers.get("queued").unwrap().secret(), "queued");
}
