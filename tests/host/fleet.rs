//! Sixty-four processes and their forks share one token.

use crate::children::{Child, HOUR, LONG, Told};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use token_manager::{Attempt, Budget, Fetched, FileStore, TokenManager};

const PROCESSES: usize = 64;
const ROUNDS: usize = 5;

fn manager(store: FileStore, fetched: &Arc<Told>) -> TokenManager {
    let fetched = fetched.clone();
    let source = move |attempt: &Attempt| {
        fetched.tell(attempt.generation());
        Ok(Fetched::new(attempt.generation().to_string(), HOUR))
    };
    let builder = TokenManager::builder("t").store(store).source(source);
    builder.budget(Budget::per_minute(60_000).burst(1_000)).deadline(LONG).build().unwrap()
}

/// Tells of each new generation that its threads get, until it is killed.
fn use_tokens(manager: &TokenManager, used: &Told) {
    let _guard = manager.keep_fresh().unwrap();
    let mut newest = 0;
    loop {
        let token = manager.get().unwrap();
        assert!(token.generation() >= newest && token.secret() == token.generation().to_string());
        if token.generation() > newest {
            newest = token.generation();
            used.tell(newest);
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn processes(folder: &Path, inherited: &TokenManager, fetched: &Arc<Told>, used: &Arc<Told>) -> Vec<Child> {
    let process = |number: usize| {
        Child::fork(|| match number % 3 {
            0 => use_tokens(inherited, used),
            1 => use_tokens(&manager(FileStore::open(folder).unwrap(), fetched), used),
            // A child of a child, which has used the store before it forked.
            _ => {
                let own = manager(FileStore::open(folder).unwrap(), fetched);
                own.get().unwrap();
                Child::fork(|| use_tokens(&own, used)).wait();
            }
        })
    };
    (0..PROCESSES).map(process).collect()
}

#[test]
fn sixty_four_processes_some_of_them_forked_make_one_fetch_a_life() {
    let folder = tempfile::tempdir().unwrap();
    let (fetched, used) = (Arc::new(Told::new()), Arc::new(Told::new()));
    let parent = manager(FileStore::open(folder.path()).unwrap(), &fetched);
    let children = processes(folder.path(), &parent, &fetched, &used);
    let mut generations = Vec::new();
    for round in 0..=ROUNDS {
        let mut seen = BTreeMap::<u64, usize>::new();
        while seen.values().copied().max() < Some(PROCESSES) {
            *seen.entry(used.next()).or_default() += 1;
        }
        let (generation, count) = seen.pop_last().unwrap();
        assert_eq!((count, seen.len()), (PROCESSES, 0), "every process uses each generation");
        generations.push(generation);
        if round < ROUNDS {
            let token = parent.get().unwrap();
            assert_eq!(token.generation(), generation);
            parent.invalidate(&token);
        }
    }
    drop(children);
    let fetched: Vec<u64> = (0..=ROUNDS).map(|_| fetched.next()).collect();
    assert_eq!(fetched, generations);
}

/// What hung with SQLite, and failed with LMDB: a child that opens the store while its parent's threads write.
#[test]
fn children_of_a_parent_whose_threads_write_all_the_time_go_on() {
    use crate::children::{claim, grant, lease, name};
    use std::sync::atomic::{AtomicBool, Ordering};
    use token_manager::{Store, store::Claimed};
    let folder = tempfile::tempdir().unwrap();
    let (store, over) = (FileStore::open(folder.path()).unwrap(), AtomicBool::new(false));
    let bring = |store: &FileStore, owner: &str| {
        let granted = claim(store, owner, u64::MAX / 2, HOUR);
        let Claimed::Granted { generation, .. } = granted else { return };
        store.commit(&name("t"), &lease(owner, generation), &grant(generation, 100)).unwrap();
        store.invalidate(&name("t"), generation).unwrap();
    };
    let ended = thread::scope(|scope| {
        for thread in 0..4 {
            let (store, over) = (&store, &over);
            scope.spawn(move || {
                while !over.load(Ordering::SeqCst) {
                    bring(store, &format!("thread {thread}"));
                }
            });
        }
        let child = |number: usize| {
            Child::fork(|| {
                // SAFETY: ends a child that hangs.
                unsafe { libc::alarm(20) };
                let anew = FileStore::open(folder.path()).unwrap();
                for _ in 0..20 {
                    bring(if number.is_multiple_of(2) { &store } else { &anew }, "child");
                }
            })
        };
        let ended = (0..100).filter(|number| child(*number).wait()).count();
        over.store(true, Ordering::SeqCst);
        ended
    });
    assert_eq!(ended, 100);
}
