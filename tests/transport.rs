//! The connections to Redis: signals, limits, silence, the forms of a URL, and the channel of a database.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use testbed::proxy::{Line, Proxy};
use testbed::{LONG, Script, redis_server::RedisServer, wait_until};
use token_manager::store::{Change, Claim, Claimed, Lease, Presence, StoreError, StoreErrorKind, TokenName};
use token_manager::{Budget, Execution, RedisStore, Store, TokenManager};

const HOUR: Duration = Duration::from_secs(3600);
/// More than any wait here may take, on a busy machine too, and less than what a lost limit would.
const IN_TIME: Duration = Duration::from_secs(10);

fn name() -> TokenName {
    TokenName { namespace: "tm".into(), group: "t".into(), name: "t".into(), grant: "t".into() }
}

fn store(url: &str) -> RedisStore {
    RedisStore::open(url).unwrap()
}

/// The right to fetch, for a minute.
fn granted(store: &RedisStore) -> Lease {
    let budget = Some(Budget::per_minute(60_000));
    let claim = Claim { owner: "a", attempt: 1, newer_than: 0, lease: LONG, budget, egress: "default" };
    let Claimed::Granted { generation, .. } = store.claim(&name(), &claim).unwrap() else { panic!("no grant") };
    Lease { owner: "a".into(), attempt: 1, generation }
}

fn ask(store: &RedisStore) -> Result<(), StoreError> {
    store.inspect(&name(), "default").map(drop)
}

fn timed<T>(call: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = call();
    (result, start.elapsed())
}

fn calls(redis: &RedisServer, command: &str) -> u64 {
    let stats = redis.command(&["INFO", "commandstats"]);
    let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.and_then(|line| line.split(',').next()).map_or(0, |count| count.parse().unwrap())
}

/// A thousand signals a second to the thread that made it, until it is dropped.
struct Storm {
    over: Arc<AtomicBool>,
    sender: Option<JoinHandle<()>>,
}

static CAUGHT: AtomicU64 = AtomicU64::new(0);

extern "C" fn catch(_: libc::c_int) {
    CAUGHT.fetch_add(1, Ordering::SeqCst);
}

impl Storm {
    fn new(flags: libc::c_int) -> Storm {
        // One signal for each way to be handled: the handlers are the process's.
        let signal = if flags == 0 { libc::SIGUSR1 } else { libc::SIGUSR2 };
        // SAFETY: the handler only adds to an atomic number, and the action is initialised.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = catch as *const () as libc::sighandler_t;
            action.sa_flags = flags;
            assert_eq!(libc::sigaction(signal, &action, std::ptr::null_mut()), 0);
        }
        // SAFETY: it has no preconditions.
        let target = unsafe { libc::pthread_self() };
        let over = Arc::new(AtomicBool::new(false));
        let ended = over.clone();
        let sender = thread::spawn(move || {
            // Over after a minute in any case: a wait that signals put off would else never end.
            let start = Instant::now();
            while !ended.load(Ordering::SeqCst) && start.elapsed() < LONG {
                // SAFETY: the thread lives: it waits for this one when it drops the storm.
                unsafe { libc::pthread_kill(target, signal) };
                thread::sleep(Duration::from_millis(1));
            }
        });
        Storm { over, sender: Some(sender) }
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = self.sender.take().map(JoinHandle::join);
    }
}

fn ten_of_ten(flags: libc::c_int) {
    let redis = RedisServer::start().unwrap();
    let proxy = Proxy::to(redis.port());
    proxy.set(Line::Late(Duration::from_millis(300)));
    let script = Script::new(HOUR);
    let builder = TokenManager::builder("t").execution(Execution::Inline).deadline(LONG);
    let manager = builder.store(store(&proxy.url())).source(script.source()).build().unwrap();
    let caught = CAUGHT.load(Ordering::SeqCst);
    let storm = Storm::new(flags);
    for round in 1..=10 {
        let token = manager.get().unwrap();
        assert_eq!(token.secret(), format!("token-{round}"));
        manager.invalidate(&token);
        assert_eq!(redis.command(&["HGET", "tm:{t}:t:meta", "invalidated"]), token.generation().to_string());
    }
    drop(storm);
    assert!(CAUGHT.load(Ordering::SeqCst) - caught > 1_000);
    // A claim, a commit and an invalidation each, on one connection; the text of each script goes over the line once.
    assert_eq!((calls(&redis, "evalsha"), calls(&redis, "eval"), proxy.accepted()), (30, 3, 1));
    assert_eq!((script.fetches(), manager.stats().failures), (10, 0));
}

#[test]
fn a_thousand_signals_a_second_fail_no_call() {
    ten_of_ten(0);
}

#[test]
fn a_thousand_signals_a_second_fail_no_call_with_sa_restart_either() {
    ten_of_ten(libc::SA_RESTART);
}

#[test]
fn a_thousand_signals_a_second_prolong_no_limit() {
    let redis = RedisServer::start().unwrap();
    let proxy = Proxy::to(redis.port());
    let mut listener = store(&proxy.url()).subscribe(&name()).unwrap();
    proxy.set(Line::Mute);
    let store = store(&proxy.url());
    for flags in [0, libc::SA_RESTART] {
        let _storm = Storm::new(flags);
        // Half a second for the answer, and as long again on a fresh connection.
        let (error, took) = timed(|| ask(&store).unwrap_err());
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (StoreErrorKind::Unreachable, "Redis did not answer in time")
        );
        assert!((Duration::from_millis(990)..IN_TIME).contains(&took), "{took:?}");
        let (change, took) = timed(|| listener.wait(Duration::from_millis(300)));
        assert_eq!(change.unwrap(), None);
        assert!((Duration::from_millis(290)..IN_TIME).contains(&took), "{took:?}");
    }
}

#[test]
fn an_answer_that_trickles_in_has_one_limit_as_a_whole() {
    let redis = false_redis(|mut stream| {
        let mut asked = [0; 4096];
        let _ = stream.read(&mut asked);
        // Half a minute's worth of bytes, none of them later than the limit after the one before.
        for byte in b"+".iter().chain(&[b'x'; 600]) {
            thread::sleep(Duration::from_millis(50));
            if stream.write_all(&[*byte]).is_err() {
                return;
            }
        }
    });
    let (error, took) = timed(|| ask(&store(&redis)).unwrap_err());
    assert_eq!(error.kind(), StoreErrorKind::Unreachable);
    assert!((Duration::from_millis(990)..IN_TIME).contains(&took), "{took:?}");
}

#[test]
fn a_wrong_password_is_told_once_and_then_all_is_silent() {
    let redis = RedisServer::start().unwrap();
    let proxy = Proxy::to(redis.port());
    let store = store(&proxy.url().replace("redis://", "redis://:wrong@"));
    assert_eq!(ask(&store).unwrap_err().kind(), StoreErrorKind::Denied);
    assert_eq!((proxy.accepted(), calls(&redis, "auth")), (1, 1));
    // Nobody asks: this is the one thing that can only be seen by waiting.
    thread::sleep(Duration::from_secs(3));
    assert_eq!((proxy.accepted(), calls(&redis, "auth")), (1, 1));
}

#[test]
fn a_connection_that_broke_leaves_its_place_to_the_next() {
    let redis = RedisServer::start().unwrap();
    let proxy = Proxy::to(redis.port());
    proxy.set(Line::Mute);
    let store = RedisStore::options(&proxy.url()).pool_size(1).pool_timeout(Duration::from_secs(60)).open().unwrap();
    thread::scope(|scope| {
        let first = scope.spawn(|| ask(&store).unwrap_err().to_string());
        wait_until("the first has the only connection", || proxy.accepted() == 1);
        // The second gets as far as asking Redis, long before the pool's limit.
        assert_eq!(ask(&store).unwrap_err().to_string(), "Redis did not answer in time");
        assert_eq!(first.join().unwrap(), "Redis did not answer in time");
    });
    assert_eq!(proxy.accepted(), 4);
}

#[test]
fn a_pool_whose_connections_are_all_in_use_is_exhausted_and_not_unreachable() {
    let redis = RedisServer::start().unwrap();
    let proxy = Proxy::to(redis.port());
    proxy.set(Line::Mute);
    let options = RedisStore::options(&proxy.url()).pool_size(1).pool_timeout(Duration::from_millis(100));
    let store = options.open().unwrap();
    thread::scope(|scope| {
        let first = scope.spawn(|| ask(&store).unwrap_err().kind());
        wait_until("the first has the only connection", || proxy.accepted() == 1);
        let error = ask(&store).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Exhausted);
        assert!(error.to_string().contains("pool_size"), "{error}");
        assert_eq!(first.join().unwrap(), StoreErrorKind::Unreachable);
    });
    proxy.set(Line::Pass);
    ask(&store).unwrap();
}

#[test]
fn a_listener_notices_that_its_connection_is_half_open() {
    let redis = RedisServer::start().unwrap();
    let proxy = Proxy::to(redis.port());
    let mut listener = store(&proxy.url()).subscribe(&name()).unwrap();
    listener.check().unwrap();
    proxy.set(Line::Mute);
    assert_eq!(listener.wait(Duration::from_millis(1)).unwrap(), None);
    let (error, took) = timed(|| listener.check().unwrap_err());
    assert_eq!(error.kind(), StoreErrorKind::Unreachable);
    assert!((Duration::from_millis(490)..IN_TIME).contains(&took), "{took:?}");
}

#[test]
fn a_listener_that_is_checked_loses_no_change() {
    let redis = RedisServer::start().unwrap();
    redis.command(&["ACL", "SETUSER", "user", "on", ">word", "~*", "&*", "+@all", "-ping"]);
    let restricted = redis.url().replace("redis://", "redis://user:word@");
    for (generation, url) in (1..).zip([redis.url(), format!("{}?protocol=resp3", redis.url()), restricted]) {
        let store = store(&url);
        let mut listener = store.subscribe(&name()).unwrap();
        store.invalidate(&name(), generation).unwrap();
        // The change is on its way before the answer to the check is.
        listener.check().unwrap();
        listener.check().unwrap();
        assert_eq!(listener.wait(Duration::ZERO).unwrap(), Some(Change::Invalidated(generation)), "{url}");
        assert_eq!(listener.wait(Duration::ZERO).unwrap(), None);
    }
}

#[test]
fn databases_of_one_redis_hear_nothing_of_each_other() {
    let redis = RedisServer::start().unwrap();
    let at = |database: u32| store(&format!("{}{database}", redis.url()));
    let [mut zero, mut one] = [0, 1].map(|database| at(database).subscribe(&name()).unwrap());
    at(1).invalidate(&name(), 7).unwrap();
    assert_eq!(one.wait(LONG).unwrap(), Some(Change::Invalidated(7)));
    // Redis publishes in order: were the other database's event there, it would come before this one.
    at(0).invalidate(&name(), 5).unwrap();
    assert_eq!(zero.wait(LONG).unwrap(), Some(Change::Invalidated(5)));

    let script = Script::new(HOUR);
    let manager = TokenManager::builder("t").store(at(1)).source(script.source()).deadline(LONG).build().unwrap();
    let generation = manager.get().unwrap().generation();
    assert_eq!(one.wait(LONG).unwrap(), Some(Change::Committed(generation)));
    at(0).invalidate(&name(), 6).unwrap();
    assert_eq!(zero.wait(LONG).unwrap(), Some(Change::Invalidated(6)));
}

#[test]
fn every_form_of_url_logs_in_and_selects_its_database() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("redis.sock");
    let socket = socket.to_str().unwrap();
    let redis = RedisServer::start_with(&["--unixsocket", socket, "--requirepass", "word"]).unwrap();
    redis_at(&redis, 0, &["ACL", "SETUSER", "user", "on", ">secret", "~*", "&*", "+@all"]);
    let port = redis.port();
    let urls = [
        format!("redis://:word@127.0.0.1:{port}/3"),
        format!("redis://user:secret@localhost:{port}/3"),
        format!("valkey://user:secret@127.0.0.1:{port}/3?protocol=resp3"),
        format!("redis://:word@127.0.0.1:{port}/3?protocol=3"),
        format!("redis+unix://{socket}?pass=word&db=3"),
        format!("unix://{socket}?user=user&pass=secret&db=3&protocol=resp3"),
    ];
    for (generation, url) in (1..).zip(&urls) {
        let store = store(url);
        let mut listener = store.subscribe(&name()).unwrap();
        store.invalidate(&name(), generation).unwrap();
        assert_eq!(listener.wait(LONG).unwrap(), Some(Change::Invalidated(generation)), "{url}");
        assert!(!store.has_updater(&name()).unwrap());
        let shown = store.show_presence(&name(), &granted(&store), LONG, None).unwrap().expect("a subscription");
        assert_eq!(store.presence(&name(), None).unwrap(), Presence::Assumed { listeners: 1 }, "{url}");
        drop(shown);
        let missed = || matches!(store.presence(&name(), None).unwrap(), Presence::Missing(_));
        wait_until("the updater is missed", missed);
        redis_at(&redis, 3, &["DEL", "tm:{t}:t:updater"]);
        assert_eq!(redis_at(&redis, 3, &["HGET", "tm:{t}:t:meta", "invalidated"]), generation.to_string());
    }
    for wrong in [&urls[0].replace("word", "x"), &urls[2].replace("secret", "x"), &urls[4].replace("word", "x")] {
        assert_eq!(ask(&store(wrong)).unwrap_err().kind(), StoreErrorKind::Denied, "{wrong}");
    }
    let nobody = store(&format!("{}99", redis.url()));
    assert_eq!(ask(&nobody).unwrap_err().kind(), StoreErrorKind::Denied);
    let beyond = store(&format!("redis://:word@127.0.0.1:{port}/99"));
    assert_eq!(
        ask(&beyond).unwrap_err().to_string(),
        "Redis answered ERR: see the Redis documentation on this error code"
    );
}

#[test]
fn a_redis_without_users_is_logged_in_to_by_password() {
    let (tell, told) = channel();
    let redis = false_redis(move |mut stream| {
        let (mut asked, mut heard) = ([0; 4096], String::new());
        while let Ok(length @ 1..) = stream.read(&mut asked) {
            heard += &String::from_utf8_lossy(&asked[..length]);
            let answer = match heard.matches("AUTH").count() {
                1 => "-ERR wrong number of arguments for 'auth' command\r\n-NOAUTH Authentication required.\r\n",
                _ if heard.contains("EXISTS") => ":1\r\n",
                _ => "+OK\r\n+OK\r\n",
            };
            stream.write_all(answer.as_bytes()).unwrap();
        }
        tell.send(heard).unwrap();
    });
    assert!(store(&redis.replace("redis://", "redis://user:word@").replace("/0", "/2")).has_updater(&name()).unwrap());
    let select = "*2\r\n$6\r\nSELECT\r\n$1\r\n2\r\n";
    let login =
        format!("*3\r\n$4\r\nAUTH\r\n$4\r\nuser\r\n$4\r\nword\r\n{select}*2\r\n$4\r\nAUTH\r\n$4\r\nword\r\n{select}");
    assert_eq!(told.recv_timeout(LONG).unwrap(), login + "*2\r\n$6\r\nEXISTS\r\n$16\r\ntm:{t}:t:updater\r\n");
}

#[test]
fn a_change_that_arrives_in_pieces_is_told_once_it_is_whole() {
    let (go, gone) = channel::<()>();
    let gone = parking_lot::Mutex::new(gone);
    let redis = false_redis(move |mut stream| {
        let mut asked = [0; 4096];
        let _ = stream.read(&mut asked);
        stream.write_all(b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n*3\r\n$7\r\nmess").unwrap();
        for piece in ["age\r\n$1\r\nc", "\r\n$11\r\ncommit", "ted 7\r\n"] {
            gone.lock().recv_timeout(LONG).unwrap();
            stream.write_all(piece.as_bytes()).unwrap();
        }
        let _ = stream.read(&mut asked); // stays until the listener goes
    });
    let mut listener = store(&redis).subscribe(&name()).unwrap();
    for _ in 0..2 {
        assert_eq!(listener.wait(Duration::from_millis(50)).unwrap(), None);
        go.send(()).unwrap();
    }
    assert_eq!(listener.wait(Duration::from_millis(50)).unwrap(), None);
    go.send(()).unwrap();
    assert_eq!(listener.wait(LONG).unwrap(), Some(Change::Committed(7)));
    assert_eq!(listener.wait(Duration::ZERO).unwrap(), None);
}

fn redis_at(redis: &RedisServer, database: u32, command: &[&str]) -> String {
    let url = format!("{}{database}", redis.url()).replace("redis://", "redis://:word@");
    testbed::redis_server::ask(&url, command).unwrap()
}

/// A server that treats every connection so, and its URL.
fn false_redis(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let serve = Arc::new(serve);
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            thread::spawn(move || serve(stream));
        }
    });
    format!("redis://127.0.0.1:{port}/0")
}
