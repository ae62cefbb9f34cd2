//! A process is killed at each system call of a claim and of a commit in turn: whatever it was about to do, the state is the one
//! before or the one after, and nobody waits.

use crate::children::{Child, HOUR, claim, folder_in_memory, grant, lease, name, told_by};
use std::path::Path;
use std::time::{Duration, Instant};
use token_manager::store::{Claimed, Lease};
use token_manager::{FileStore, Store};

/// Runs a child up to its `stop`-th system call, its beginning or its end, and kills it there; false if it has not that many.
fn killed_at(stop: u32, run: impl FnOnce()) -> bool {
    let child = Child::fork(|| {
        // SAFETY: asks to be traced by the parent, and waits for it.
        unsafe {
            libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0);
            libc::raise(libc::SIGSTOP);
        }
        run();
    });
    let mut status = 0;
    for _ in 0..=stop {
        // SAFETY: it is our child, and it is stopped each time that waitpid returns so.
        unsafe {
            assert_eq!(libc::waitpid(child.0, &raw mut status, 0), child.0);
            if libc::WIFEXITED(status) {
                assert_eq!(libc::WEXITSTATUS(status), 0, "the child ran through");
                std::mem::forget(child);
                return false;
            }
            libc::ptrace(libc::PTRACE_SYSCALL, child.0, 0, 0);
        }
    }
    // SAFETY: as above.
    unsafe { libc::waitpid(child.0, &raw mut status, 0) };
    if libc::WIFEXITED(status) {
        std::mem::forget(child);
        return false;
    }
    true
}

/// Asserts that a step that needs the lock is made at once.
fn nobody_waits(store: &FileStore, at: u32) {
    let asked_at = Instant::now();
    store.renew(&name("t"), &Lease { owner: "nobody".into(), attempt: 1, generation: 1 }, HOUR).unwrap();
    assert!(asked_at.elapsed() < Duration::from_millis(250), "a lock was left at system call {at}");
}

fn open(folder: &Path) -> FileStore {
    FileStore::open(folder).unwrap()
}

#[test]
fn whoever_is_killed_at_any_system_call_of_a_claim_has_claimed_or_has_not() {
    let (mut granted, mut stops) = (0, 0);
    loop {
        let folder = folder_in_memory();
        let killed = killed_at(stops, || drop(claim(&open(folder.path()), "a", 0, HOUR)));
        let store = open(folder.path());
        nobody_waits(&store, stops);
        let seen = store.inspect(&name("t"), "default").unwrap();
        match claim(&store, "b", 0, HOUR) {
            Claimed::Granted { .. } => assert_eq!(seen.updater, None, "system call {stops}"),
            Claimed::Busy { .. } => {
                granted += 1;
                assert!(seen.budget_spent > Duration::ZERO, "a fetch was gained at system call {stops}");
            }
            other => panic!("system call {stops}: {other:?}"),
        }
        if !killed {
            break;
        }
        stops += 1;
    }
    assert!(stops > 60 && granted > 3 && granted < stops, "{granted} of {stops}");
}

#[test]
fn whoever_is_killed_at_any_system_call_of_a_commit_has_committed_or_has_not() {
    let (mut committed, mut stops) = (0, 0);
    loop {
        let folder = folder_in_memory();
        let store = open(folder.path());
        let Claimed::Granted { generation: first, .. } = claim(&store, "a", 0, HOUR) else { panic!() };
        store.commit(&name("t"), &lease("a", first), &grant(first, 100)).unwrap();
        let Claimed::Granted { generation, .. } = claim(&store, "b", first, HOUR) else { panic!() };
        let commit = || drop(store.commit(&name("t"), &lease("b", generation), &grant(generation, 3_000)).unwrap());
        let killed = killed_at(stops, commit);
        nobody_waits(&store, stops);
        let Claimed::Token(stored) = claim(&store, "c", 0, HOUR) else { panic!("system call {stops}: no token") };
        assert_eq!(told_by(&stored.value), stored.generation);
        if stored.generation == generation {
            committed += 1;
            let Claimed::Granted { carry: Some(carry), .. } = claim(&store, "c", generation, HOUR) else { panic!() };
            assert_eq!(told_by(&carry.secret), generation, "the secret came with its token");
        } else {
            assert_eq!(stored.generation, first);
            assert!(store.has_updater(&name("t")).unwrap(), "the lease is still there");
        }
        if !killed {
            break;
        }
        stops += 1;
    }
    assert!(stops > 20 && committed > 3 && committed < stops, "{committed} of {stops}");
}
