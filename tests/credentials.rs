//! Logins that expire: a password that changes again and again under load, a file that is replaced, and connections that
//! do not grow old.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use testbed::redis_server::RedisServer;
use testbed::{LONG, Script};
use token_manager::store::{Change, StoreError, StoreErrorKind, TokenName};
use token_manager::{Budget, Login, RedisOptions, RedisStore, Store, TokenManager};

const HOUR: Duration = Duration::from_secs(3600);
const BUSY: Duration = Duration::from_secs(5);

fn name() -> TokenName {
    TokenName { namespace: "tm".into(), group: "t".into(), name: "t".into(), grant: "t".into() }
}

fn ask(store: &RedisStore) -> Result<(), StoreError> {
    store.inspect(&name(), "default").map(drop)
}

/// A user whose password changes, and what gives the present one to who asks.
struct Rotating {
    redis: RedisServer,
    password: Arc<Mutex<String>>,
    asked: Arc<AtomicU64>,
}

impl Rotating {
    fn new() -> Rotating {
        let redis = RedisServer::start().unwrap();
        redis.command(&["ACL", "SETUSER", "fleet", "on", ">word-0", "~*", "&*", "+@all"]);
        Rotating { redis, password: Arc::new(Mutex::new("word-0".into())), asked: Arc::default() }
    }

    fn options(&self) -> RedisOptions {
        let (password, asked) = (self.password.clone(), self.asked.clone());
        RedisStore::options(&self.redis.url()).credentials(move || {
            asked.fetch_add(1, Ordering::SeqCst);
            Ok(Login::new("fleet", password.lock().unwrap().clone()))
        })
    }

    /// Changes the password at once, without a time in which both count.
    fn rotate(&self, number: u64) {
        let next = format!("word-{number}");
        // Who asks now would be told of one that counts no more; whoever was told before learns the other one.
        let mut password = self.password.lock().unwrap();
        self.redis.command(&["ACL", "SETUSER", "fleet", "resetpass", &format!(">{next}")]);
        *password = next;
    }

    /// Ends all connections of the user, as servers do where a login has expired.
    fn end_all(&self) {
        self.redis.command(&["CLIENT", "KILL", "USER", "fleet"]);
    }
}

/// What a load saw.
#[derive(Debug, Default)]
struct Seen {
    calls: u64,
    errors: Vec<String>,
    worst: Duration,
}

/// Has processes' worth of managers call, and invalidate now and then, while the password changes so often, for so long.
fn rotate_under_load(every: Duration, lasts: Duration) -> (Seen, u64, u64) {
    let rotating = Rotating::new();
    let script = Script::new(HOUR);
    let over = Arc::new(AtomicBool::new(false));
    let seen = Arc::new(Mutex::new(Seen::default()));
    let managers: Vec<TokenManager> = (0..3)
        .map(|_| {
            // A busy machine is not what is tested.
            let patient = rotating.options().connect_timeout(BUSY).io_timeout(BUSY).pool_timeout(BUSY);
            let store = patient.max_connection_age(every * 2).open().unwrap();
            let builder = TokenManager::builder("t").store(store).budget(Budget::per_minute(60_000).burst(10_000));
            builder.deadline(LONG).lease(5 * BUSY).source(script.source()).build().unwrap()
        })
        .collect();
    let guards: Vec<_> = managers.iter().map(|manager| manager.keep_fresh().unwrap()).collect();
    let threads: Vec<_> = (0..12)
        .map(|number| {
            let (manager, over, seen) = (managers[number % 3].clone(), over.clone(), seen.clone());
            thread::spawn(move || {
                let mut round = 0;
                while !over.load(Ordering::SeqCst) {
                    let start = Instant::now();
                    let got = manager.get();
                    let mut seen = seen.lock().unwrap();
                    seen.calls += 1;
                    seen.worst = seen.worst.max(start.elapsed());
                    let token = got.map_err(|error| seen.errors.push(format!("{error:?}")));
                    drop(seen);
                    round += 1;
                    if number < 3 && round % 5 == 0 {
                        token.iter().for_each(|token| manager.invalidate(token));
                    }
                    thread::sleep(Duration::from_millis(10));
                }
            })
        })
        .collect();
    let start = Instant::now();
    let mut changes = 0;
    while start.elapsed() < lasts {
        thread::sleep(every);
        changes += 1;
        rotating.rotate(changes);
        // No oftener than once a second: a call has two tries.
        if every >= Duration::from_secs(1) || changes % 4 == 0 {
            rotating.end_all();
        }
    }
    over.store(true, Ordering::SeqCst);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    drop(guards);
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    (seen, changes, rotating.asked.load(Ordering::SeqCst))
}

#[test]
fn a_password_that_changes_three_times_a_second_under_load_fails_no_call() {
    let (seen, changes, asked) = rotate_under_load(Duration::from_millis(300), Duration::from_secs(6));
    assert_eq!(seen.errors, [""; 0], "of {} calls, with {changes} changes", seen.calls);
    assert!(changes >= 10 && asked > changes && seen.calls > 500, "{changes} changes, {asked} questions, {seen:?}");
    assert!(seen.worst < Duration::from_secs(10), "{:?}", seen.worst);
}

/// Ten minutes, or as many seconds as `ROTATE_FOR` says: `cargo test --test credentials -- --ignored --nocapture`.
#[test]
#[ignore = "takes ten minutes"]
fn a_password_that_changes_every_five_seconds_for_ten_minutes_fails_no_call() {
    let seconds = std::env::var("ROTATE_FOR").map_or(600, |text| text.parse().expect("seconds"));
    let (seen, changes, asked) = rotate_under_load(Duration::from_secs(5), Duration::from_secs(seconds));
    println!("{changes} changes, {asked} questions, {} calls, the worst took {:?}", seen.calls, seen.worst);
    assert_eq!(seen.errors, [""; 0]);
}

#[test]
fn credentials_are_asked_for_once_a_connection_and_once_more_where_they_have_just_changed() {
    let rotating = Rotating::new();
    let store = rotating.options().open().unwrap();
    ask(&store).unwrap();
    ask(&store).unwrap();
    assert_eq!(rotating.asked.load(Ordering::SeqCst), 1);
    rotating.rotate(1);
    rotating.end_all();
    ask(&store).unwrap();
    assert_eq!(rotating.asked.load(Ordering::SeqCst), 2);

    // It is told the old one first, as one is who asks just before the change.
    let (asked, answers) = (Arc::new(AtomicU64::new(0)), ["word-0", "word-1"]);
    let count = asked.clone();
    let options = RedisStore::options(&rotating.redis.url().replace("redis://", "redis://fleet@"));
    let late = options
        .credentials(move || Ok(Login::with_password(answers[count.fetch_add(1, Ordering::SeqCst).min(1) as usize])));
    ask(&late.open().unwrap()).unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[test]
fn credentials_that_stay_wrong_fail_or_panic_are_an_error_of_the_store() {
    let redis = RedisServer::start().unwrap();
    let with = |credentials: fn() -> Result<Login, StoreError>| {
        let store = RedisStore::options(&redis.url()).credentials(credentials).open().unwrap();
        ask(&store).unwrap_err()
    };
    let wrong = with(|| Ok(Login::new("nobody", "hunter2")));
    assert_eq!((wrong.kind(), wrong.to_string().contains("refused the credentials")), (StoreErrorKind::Denied, true));
    assert!(!format!("{wrong:?} {:?}", Login::new("nobody", "hunter2")).contains("hunter2"));
    let failed = with(|| Err(StoreError::new(StoreErrorKind::Other, "the vault is sealed").because("code 503")));
    assert_eq!(failed.to_string(), "the vault is sealed");
    assert_eq!(std::error::Error::source(&failed).unwrap().to_string(), "code 503");
    let panicked = with(|| panic!("no vault"));
    assert_eq!(panicked.to_string(), "what gives the credentials of Redis panicked");
}

#[test]
fn credentials_come_from_a_file_that_is_read_for_each_connection() {
    let rotating = Rotating::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("login");
    let replace = |text: &str| {
        fs::write(folder.path().join("next"), text).unwrap();
        fs::rename(folder.path().join("next"), &file).unwrap();
    };
    let url = rotating.redis.url().replace("redis://", "redis://fleet@");
    let store = RedisStore::options(&url).credentials_file(&file).open().unwrap();
    let error = ask(&store).unwrap_err();
    assert!(error.to_string().contains("cannot be read") && error.to_string().contains("login"), "{error}");
    replace("word-0\n");
    ask(&store).unwrap();
    rotating.rotate(1);
    rotating.end_all();
    replace("fleet\nword-1\n");
    ask(&store).unwrap();
    rotating.end_all();
    replace("\n\n\n");
    let error = ask(&store).unwrap_err();
    assert!(error.to_string().contains("a user and a password on a line each"), "{error}");
    assert!(Path::new(&file).exists());
}

#[test]
fn no_connection_grows_older_than_it_may_and_a_subscription_is_renewed_without_a_loss() {
    let rotating = Rotating::new();
    let age = Duration::from_millis(400);
    let store = rotating.options().max_connection_age(age).open().unwrap();
    let mut listener = store.subscribe(&name()).unwrap();
    let (start, mut generation) = (Instant::now(), 0);
    while start.elapsed() < 6 * age {
        generation += 1;
        store.invalidate(&name(), generation).unwrap();
        // After a renewal both connections may have brought it.
        let mut told = || listener.wait(LONG).unwrap();
        assert!((0..3).any(|_| told() == Some(Change::Invalidated(generation))), "{generation}");
    }
    let clients = rotating.redis.command(&["CLIENT", "LIST"]);
    let ages = clients.lines().filter(|line| line.contains("user=fleet")).count();
    assert_eq!(ages, 2, "one pooled, one of the subscription: {clients}");
    // The first two, and each renewed between six and eight times.
    let made = rotating.asked.load(Ordering::SeqCst);
    assert!((10..=18).contains(&made), "{made} connections");
}

#[test]
fn a_renewal_that_fails_leaves_the_subscription_as_it_is() {
    let rotating = Rotating::new();
    let store = rotating.options().max_connection_age(Duration::from_millis(100)).open().unwrap();
    let mut listener = store.subscribe(&name()).unwrap();
    rotating.redis.command(&["ACL", "SETUSER", "fleet", "resetpass", ">other"]);
    thread::sleep(Duration::from_millis(150));
    assert_eq!(listener.wait(Duration::from_millis(10)).unwrap(), None);
    let channel = "tm:{t}:t:events:0";
    rotating.redis.command(&["PUBLISH", channel, "invalidated 7"]);
    assert_eq!(listener.wait(LONG).unwrap(), Some(Change::Invalidated(7)));
    rotating.end_all();
    assert_eq!(listener.wait(LONG).unwrap_err().kind(), StoreErrorKind::Unreachable);
}

#[test]
fn contradictions_are_refused() {
    let refuse = |options: RedisOptions, words: &str| {
        let error = options.open().err().unwrap();
        assert!(error.to_string().contains(words) && error.kind() == StoreErrorKind::Malformed, "{error}");
    };
    let credentials = || Ok(Login::with_password("x"));
    refuse(RedisStore::options("redis://:word@h/").credentials(credentials), "leave one of them out");
    for bad in [Duration::ZERO, Duration::from_millis(99), Duration::MAX] {
        refuse(RedisStore::options("redis://h/").max_connection_age(bad), "max_connection_age");
    }
}
