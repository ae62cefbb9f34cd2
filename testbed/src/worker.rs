//! A process of a fleet that takes orders, a line each, on its standard input and reports on its standard output: the
//! part that fault tests kill, stop and starve. It judges nothing but order: a generation older than one already handed
//! out in this process is counted as `back`.

use crate::child::{say, told};
use crate::client::{self, Verified};
use crate::gate::{Gate, Gated};
use crate::summary::Summary;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use token_manager::{
    Attempt, Budget, Event, Execution, Fetched, FreshGuard, RedisStore, Token, TokenManager, TokenSource,
};

/// Holds the orders' settings, as in `redis=redis://127.0.0.1:6379/ issuer=http://127.0.0.1:8080 lease=3000`.
pub const SETTINGS: &str = "TOKEN_MANAGER_WORKER";
/// What a call may take beyond its deadline before it counts as late: a busy machine's slack, not the library's.
const SLACK: Duration = Duration::from_secs(2);
/// Under load, one token in so many is shown to the issuer, which knows when it expired.
const SHOWN: u64 = 50;

/// Takes orders until the input ends; returns at once if this process was not started as a worker.
pub fn work_if_ordered() {
    work_with(|settings| client::http_source(settings["issuer"].to_string()));
}

/// As [`work_if_ordered`], with a source of the caller's, made by the settings.
pub fn work_with<S: TokenSource>(source: impl FnOnce(&HashMap<&str, &str>) -> S) {
    let Ok(settings) = env::var(SETTINGS) else { return };
    let settings: HashMap<&str, &str> = settings.split(' ').filter_map(|pair| pair.split_once('=')).collect();
    let gate = Arc::new(Gate::default());
    let mut worker = Worker::new(build(&settings, &gate, source), settings["issuer"]);
    worker.stale_after += settings.get("stale").map_or(Duration::ZERO, |more| Duration::from_millis(number(more)));
    say(&format!("ready pid={}", std::process::id()));
    let (mut fresh, mut load) = (None::<FreshGuard>, None::<Load>);
    for line in told() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["get", tag, threads, within] => worker.get(tag, number(threads), Duration::from_millis(number(within))),
            ["call", within] => worker.call_here(Duration::from_millis(number(within))),
            ["invalidate", tag] => worker.reject(tag, 1),
            ["reject", tag, threads] => worker.reject(tag, number(threads)),
            ["arm", point] => gate.arm(point),
            ["go"] => gate.open(),
            ["fresh", "on"] => {
                fresh = worker.manager.keep_fresh().ok();
                say("fresh on");
            }
            ["fresh", "off"] => fresh = None,
            ["load", threads, pause] => load = Some(worker.load(number(threads), Duration::from_millis(number(pause)))),
            ["halt"] => worker.halt(load.take()),
            ["rest"] => worker.rest(),
            ["stats"] => worker.stats(),
            ["storm", lasts, restart] => storm(Duration::from_millis(number(lasts)), restart == "restart"),
            ["starve"] => starve(),
            ["fork"] => worker.fork(Worker::after_rejection),
            ["fork", "serve"] => worker.fork(Worker::after_stats),
            ["fork", "refresh"] => worker.fork(Worker::until_newer),
            _ => say(&format!("what {line}")),
        }
    }
    drop(fresh);
    std::process::exit(0);
}

fn build<S: TokenSource>(
    settings: &HashMap<&str, &str>,
    gate: &Arc<Gate>,
    source: impl FnOnce(&HashMap<&str, &str>) -> S,
) -> TokenManager {
    let millis = |key: &str| settings.get(key).map(|value| Duration::from_millis(number(value)));
    let mut options = RedisStore::options(settings["redis"]);
    if let Some(limit) = millis("io") {
        options = options.io_timeout(limit).connect_timeout(limit);
    }
    let store = Gated::new(options.open().expect("a store"), gate.clone());
    let (per_minute, burst) = match settings.get("budget").and_then(|budget| budget.split_once('/')) {
        Some((per_minute, burst)) => (number(per_minute), number(burst)),
        None => (60_000, 1_000),
    };
    let mut builder = TokenManager::builder("faults")
        .store(store)
        .budget(Budget::per_minute(per_minute as u32).burst(burst as u32))
        .observer(|event: &Event| {
            if let Event::Committed { late: true, .. } | Event::Abandoned { .. } | Event::LeaseLost { .. } = event {
                say(&format!("event {event}"));
            }
        });
    builder = match millis("local") {
        // An HTTP client may need threads of its own; this source needs none.
        Some(pause) => builder.source(move |attempt: &Attempt| {
            thread::sleep(pause);
            Ok(Fetched::new(format!("local-{}", attempt.generation()), Duration::from_secs(600)))
        }),
        None => builder.source(source(settings)),
    };
    if let Some(lease) = millis("lease") {
        builder = builder.lease(lease);
    }
    if let Some(folder) = settings.get("journal") {
        builder = builder.journal(folder);
    }
    if let Some(limit) = millis("fetch_limit") {
        builder = builder.fetch_limit(limit);
    }
    if settings.get("flights") == Some(&"inline") {
        builder = builder.execution(Execution::Inline);
    }
    builder.build().expect("a manager")
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("`{text}` is not a number"))
}

#[derive(Clone)]
struct Worker {
    manager: TokenManager,
    issuer: Arc<str>,
    /// The newest generation that any call here has returned.
    newest: Arc<AtomicU64>,
    last: Arc<Mutex<Option<Token>>>,
    /// How long after its end a token may still be handed out.
    stale_after: Duration,
}

struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Summary>>,
}

impl Worker {
    fn new(manager: TokenManager, issuer: &str) -> Worker {
        Worker { manager, issuer: issuer.into(), newest: Arc::default(), last: Arc::default(), stale_after: SLACK }
    }

    fn call(&self, within: Duration, summary: &mut Summary) {
        let (newest, start) = (self.newest.load(Ordering::SeqCst), Instant::now());
        let answer = self.manager.get_within(within);
        let took = start.elapsed();
        summary.worst = summary.worst.max(took);
        summary.late += u64::from(took > within + SLACK);
        match answer {
            Ok(token) => {
                summary.served(&token, newest);
                self.newest.fetch_max(token.generation(), Ordering::SeqCst);
                *self.last.lock() = Some(token);
            }
            Err(error) => summary.failed(&error),
        }
    }

    /// Calls on so many threads at once and reports when all are back.
    fn get(&self, tag: &str, threads: u64, within: Duration) {
        let (worker, tag) = (self.clone(), tag.to_owned());
        let calls: Vec<_> = (0..threads)
            .map(|_| {
                let worker = worker.clone();
                thread::spawn(move || {
                    let mut summary = Summary::default();
                    worker.call(within, &mut summary);
                    summary
                })
            })
            .collect();
        thread::spawn(move || {
            let summary = calls.into_iter().filter_map(|call| call.join().ok()).fold(Summary::default(), Summary::and);
            say(&format!("got tag={tag} {summary}"));
        });
    }

    /// Calls on the thread that reads the orders.
    fn call_here(&self, within: Duration) {
        let mut summary = Summary::default();
        self.call(within, &mut summary);
        say(&format!("got tag=call {summary}"));
    }

    /// Has so many threads reject the last token at once, as when an API answers 401 to all of them.
    fn reject(&self, tag: &str, threads: u64) {
        let (worker, tag) = (self.clone(), tag.to_owned());
        thread::spawn(move || {
            let token = worker.last.lock().clone();
            thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(|| token.iter().for_each(|token| worker.manager.invalidate(token)));
                }
            });
            say(&format!("rejected tag={tag} threads={threads}"));
        });
    }

    fn load(&self, threads: u64, pause: Duration) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..threads)
            .map(|_| {
                let (worker, stop) = (self.clone(), stop.clone());
                thread::spawn(move || {
                    let (mut summary, agent) = (Summary::default(), client::agent());
                    while !stop.load(Ordering::Relaxed) {
                        let served = summary.ok;
                        worker.call(Duration::from_secs(2), &mut summary);
                        if summary.ok > served && summary.ok % SHOWN == 0 {
                            worker.show(&agent, &mut summary);
                        }
                        thread::sleep(pause);
                    }
                    summary
                })
            })
            .collect();
        Load { stop, threads }
    }

    fn show(&self, agent: &ureq::Agent, summary: &mut Summary) {
        let Some(token) = self.last.lock().clone() else { return };
        let verified = client::verify(agent, &self.issuer, token.secret(), Duration::from_secs(5));
        summary.stale += u64::from(matches!(verified, Ok(Verified::Rejected(Some(since))) if since > self.stale_after));
    }

    fn halt(&self, load: Option<Load>) {
        let Some(Load { stop, threads }) = load else { return say(&format!("got tag=load {}", Summary::default())) };
        stop.store(true, Ordering::Relaxed);
        let summary =
            threads.into_iter().filter_map(|thread| thread.join().ok()).fold(Summary::default(), Summary::and);
        say(&format!("got tag=load {summary}"));
    }

    /// Calls until no flight is left that could bring another token than the last.
    fn rest(&self) {
        let rests = (0..300).any(|_| {
            let first = self.manager.get_within(SLACK);
            let is_quiet = self.manager.quiesce(SLACK);
            let Ok(last) = self.manager.get_within(SLACK) else {
                thread::sleep(Duration::from_millis(100));
                return false;
            };
            let is_same = first.is_ok_and(|first| first.generation() == last.generation());
            self.newest.fetch_max(last.generation(), Ordering::SeqCst);
            *self.last.lock() = Some(last);
            is_same && is_quiet
        });
        say(&format!("rested ok={rests}"));
    }

    fn stats(&self) {
        let stats = self.manager.stats();
        let (flights, fetches, waits, abandoned) = (stats.flights, stats.fetches, stats.waits, stats.abandoned);
        say(&format!("stats flights={flights} fetches={fetches} waits={waits} abandoned={abandoned}"));
    }

    /// The parent's hits are still there; the token is rejected so that the child has to ask the store.
    fn after_rejection(&self, summary: &mut Summary) {
        self.last.lock().iter().for_each(|token| self.manager.invalidate(token));
        self.call(Duration::from_secs(20), summary);
    }

    /// Has the child make its own state, and calls.
    fn after_stats(&self, summary: &mut Summary) {
        self.manager.stats();
        self.call(Duration::from_secs(2), summary);
    }

    /// Calls until there is a newer token, for ten seconds at most.
    fn until_newer(&self, summary: &mut Summary) {
        let (start, newest) = (Instant::now(), self.newest.load(Ordering::SeqCst));
        while self.newest.load(Ordering::SeqCst) == newest && start.elapsed() < Duration::from_secs(10) {
            self.call(Duration::from_secs(2), summary);
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Forks; the child makes its calls, reports them and ends without any of the parent's clean-up.
    fn fork(&self, calls: fn(&Worker, &mut Summary)) {
        let last = self.last.lock().clone();
        // Taken here, so that no thread that the child does not have holds it.
        let out = std::io::stdout().lock();
        // SAFETY: the child only uses what is meant to work after a fork, and leaves through `_exit`.
        let forked = unsafe { libc::fork() };
        drop(out);
        match forked {
            0 => {
                // A thread that the child does not have may hold the parent's lock.
                let own = Worker { last: Arc::new(Mutex::new(last)), ..self.clone() };
                let mut summary = Summary::default();
                calls(&own, &mut summary);
                say(&format!("got tag=child owner={} {summary}", self.manager.owner()));
                unsafe { libc::_exit(0) }
            }
            child => {
                // SAFETY: it is our child, and nobody else waits for it.
                let reaped = unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) } == child;
                say(&format!("forked reaped={reaped} owner={}", self.manager.owner()));
            }
        }
    }
}

/// Sends each thread of this process up to a thousand signals a second, for so long. The host has a handler that does nothing.
fn storm(lasts: Duration, restart: bool) {
    extern "C" fn ignore(_: libc::c_int) {}
    // SAFETY: a zeroed action with a handler that touches nothing is valid.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = ignore as extern "C" fn(libc::c_int) as libc::sighandler_t;
        action.sa_flags = if restart { libc::SA_RESTART } else { 0 };
        libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut());
    }
    thread::spawn(move || {
        let until = Instant::now() + lasts;
        while Instant::now() < until {
            let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
            let ids = threads.filter_map(|thread| thread.file_name().to_str()?.parse::<libc::pid_t>().ok());
            for id in ids {
                // SAFETY: a signal to a thread of this process; one that has ended is not there any more.
                unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), id, libc::SIGUSR1) };
            }
            thread::sleep(Duration::from_millis(1));
        }
    });
}

/// Leaves no room for the stack of another thread.
fn starve() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    // Threads that are just ending give their room back, so the limit follows until it bites.
    let starved = (0..1_000).any(|_| {
        let size = std::fs::read_to_string("/proc/self/statm").expect("/proc");
        let pages = size.split(' ').next().map(number).expect("a size");
        let limit = Some(pages * rustix::param::page_size() as u64 + (32 << 20));
        setrlimit(Resource::As, Rlimit { current: limit, maximum: limit }).expect("a limit");
        thread::Builder::new().spawn(|| {}).map(|thread| thread.join()).is_err()
    });
    say(&format!("starved ok={starved}"));
}
