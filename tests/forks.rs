//! A forked child goes on with what its parent had, whatever the parent's threads were doing, and waits for none of them.
#![cfg(unix)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{process, thread};
use testbed::{Backing, LONG, Script, wait_until};
use token_manager::{Attempt, Fetched, TokenManager};

const HOUR: Duration = Duration::from_secs(3600);

/// Forks a child, which is killed if its check takes more than 20 seconds; returns whether the check held.
fn holds_in_a_child(check: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child uses what is meant to work after a fork, and leaves through `_exit`.
    match unsafe { libc::fork() } {
        0 => unsafe {
            libc::alarm(20);
            let held = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)).unwrap_or(false);
            libc::_exit(i32::from(!held))
        },
        child => {
            let mut status = -1;
            // SAFETY: it is our child, and nobody else waits for it.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            status == 0
        }
    }
}

#[test]
fn children_go_on_with_the_token_whoever_held_its_lock() {
    let script = Script::new(HOUR);
    let manager = Backing::memory().builder("t").source(script.source()).build().unwrap();
    let old = manager.get().unwrap();
    manager.invalidate(&old);
    let token = manager.get().unwrap();
    let over = AtomicBool::new(false);
    let lost = thread::scope(|scope| {
        for _ in 0..4 {
            // Takes the slot's lock to write, and changes nothing.
            scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    manager.invalidate(&old);
                }
            });
        }
        let lost = (0..300).filter(|_| {
            !holds_in_a_child(|| {
                let before = manager.stats().flights;
                let served = manager.get_within(Duration::ZERO).is_ok_and(|t| t.generation() == token.generation());
                served && (before, manager.stats().flights) == (0, 0)
            })
        });
        let lost = lost.count();
        over.store(true, Ordering::SeqCst);
        lost
    });
    assert_eq!((lost, script.fetches()), (0, 2), "children of 300 that lost the token, and fetches");
}

#[test]
fn a_child_of_a_child_goes_on_with_the_token() {
    let script = Script::new(HOUR);
    let manager = Backing::memory().builder("t").source(script.source()).build().unwrap();
    let token = manager.get().unwrap();
    let served = || manager.get_within(Duration::ZERO).is_ok_and(|served| served.generation() == token.generation());
    let untouched = || holds_in_a_child(|| holds_in_a_child(|| manager.stats().fetches == 0 && served()));
    let used = || {
        holds_in_a_child(|| {
            manager.stats().fetches == 0 && holds_in_a_child(|| manager.stats().fetches == 0 && served())
        })
    };
    assert_eq!((untouched(), used()), (true, true));
}

#[test]
fn a_child_that_rejects_the_token_fetches_a_newer_one_and_its_parent_keeps_its_own() {
    let script = Script::new(HOUR);
    let manager = Backing::memory().builder("t").source(script.source()).build().unwrap();
    let token = manager.get().unwrap();
    assert!(holds_in_a_child(|| {
        manager.invalidate(&token);
        manager.get().is_ok_and(|newer| newer.generation() > token.generation()) && script.fetches() == 2
    }));
    assert_eq!((manager.get().unwrap().generation(), script.fetches()), (token.generation(), 1));
}

/// The parent's threads wait for each other, with a source that never returns, when it forks.
#[test]
fn a_child_counts_its_own_threads_and_waits_and_none_of_its_parents() {
    let script = Script::held(HOUR);
    let (parent, source) = (process::id(), script.source());
    let base = Backing::memory()
        .builder("base")
        .source(
            move |attempt: &Attempt| {
                if process::id() == parent { source(attempt) } else { Ok(Fetched::new("of the child", HOUR)) }
            },
        )
        .build()
        .unwrap();
    let asked = base.clone();
    let source = move |_: &Attempt| Ok(Fetched::new(asked.get().unwrap().secret(), HOUR));
    let asker: TokenManager = Backing::memory().builder("asker").source(source).build().unwrap();
    let waiting = Arc::new(asker.clone());
    let waiter = thread::spawn(move || waiting.get().unwrap().secret().to_owned());
    wait_until("the asker's source waits", || base.stats().waits == 1);
    script.wait_for(1);
    let children: Vec<bool> = (0..20)
        .map(|_| {
            holds_in_a_child(|| {
                let quiet = base.quiesce(Duration::ZERO) && asker.quiesce(Duration::ZERO);
                let served = asker.get().is_ok_and(|token| token.secret() == "of the child");
                quiet && served && base.quiesce(LONG) && asker.quiesce(LONG)
            })
        })
        .collect();
    assert_eq!(children, vec![true; 20]);
    assert!(!base.quiesce(Duration::ZERO));
    script.release();
    assert_eq!(waiter.join().unwrap(), "token-1");
    assert!(base.quiesce(LONG) && asker.quiesce(LONG));
}
