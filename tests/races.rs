//! Races and faults that were found once, each with a store in memory that is hooked at one place, so that they come every time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use testbed::{LONG, Script, on_threads, wait_until};
use token_manager::store::{
    Claim, Claimed, Committed, Failure, Grant, Inspection, Lease, Pause, Secret, StoreError, Stored, Subscription,
    TokenName,
};
use token_manager::{ErrorKind, Execution, FailureClass, FetchError, MemoryStore, Store, TokenManager};

const HOUR: Duration = Duration::from_secs(3600);

type Answer<T> = Result<T, StoreError>;
type Hook<T> = Box<dyn Fn(u64) -> T + Send + Sync>;

/// A store in memory with a hook at some verbs, which is told how many such calls there were before.
struct HookedStore {
    inner: MemoryStore,
    calls: [AtomicU64; 3],
    /// Answers in the store's place if it has an answer.
    claim: Hook<Option<Claimed>>,
    renew: Hook<()>,
    inspect: Hook<()>,
}

impl HookedStore {
    fn new() -> HookedStore {
        let (claim, renew, inspect) = (Box::new(|_| None), Box::new(|_| ()), Box::new(|_| ()));
        HookedStore { inner: MemoryStore::new(), calls: Default::default(), claim, renew, inspect }
    }

    fn count(&self, verb: usize) -> u64 {
        self.calls[verb].fetch_add(1, Ordering::SeqCst)
    }
}

impl Store for HookedStore {
    fn claim(&self, name: &TokenName, claim: &Claim<'_>) -> Answer<Claimed> {
        (self.claim)(self.count(0)).map_or_else(|| self.inner.claim(name, claim), Ok)
    }

    fn renew(&self, name: &TokenName, lease: &Lease, length: Duration) -> Answer<bool> {
        (self.renew)(self.count(1));
        self.inner.renew(name, lease, length)
    }

    fn commit(&self, name: &TokenName, lease: &Lease, grant: &Grant) -> Answer<Committed> {
        self.inner.commit(name, lease, grant)
    }

    fn record_failure(&self, name: &TokenName, lease: &Lease, failure: &Failure<'_>) -> Answer<Option<Pause>> {
        self.inner.record_failure(name, lease, failure)
    }

    fn offer(&self, name: &TokenName, token: &Stored) -> Answer<bool> {
        self.inner.offer(name, token)
    }

    fn lift_pause(&self, name: &TokenName, egress: &str) -> Answer<()> {
        self.inner.lift_pause(name, egress)
    }

    fn invalidate(&self, name: &TokenName, generation: u64) -> Answer<()> {
        self.inner.invalidate(name, generation)
    }

    fn inspect(&self, name: &TokenName, egress: &str) -> Answer<Inspection> {
        (self.inspect)(self.count(2));
        self.inner.inspect(name, egress)
    }

    fn subscribe(&self, name: &TokenName) -> Answer<Box<dyn Subscription>> {
        self.inner.subscribe(name)
    }

    fn timeout(&self) -> Duration {
        Duration::ZERO
    }
}

fn build(store: HookedStore, script: &Script) -> TokenManager {
    TokenManager::builder("t").store(store).deadline(LONG).source(script.source()).build().unwrap()
}

/// A flight brings a doubted token; a caller it served starts the next one, which fails before the others have woken.
#[test]
fn the_error_of_a_later_flight_is_not_told_to_those_whom_an_earlier_one_served() {
    let brought = || {
        let (value, left) = (Secret::new("brought"), HOUR - Duration::from_secs(60));
        Claimed::Token(Stored { generation: 7, value, left, life: HOUR, doubted: true })
    };
    let cooling = || Claimed::Paused(Pause { retry_after: HOUR, class: FailureClass::Unavailable });
    let limited = || Claimed::Limited { retry_after: LONG / 2 };
    for later in [cooling, limited] {
        let held = Arc::new(OnceLock::new());
        let gate = held.clone();
        let mut store = HookedStore::new();
        store.claim = Box::new(move |call| match call {
            0 => {
                gate.wait();
                Some(brought())
            }
            _ => Some(later()),
        });
        let manager = build(store, &Script::new(HOUR));
        let watched = manager.clone();
        let releaser = thread::spawn(move || {
            wait_until("all wait", || watched.stats().waits == 500);
            held.set(()).unwrap();
        });
        let answers = on_threads(500, move |_| {
            let (start, answer) = (Instant::now(), manager.get());
            let _ = manager.get(); // The token is due: the first one back has it refreshed.
            answer
                .map(|token| (token.secret().to_owned(), start.elapsed() < LONG / 2))
                .map_err(|error| error.to_string())
        });
        releaser.join().unwrap();
        assert_eq!(answers, vec![Ok(("brought".to_owned(), true)); 500]);
    }
}

/// A thread finds the token due, and another one's flight has landed before it can join.
#[test]
fn who_found_the_token_due_before_a_landing_starts_no_further_fetch() {
    const LIFE: Duration = Duration::from_millis(400);
    const LIVES: u64 = 20;
    let (script, last) = (Script::new(LIFE), Arc::new(std::sync::Mutex::new(None::<Instant>)));
    let needless = Arc::new(AtomicU64::new(0));
    let (source, counted) = (script.source(), needless.clone());
    let source = move |attempt: &token_manager::Attempt| {
        // A token is due after 70 % of its life: whatever is fetched in the first half was not.
        let before = last.lock().unwrap().replace(Instant::now());
        counted.fetch_add(u64::from(before.is_some_and(|before| before.elapsed() < LIFE / 2)), Ordering::SeqCst);
        source(attempt)
    };
    let budget = token_manager::Budget::per_minute(60_000).burst(60_000);
    let builder = TokenManager::builder("t").store(MemoryStore::new()).budget(budget).deadline(LONG);
    let manager = builder.source(source).build().unwrap();
    on_threads(500, move |_| {
        while script.fetches() < LIVES {
            manager.get().unwrap();
            thread::sleep(Duration::from_millis(1));
        }
    });
    assert_eq!(needless.load(Ordering::SeqCst), 0);
}

/// `keep_fresh` asks the store about the token that the process holds, and meanwhile the process takes over a newer one.
#[test]
fn a_token_adopted_while_the_guard_asks_the_store_is_not_fetched_again() {
    let script = Script::new(HOUR);
    let manager: Arc<OnceLock<TokenManager>> = Arc::default();
    let (inside, asked) = (manager.clone(), mpsc::channel::<u64>());
    let mut store = HookedStore::new();
    store.inspect = Box::new(move |call| {
        if call == 0 {
            let manager = inside.get().unwrap();
            manager.invalidate(&manager.get().unwrap());
            assert_eq!(manager.get().unwrap().secret(), "token-2");
        }
        let _ = asked.0.send(call);
    });
    let manager = manager.get_or_init(|| build(store, &script));
    assert_eq!(manager.get().unwrap().secret(), "token-1");
    let guard = manager.keep_fresh().unwrap();
    // The check after the next one begins when whatever the first one started has ended.
    while asked.1.recv_timeout(LONG).unwrap() < 1 {}
    assert_eq!((script.fetches(), manager.get().unwrap().secret()), (2, "token-2"));
    drop(guard);
}

/// A refresh asks another manager, whose source asks for the due token, for longer than hits are let off looking again.
#[test]
fn a_due_token_is_served_to_a_source_that_its_own_refresh_waits_for() {
    for flights in [Execution::Background, Execution::Inline] {
        let manager: Arc<OnceLock<TokenManager>> = Arc::default();
        let (asked, due) = (Script::new(HOUR), manager.clone());
        asked.answer(move |_| {
            let (start, manager) = (Instant::now(), due.wait());
            while start.elapsed() < Duration::from_millis(2_200) {
                let answers = [manager.get(), manager.get_within(Duration::ZERO)];
                let secrets = answers.map(|answer| answer.unwrap().secret().to_owned());
                assert_eq!(secrets, ["doubted", "doubted"]);
                thread::sleep(Duration::from_millis(5));
            }
            Ok(token_manager::Fetched::new("asked", HOUR))
        });
        let builder = TokenManager::builder("u").store(MemoryStore::new()).deadline(LONG).execution(flights);
        let asked_manager = builder.source(asked.source()).build().unwrap();
        let mut store = HookedStore::new();
        store.claim = Box::new(|call| {
            let (value, left) = (Secret::new("doubted"), HOUR - Duration::from_secs(60));
            (call == 0).then_some(Claimed::Token(Stored { generation: 7, value, left, life: HOUR, doubted: true }))
        });
        let inner = asked_manager.clone();
        let builder = TokenManager::builder("t").store(store).deadline(LONG).execution(flights);
        let source =
            move |_: &token_manager::Attempt| Ok(token_manager::Fetched::new(inner.get().unwrap().secret(), HOUR));
        let manager = manager.get_or_init(|| builder.source(source).build().unwrap());
        assert_eq!(manager.get().unwrap().secret(), "doubted");
        wait_until("the refresh has brought a token", || manager.get().unwrap().secret() == "asked");
        assert_eq!((manager.stats().flights, manager.stats().fetches, asked.fetches()), (2, 1, 1));
        assert!(manager.quiesce(LONG) && asked_manager.quiesce(LONG));
    }
}

/// The caller who refreshes a due token himself gets a failure, and the token has expired meanwhile.
#[test]
fn an_inline_refresh_that_outlives_the_token_does_not_return_it() {
    let script = Script::new(Duration::from_secs(2));
    let builder = TokenManager::builder("t").store(MemoryStore::new()).execution(Execution::Inline);
    let manager = builder.deadline(LONG).source(script.source()).build().unwrap();
    let old = manager.get().unwrap();
    script.answer({
        let old = old.clone();
        move |_| {
            wait_until("the old token has expired", || old.expires_in().is_zero());
            Err(FetchError::unavailable("down"))
        }
    });
    let mut answer = manager.get();
    while script.fetches() < 2 {
        thread::sleep(Duration::from_millis(5));
        answer = manager.get();
    }
    assert_eq!(
        answer.map(|token| token.expires_in()).unwrap_err().kind(),
        ErrorKind::Source(FailureClass::Unavailable)
    );
}

/// A used-up budget is remembered for a moment; who asks then waits for what is left of the pause, not for all of it again.
#[test]
fn a_remembered_pause_is_waited_for_as_far_as_it_is_left() {
    const PAUSE: Duration = Duration::from_millis(1_000);
    let mut store = HookedStore::new();
    store.claim = Box::new(|call| (call == 0).then_some(Claimed::Limited { retry_after: PAUSE }));
    let manager = build(store, &Script::new(HOUR));
    let start = Instant::now();
    assert_eq!(manager.get_within(PAUSE / 2).unwrap_err().kind(), ErrorKind::Limited);
    thread::sleep((PAUSE * 7 / 10).saturating_sub(start.elapsed()));
    // Less than the whole pause, more than what is left of it. On a machine that stands still it may be too little: a timeout.
    let answer = manager.get_within(PAUSE * 9 / 10).map(|token| token.secret().to_owned());
    assert!(!answer.as_ref().is_err_and(|error| error.kind() == ErrorKind::Limited), "{answer:?}");
}

/// A store that panics while the source runs costs that flight, and no place for a source.
#[test]
fn a_store_that_panics_during_a_fetch_leaves_no_source_counted_as_running() {
    let script = Script::held(HOUR);
    let mut store = HookedStore::new();
    store.renew = Box::new(|call| assert!(call > 0, "on purpose"));
    let builder = TokenManager::builder("t").store(store).deadline(LONG).lease(Duration::from_millis(300));
    let manager = builder.source(script.source()).build().unwrap();
    let error = manager.get().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
    script.release();
    assert!(manager.quiesce(LONG));
    assert_eq!((manager.stats().abandoned, manager.get().unwrap().secret(), script.fetches()), (0, "token-1", 1));
}

/// A thread that is ending asks for a token when the library's own thread-local state is gone already.
#[test]
fn a_token_is_had_in_the_destructor_of_a_thread_local() {
    struct Last(TokenManager, mpsc::Sender<Result<String, String>>);
    impl Drop for Last {
        fn drop(&mut self) {
            let answer = self.0.get().map(|token| token.secret().to_owned()).map_err(|error| error.to_string());
            self.1.send(answer).unwrap();
        }
    }
    thread_local!(static LAST: std::cell::RefCell<Option<Last>> = const { std::cell::RefCell::new(None) });

    let manager = build(HookedStore::new(), &Script::new(HOUR));
    let (say, heard) = mpsc::channel();
    let ending = thread::spawn(move || {
        LAST.with_borrow_mut(|last| *last = Some(Last(manager.clone(), say)));
        manager.invalidate(&manager.get().unwrap());
    });
    assert_eq!(heard.recv_timeout(LONG), Ok(Ok("token-2".to_owned())));
    ending.join().unwrap();
}

#[test]
fn what_a_store_says_in_absurd_lengths_is_cut_and_no_thread_panics() {
    let mut store = HookedStore::new();
    store.claim = Box::new(|call| match call {
        0 => Some(Claimed::Busy { lease_left: Duration::MAX }),
        _ => {
            let (value, left, life) = (Secret::new("long"), Duration::MAX, Duration::MAX);
            Some(Claimed::Token(Stored { generation: 7, value, left, life, doubted: false }))
        }
    });
    let manager = build(store, &Script::new(HOUR));
    let token = manager.get().unwrap();
    assert_eq!((token.secret(), token.expires_in() <= 3650 * 24 * HOUR), ("long", true));
}
