//! A thousand processes are killed while they write; a reader looks all the time.

use crate::children::{Child, LONG, Told, claim, folder_in_memory, grant, lease, name, told_by};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use token_manager::store::{Claimed, Lease};
use token_manager::{FileStore, Store};

const KILLS: u32 = 1_000;
const LEASE: Duration = Duration::from_millis(2);

/// Takes each token out of use and brings the next one, and tells of each fetch, until it is killed.
fn bring_tokens(folder: &std::path::Path, fetched: &Told) {
    let store = FileStore::open(folder).unwrap();
    let owner = format!("process {}", std::process::id());
    let mut newest = 0;
    loop {
        match claim(&store, &owner, newest, LEASE) {
            Claimed::Granted { generation, carry } => {
                assert!(carry.is_none_or(|carry| told_by(&carry.secret) < generation), "a secret of the future");
                fetched.tell(generation);
                // Sometimes more than the file had room for.
                let padding = if generation % 16 == 0 { 9_000 } else { generation as usize % 700 };
                store.commit(&name("t"), &lease(&owner, generation), &grant(generation, padding)).unwrap();
            }
            Claimed::Token(stored) => {
                newest = stored.generation;
                store.invalidate(&name("t"), newest).unwrap();
            }
            Claimed::Busy { .. } => thread::sleep(LEASE / 4),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_thousand_kills_leave_no_torn_read_no_lock_and_no_second_fetch_of_a_life() {
    // Many grants fit between two kills.
    let folder = folder_in_memory();
    let (fetched, store) = (Told::new(), FileStore::open(folder.path()).unwrap());
    let (over, looks, newest) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let (fetches, slowest) = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                let before = newest.load(Ordering::SeqCst);
                let seen = store.inspect(&name("t"), "default").unwrap();
                assert!(seen.granted >= before, "an older state came back");
                newest.store(seen.granted, Ordering::SeqCst);
                if let Ok(Claimed::Token(stored)) = store.claim(&name("t"), &look()) {
                    assert_eq!(told_by(&stored.value), stored.generation);
                }
                looks.fetch_add(1, Ordering::SeqCst);
                thread::sleep(Duration::from_micros(100));
            }
        });
        // Empties the pipe, which holds less than what is fetched.
        let (stop, told) = (u64::MAX, &fetched);
        let listener =
            scope.spawn(move || std::iter::repeat_with(|| told.next()).take_while(|next| *next != stop).collect());
        let mut slowest = Duration::ZERO;
        for round in 0..KILLS {
            let child = Child::fork(|| bring_tokens(folder.path(), &fetched));
            // A few grants long, and each time at another point of them.
            let looked = looks.load(Ordering::SeqCst);
            thread::sleep(Duration::from_micros(1_500 + u64::from(round) * 7_919 % 2_000));
            while looks.load(Ordering::SeqCst) == looked {
                thread::yield_now();
            }
            drop(child);
            let asked_at = Instant::now();
            store.renew(&name("t"), &Lease { owner: "nobody".into(), attempt: 1, generation: 1 }, LEASE).unwrap();
            slowest = slowest.max(asked_at.elapsed());
        }
        fetched.tell(stop);
        over.store(true, Ordering::SeqCst);
        reader.join().unwrap();
        let fetches: Vec<u64> = listener.join().unwrap();
        (fetches, slowest)
    });
    let lives: BTreeSet<u64> = fetches.iter().copied().collect();
    assert_eq!(lives.len(), fetches.len(), "a generation was fetched twice");
    assert!(fetches.is_sorted() && lives.len() as u32 > KILLS, "{} fetches", lives.len());
    assert!(slowest < Duration::from_millis(250), "somebody waited {slowest:?} for the lock of a dead process");
    // Whatever the last one left, the next process goes on.
    let until = Instant::now() + LONG;
    while !matches!(claim(&store, "the last", u64::MAX / 2, LEASE), Claimed::Granted { .. }) {
        assert!(Instant::now() < until);
    }
    println!("{KILLS} kills, {} fetches, {} looks, slowest lock {slowest:?}", lives.len(), looks.into_inner());
}

fn look() -> token_manager::store::Claim<'static> {
    token_manager::store::Claim {
        owner: "reader",
        attempt: 1,
        newer_than: 0,
        lease: LEASE,
        budget: None,
        egress: "default",
    }
}
