//! The lookup of a host's name, which may hang: nobody waits for it past the limit, few hang at a time, and all is well as soon as
//! one answers. The system's resolver is replaced in this program.
#![cfg(unix)]

use libc::{addrinfo, c_char, c_int};
use std::collections::BTreeMap;
use std::ffi::CStr;
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use testbed::redis_server::RedisServer;
use testbed::{LONG, Script, threads_named, wait_until};
use token_manager::store::{StoreError, StoreErrorKind, TokenName};
use token_manager::{Execution, RedisStore, Store, TokenManager};

const LIMIT: Duration = Duration::from_millis(200);

/// How often each name was looked up, and which names hang.
static NAMES: Mutex<BTreeMap<String, (u32, bool)>> = Mutex::new(BTreeMap::new());
static RELEASED: Condvar = Condvar::new();

/// Stands before the C library's function of this name, for the standard library too.
///
/// # Safety
/// As that of `getaddrinfo`.
#[unsafe(no_mangle)]
unsafe extern "C" fn getaddrinfo(
    node: *const c_char,
    service: *const c_char,
    hints: *const addrinfo,
    found: *mut *mut addrinfo,
) -> c_int {
    type Resolver = unsafe extern "C" fn(*const c_char, *const c_char, *const addrinfo, *mut *mut addrinfo) -> c_int;
    // SAFETY: the caller gives a name, or none; the next function of this name is the C library's.
    unsafe {
        let name = if node.is_null() { String::new() } else { CStr::from_ptr(node).to_string_lossy().into_owned() };
        let mut names = NAMES.lock().unwrap();
        names.entry(name.clone()).or_default().0 += 1;
        while names[&name].1 {
            names = RELEASED.wait(names).unwrap();
        }
        drop(names);
        let next = libc::dlsym(libc::RTLD_NEXT, c"getaddrinfo".as_ptr());
        let next: Resolver = std::mem::transmute(next);
        let node = if name.ends_with(".redis.test") { c"127.0.0.1".as_ptr() } else { node };
        next(node, service, hints, found)
    }
}

fn hang(name: &str, hangs: bool) {
    NAMES.lock().unwrap().entry(name.into()).or_default().1 = hangs;
    RELEASED.notify_all();
}

fn lookups(name: &str) -> u32 {
    NAMES.lock().unwrap().get(name).map_or(0, |(count, _)| *count)
}

fn url(redis: &RedisServer, host: &str) -> String {
    redis.url().replace("127.0.0.1", host)
}

fn store(redis: &RedisServer, host: &str) -> RedisStore {
    RedisStore::options(&url(redis, host)).connect_timeout(LIMIT).open().unwrap()
}

fn ask(store: &RedisStore) -> Result<(), StoreError> {
    let name = TokenName { namespace: "tm".into(), group: "t".into(), name: "t".into(), grant: "t".into() };
    store.inspect(&name, "default").map(drop)
}

#[test]
fn a_lookup_that_hangs_holds_nobody_past_the_limit_and_is_not_begun_for_each_caller() {
    let redis = RedisServer::start().unwrap();
    let host = "hanging.redis.test";
    let store = store(&redis, host);
    hang(host, true);
    thread::scope(|scope| {
        let callers: Vec<_> = (0..20)
            .map(|_| {
                scope.spawn(|| {
                    let start = Instant::now();
                    (ask(&store).unwrap_err(), start.elapsed())
                })
            })
            .collect();
        for caller in callers {
            let (error, took) = caller.join().unwrap();
            assert_eq!(error.kind(), StoreErrorKind::Unreachable);
            assert_eq!(error.to_string(), "the lookup of the host name of Redis did not end in time");
            assert!((LIMIT..Duration::from_secs(10)).contains(&took), "{took:?}");
        }
    });
    assert_eq!(lookups(host), 1);
    // Another one is begun once the first has hung for a second, and four hang at the most.
    let start = Instant::now();
    while lookups(host) < 4 {
        ask(&store).unwrap_err();
        assert!(start.elapsed() < LONG);
    }
    assert!(start.elapsed() > Duration::from_millis(2_500), "{:?}", start.elapsed());
    let until = Instant::now() + Duration::from_millis(1_500);
    while Instant::now() < until {
        ask(&store).unwrap_err();
    }
    assert_eq!(lookups(host), 4);
    hang(host, false);
    ask(&store).unwrap();
    wait_until("the threads have ended", || threads_named("tkm-lookup") == 0);
}

#[test]
fn a_name_that_hangs_keeps_no_other_store_and_a_caller_with_a_token_is_served() {
    let redis = RedisServer::start().unwrap();
    let (first, second) = ("one.redis.test", "two.redis.test");
    let script = Script::new(Duration::from_secs(3600));
    let builder = TokenManager::builder("t").store(store(&redis, first)).deadline(Duration::from_secs(11));
    let manager = builder.source(script.source()).build().unwrap();
    assert_eq!(manager.get().unwrap().secret(), "token-1");
    hang(first, true);
    redis.command(&["CLIENT", "KILL", "TYPE", "normal"]);
    assert_eq!(manager.get().unwrap().secret(), "token-1");
    ask(&store(&redis, second)).unwrap();
    let start = Instant::now();
    manager.invalidate(&manager.get().unwrap());
    assert!(start.elapsed() < Duration::from_secs(10));
    hang(first, false);
    assert_eq!(manager.get().unwrap().secret(), "token-2");
}

#[test]
fn a_host_that_is_written_as_an_address_is_not_looked_up() {
    let redis = RedisServer::start().unwrap();
    ask(&store(&redis, "127.0.0.1")).unwrap();
    assert_eq!(lookups("127.0.0.1"), 0);
}

#[test]
fn a_name_that_is_unknown_is_told_of_in_words() {
    let redis = RedisServer::start().unwrap();
    let patient = RedisStore::options(&url(&redis, "unknown.invalid")).connect_timeout(Duration::from_secs(30));
    let error = ask(&patient.open().unwrap()).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unreachable);
    assert!(error.to_string().contains("cannot be looked up; check the URL"), "{error}");
}

#[test]
fn a_store_without_threads_looks_names_up_on_the_callers_own() {
    let redis = RedisServer::start().unwrap();
    let host = "inline.redis.test";
    let store = RedisStore::options(&url(&redis, host)).without_thread().open().unwrap();
    let script = Script::new(Duration::from_secs(3600));
    let builder = TokenManager::builder("t").store(store).execution(Execution::Inline).deadline(LONG);
    let manager = builder.source(script.source()).build().unwrap();
    assert_eq!(manager.get().unwrap().secret(), "token-1");
    assert_eq!(lookups(host), 1);
}
