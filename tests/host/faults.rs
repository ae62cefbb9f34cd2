//! What the faults on Redis show of processes, shown on files: updaters die at every point of their work, wake too late, fork, and
//! hold a lock while they are stopped.

use crate::children::{Child, LONG, name};
use std::path::Path;
use std::time::{Duration, Instant};
use testbed::issuer::{Issuer, Options};
use testbed::worker_handle::{Words, Worker};
use token_manager::store::{Inspection, TokenName};
use token_manager::{FileStore, Store};

const PATIENT: Duration = Duration::from_secs(30);

struct Bench {
    folder: tempfile::TempDir,
    store: FileStore,
    issuer: Issuer,
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let store = FileStore::open(folder.path()).unwrap();
        let options = Options { life: Duration::from_secs(600), ..Options::default() };
        Bench { folder, store, issuer: Issuer::start("127.0.0.1:0", options).unwrap() }
    }

    fn worker(&self) -> Worker {
        let (folder, issuer) = (self.folder.path().display(), self.issuer.url());
        let args = ["a_worker_without_orders_does_nothing", "--exact", "--nocapture"];
        Worker::start(&args, &format!("files={folder} issuer={issuer}"))
    }

    fn updater_at(&self, point: &str) -> Worker {
        let mut updater = self.worker();
        updater.arm(point);
        updater.get("first", 1, PATIENT);
        updater.word(&format!("at {point}"));
        updater
    }

    fn inspect(&self) -> Inspection {
        self.store.inspect(&token(), "default").unwrap()
    }

    #[track_caller]
    fn assert_fetches(&self, expected: u64) {
        assert_eq!(self.issuer.stats().asked, expected, "{:?}", self.issuer.stats());
    }
}

/// The one that all workers ask for.
fn token() -> TokenName {
    name("faults")
}

#[track_caller]
fn all_served(words: &Words, calls: u64) -> u64 {
    assert_eq!((words.number("ok"), words.text("errors")), (calls, ""), "{}", words.text("words"));
    assert_eq!((words.number("late"), words.number("back")), (0, 0));
    words.number("high")
}

#[track_caller]
fn served(worker: &mut Worker, threads: usize) -> u64 {
    worker.get("ask", threads, PATIENT);
    all_served(&worker.got("ask"), threads as u64)
}

/// Has one call made, repeatedly, until it gets a newer generation than this one; every call must be served.
fn until_newer(worker: &mut Worker, than: u64) {
    let start = Instant::now();
    while served(worker, 1) <= than {
        assert!(start.elapsed() < LONG, "waited in vain for a generation newer than {than}");
    }
}

fn killed_at(point: &str, fetches: u64) {
    let bench = Bench::new();
    let mut updater = bench.updater_at(point);
    let mut waiters = bench.worker();
    waiters.get("all", 100, PATIENT);
    waiters.order("stats");
    waiters.word("stats");
    let left = bench.inspect().updater.map_or(Duration::ZERO, |(_, left)| left);
    let killed_at = Instant::now();
    updater.kill();
    all_served(&waiters.got("all"), 100);
    let took = killed_at.elapsed();
    // Fifty milliseconds are promised; the rest is for a busy machine.
    assert!(took < left + Duration::from_millis(1_500), "taken over after {took:?}, with {left:?} left of the lease");
    bench.assert_fetches(fetches);
}

#[test]
fn an_updater_killed_before_its_claim_leaves_nothing() {
    killed_at("before-claim", 1);
}

#[test]
fn an_updater_killed_after_its_claim_is_replaced_at_the_end_of_its_lease() {
    killed_at("after-claim", 1);
}

#[test]
fn an_updater_killed_before_its_commit_costs_one_fetch_more() {
    killed_at("before-commit", 2);
}

#[test]
fn an_updater_killed_after_its_commit_has_brought_the_token() {
    killed_at("after-commit", 1);
}

#[test]
fn an_updater_that_wakes_after_its_lease_casts_doubt_and_one_more_fetch_settles_it() {
    let bench = Bench::new();
    let mut updater = bench.updater_at("before-commit");
    updater.stop();
    let mut other = bench.worker();
    let newer = served(&mut other, 100);
    updater.resume();
    updater.order("go");
    assert_eq!(all_served(&updater.got("first"), 1), newer, "the newer generation stays");
    assert!(bench.inspect().doubted >= newer);
    until_newer(&mut updater, newer);
    bench.assert_fetches(3);
}

#[test]
fn a_child_forked_from_a_worker_goes_on_with_files_of_its_own() {
    let bench = Bench::new();
    let mut worker = bench.worker();
    let old = served(&mut worker, 50);
    worker.order("fork");
    let child = worker.word("got tag=child");
    assert_eq!(worker.word("forked").text("reaped"), "true");
    let newer = all_served(&child, 1);
    assert!(newer > old);
    worker.order("reject old 50");
    worker.word("rejected tag=old");
    assert_eq!(served(&mut worker, 50), newer);
    bench.assert_fetches(2);
}

/// A process that has every lock of the folder, as one has that is stopped in the middle of a write.
fn holder(folder: &Path) -> Child {
    let (mut ready, done) = std::io::pipe().unwrap();
    let file = std::fs::File::open(folder.join("lock")).map(|_| folder.join("lock")).unwrap();
    let child = Child::fork(move || {
        use std::io::Write;
        use std::os::fd::AsRawFd;
        let file = std::fs::File::options().write(true).open(file).unwrap();
        // SAFETY: a zeroed lock, and then one of the whole file.
        let taken = unsafe {
            let mut lock: libc::flock = std::mem::zeroed();
            lock.l_type = libc::F_WRLCK as _;
            libc::fcntl(file.as_raw_fd(), libc::F_SETLKW, &lock)
        };
        assert_eq!(taken, 0);
        (&done).write_all(b".").unwrap();
        // SAFETY: waits to be killed.
        unsafe { libc::pause() };
    });
    std::io::Read::read_exact(&mut ready, &mut [0]).unwrap();
    child
}

#[test]
fn while_the_holder_of_a_lock_is_stopped_tokens_are_served_and_callers_keep_their_deadlines() {
    let bench = Bench::new();
    let mut first = bench.worker();
    let generation = served(&mut first, 10);
    let holder = holder(bench.folder.path());
    holder.signal(libc::SIGSTOP);
    // Who only reads needs no lock.
    let mut others = bench.worker();
    assert_eq!(served(&mut others, 100), generation);
    assert_eq!(bench.inspect().token.map(|(generation, _)| generation), Some(generation));
    // The rejection cannot be told to the others yet; here it counts at once.
    others.order("reject old 1");
    let start = Instant::now();
    let hurried = loop {
        others.get("hurried", 50, Duration::from_secs(1));
        let hurried = others.got("hurried");
        if hurried.number("ok") == 0 {
            break hurried;
        }
        assert!(start.elapsed() < LONG);
    };
    assert_eq!(hurried.text("errors"), "timeout:50");
    assert_eq!(hurried.number("late"), 0);
    others.get("patient", 50, PATIENT);
    others.order("stats");
    others.word("stats");
    // Its death, stopped as it is, gives the lock back at once.
    let killed_at = Instant::now();
    drop(holder);
    others.got("patient");
    others.word("rejected tag=old");
    assert!(killed_at.elapsed() < Duration::from_secs(5));
    until_newer(&mut others, generation);
    bench.assert_fetches(2);
    assert!(LONG > killed_at.elapsed());
}
