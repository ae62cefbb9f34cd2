//! What the tests share: both stores, a source that waits for a word, and waiting for conditions.

use crate::redis_server::RedisServer;
use std::collections::VecDeque;
use std::fs;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use token_manager::store::{Claim, Claimed, Grant, Lease, Secret, TokenName};
use token_manager::{Attempt, Budget, Builder, FetchError, Fetched, MemoryStore, Store, TokenManager};

/// How long a test waits for what must come: generous, because it only ends a test that has failed.
pub const LONG: Duration = Duration::from_secs(60);

const HOUR: Duration = Duration::from_secs(3600);

/// A store under test.
pub enum Backing {
    Memory(MemoryStore),
    Redis(RedisServer),
}

impl Backing {
    pub fn memory() -> Backing {
        Backing::Memory(MemoryStore::new())
    }

    pub fn redis() -> Backing {
        Backing::Redis(RedisServer::start().expect("a private Redis"))
    }

    /// Both stores, in turn.
    pub fn both() -> [Backing; 2] {
        [Backing::memory(), Backing::redis()]
    }

    /// A builder of a manager on this store, with a budget that no test uses up by accident.
    pub fn builder(&self, name: &str) -> Builder {
        let builder = TokenManager::builder(name).budget(Budget::per_minute(6_000).burst(1_000)).deadline(LONG);
        match self {
            Backing::Memory(store) => builder.store(store.clone()),
            Backing::Redis(server) => builder.redis(&server.url()).expect("a URL"),
        }
    }
}

/// Commits a token for `t`, as a process would that found the last one due: nothing is invalidated.
pub fn commit_elsewhere(store: &dyn Store, secret: &str, newer_than: u64) {
    let name = TokenName { namespace: "tm".into(), group: "t".into(), name: "t".into(), grant: "t".into() };
    let (lease, budget) = (HOUR, Some(Budget::per_minute(6_000).burst(1_000)));
    let claim = Claim { owner: "other", attempt: 1, newer_than, lease, budget, egress: "default" };
    let Claimed::Granted { generation, .. } = store.claim(&name, &claim).unwrap() else { panic!("no grant") };
    let value = Secret::new(secret);
    let grant = Grant { value, left: HOUR, life: HOUR, age: None, carry: None, carry_lifetime: None };
    store.commit(&name, &Lease { owner: "other".into(), attempt: 1, generation }, &grant).unwrap();
}

type Answer = Box<dyn FnOnce(&Attempt) -> Result<Fetched, FetchError> + Send>;

/// A source that counts its calls, can be held, and answers as told; else with `token-1`, `token-2` and so on.
#[derive(Clone)]
pub struct Script(Arc<(Mutex<Lines>, Condvar)>);

struct Lines {
    life: Duration,
    calls: u64,
    held: bool,
    answers: VecDeque<Answer>,
}

impl Script {
    pub fn new(life: Duration) -> Script {
        let lines = Lines { life, calls: 0, held: false, answers: VecDeque::new() };
        Script(Arc::new((Mutex::new(lines), Condvar::new())))
    }

    /// A script whose calls wait until they are released.
    pub fn held(life: Duration) -> Script {
        let script = Script::new(life);
        script.hold();
        script
    }

    pub fn source(&self) -> impl Fn(&Attempt) -> Result<Fetched, FetchError> + Send + Sync + 'static {
        let script = self.clone();
        move |attempt| script.call(attempt)
    }

    fn call(&self, attempt: &Attempt) -> Result<Fetched, FetchError> {
        let (lines, changed) = &*self.0;
        let mut lines = lines.lock().unwrap();
        lines.calls += 1;
        let (number, answer) = (lines.calls, lines.answers.pop_front());
        changed.notify_all();
        let lines = changed.wait_while(lines, |lines| lines.held).unwrap();
        let life = lines.life;
        drop(lines);
        match answer {
            Some(answer) => answer(attempt),
            None => Ok(Fetched::new(format!("token-{number}"), life)),
        }
    }

    /// Answers the next call that has no answer yet.
    pub fn answer(&self, answer: impl FnOnce(&Attempt) -> Result<Fetched, FetchError> + Send + 'static) {
        self.0.0.lock().unwrap().answers.push_back(Box::new(answer));
    }

    pub fn hold(&self) {
        self.0.0.lock().unwrap().held = true;
    }

    pub fn release(&self) {
        self.0.0.lock().unwrap().held = false;
        self.0.1.notify_all();
    }

    pub fn set_life(&self, life: Duration) {
        self.0.0.lock().unwrap().life = life;
    }

    pub fn fetches(&self) -> u64 {
        self.0.0.lock().unwrap().calls
    }

    /// Waits until the source has been called so often.
    pub fn wait_for(&self, calls: u64) {
        let (lines, changed) = &*self.0;
        let lines = lines.lock().unwrap();
        let (lines, timeout) = changed.wait_timeout_while(lines, LONG, |lines| lines.calls < calls).unwrap();
        assert!(!timeout.timed_out(), "{} of {calls} calls came", lines.calls);
    }
}

/// Counts the threads of this process whose names begin like this.
pub fn threads_named(beginning: &str) -> usize {
    let comm = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).ok();
    let tasks = fs::read_dir("/proc/self/task").expect("Linux tells the threads of a process");
    tasks.flatten().filter_map(comm).filter(|comm| comm.starts_with(beginning)).count()
}

/// Waits until the condition holds.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LONG, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Runs the call on so many threads at once and returns what each of them got.
pub fn on_threads<T: Send + 'static>(count: usize, call: impl Fn(usize) -> T + Send + Sync + 'static) -> Vec<T> {
    let call = Arc::new(call);
    let threads: Vec<_> = (0..count)
        .map(|number| {
            let call = call.clone();
            thread::spawn(move || call(number))
        })
        .collect();
    threads.into_iter().map(|thread| thread.join().expect("a thread of the test")).collect()
}
