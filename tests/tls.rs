//! TLS to a real Redis: whom the store trusts, whom Redis trusts, limits, signals, renewed certificates, and the errors.

use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};
use testbed::certificates::{Authority, Identity};
use testbed::proxy::{Line, Proxy};
use testbed::redis_server::RedisServer;
use testbed::{LONG, Script};
use token_manager::store::{Change, StoreError, StoreErrorKind, TokenName, contract};
use token_manager::{RedisStore, Store, Tls, TokenManager};

const HOUR: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);

fn name() -> TokenName {
    TokenName { namespace: "tm".into(), group: "t".into(), name: "t".into(), grant: "t".into() }
}

/// A store whose limits leave a busy machine the time for a handshake.
fn store(url: &str, tls: Tls) -> RedisStore {
    RedisStore::options(url).connect_timeout(10 * SECOND).io_timeout(5 * SECOND).tls(tls).open().unwrap()
}

fn ask(store: &RedisStore) -> Result<(), StoreError> {
    store.inspect(&name(), "default").map(drop)
}

#[track_caller]
fn denied(store: &RedisStore, words: &str) {
    let error = ask(store).unwrap_err();
    assert!(error.to_string().contains(words), "{error}: {:?}", std::error::Error::source(&error));
    assert_eq!(error.kind(), StoreErrorKind::Denied, "{error}");
}

#[test]
fn over_tls_and_either_protocol_the_contract_is_kept() {
    let authority = Authority::new();
    let (redis, port) = authority.start_redis(&authority.issue("server", &["localhost", "127.0.0.1"]), false, &[]);
    redis.command(&["ACL", "SETUSER", "user", "on", ">se%cret", "~*", "&*", "+@all"]);
    let urls = [
        format!("rediss://user:se%25cret@localhost:{port}/3?protocol=resp3"),
        format!("valkeys://user:se%25cret@127.0.0.1:{port}"),
    ];
    for url in urls {
        let store = store(&url, Tls::new().ca_file(authority.file()));
        contract::check(&store);
        contract::check_events(&store);
        redis.command(&["FLUSHALL"]);
    }
}

#[test]
fn a_fleet_over_tls_with_client_certificates_makes_one_fetch() {
    let authority = Authority::new();
    let (_redis, port) = authority.start_redis(&authority.issue("server", &["localhost"]), true, &[]);
    let Identity { certificate, key } = authority.issue("client", &["client"]);
    let url = format!("rediss://localhost:{port}/");
    let tls = Tls::new().ca_pem(authority.pem()).identity_files(&certificate, &key);
    let script = Script::new(HOUR);
    let managers = [0; 3].map(|_| {
        let builder = TokenManager::builder("t").store(store(&url, tls.clone())).deadline(LONG).lease(LONG);
        builder.source(script.source()).build().unwrap()
    });
    let _guard = managers[0].keep_fresh().unwrap();
    thread::scope(|scope| {
        let calls: Vec<_> = (0..30)
            .map(|number| {
                let manager = &managers[number % 3];
                scope.spawn(move || manager.get().unwrap().secret().to_owned())
            })
            .collect();
        calls.into_iter().for_each(|call| assert_eq!(call.join().unwrap(), "token-1"));
    });
    assert_eq!(script.fetches(), 1);

    denied(&store(&url, Tls::new().ca_pem(authority.pem())), "client certificate");
    let other = Authority::new();
    let Identity { certificate, key } = other.issue("client", &["client"]);
    denied(&store(&url, Tls::new().ca_pem(authority.pem()).identity_files(certificate, key)), "client certificate");
}

#[test]
fn a_certificate_that_is_not_trusted_not_of_this_host_or_over_is_refused_in_words() {
    let authority = Authority::new();
    let (_redis, port) = authority.start_redis(&authority.issue("server", &["redis.example"]), false, &[]);
    let url = format!("rediss://localhost:{port}/");
    let own = || Tls::new().ca_pem(authority.pem());
    denied(&store(&url, Tls::new().ca_pem(Authority::new().pem())), "is not trusted; name its CA");
    denied(&store(&url, own()), "is for another host");
    ask(&store(&url, own().server_name("redis.example"))).unwrap();
    let (_redis, port) = authority.start_redis(&authority.issue_until("old", &["localhost"], 2020), false, &[]);
    denied(&store(&format!("rediss://localhost:{port}/"), own()), "has expired");
    let plain = RedisServer::start().unwrap();
    let error =
        ask(&RedisStore::options(&plain.url().replace("redis:", "rediss:")).tls(own()).open().unwrap()).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unreachable, "{error}");
}

#[test]
fn what_the_system_does_not_trust_is_refused_without_a_ca() {
    let authority = Authority::new();
    let (_redis, port) = authority.start_redis(&authority.issue("server", &["localhost"]), false, &[]);
    let options = RedisStore::options(&format!("rediss://localhost:{port}/")).connect_timeout(10 * SECOND);
    match options.open() {
        Ok(store) => denied(&store, "is not trusted"),
        Err(error) => assert!(error.to_string().contains("trusts no certificates"), "{error}"),
    }
}

#[test]
fn what_makes_no_sense_is_refused_when_the_store_is_opened() {
    let authority = Authority::new();
    let Identity { certificate, key } = authority.issue("client", &["client"]);
    let foreign = authority.issue("foreign", &["client"]).key;
    let tls = || Tls::new().ca_pem(authority.pem());
    let cases = [
        ("rediss://h/", Tls::new().ca_file("/nowhere/ca.pem"), "/nowhere/ca.pem"),
        ("rediss://h/", Tls::new().ca_pem("no PEM"), "holds no certificate"),
        ("rediss://h/", tls().identity_files(&certificate, "/nowhere/key"), "/nowhere/key"),
        ("rediss://h/", tls().identity_files(&certificate, &certificate), "private key"),
        ("rediss://h/", tls().identity_files(&certificate, &foreign), "do not go together"),
        ("rediss://h/", tls().server_name("not a name"), "server_name"),
        ("rediss://h/#insecure", tls(), "always checked"),
        ("redis://h/", tls(), "rediss://"),
        ("rediss://:hunter2@h:x/", tls(), "malformed"),
    ];
    for (url, tls, words) in cases {
        let options = RedisStore::options(url).tls(tls);
        let error = options.open().err().unwrap();
        assert_eq!(error.kind(), StoreErrorKind::Malformed);
        assert!(error.to_string().contains(words) && !error.to_string().contains("hunter2"), "{error}");
    }
    let secret = fs::read_to_string(&key).unwrap();
    assert!(!format!("{:?}", tls().identity_pem(fs::read(&certificate).unwrap(), secret.clone())).contains(&secret));
}

#[test]
fn a_server_that_never_answers_a_handshake_holds_nobody_longer_than_the_limit() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("rediss://127.0.0.1:{}/", listener.local_addr().unwrap().port());
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || while matches!(stream.read(&mut [0; 4096]), Ok(1..)) {});
        }
    });
    let tls = Tls::new().ca_pem(Authority::new().pem());
    let store = RedisStore::options(&url).connect_timeout(Duration::from_millis(300)).tls(tls).open().unwrap();
    let start = Instant::now();
    let error = ask(&store).unwrap_err();
    assert_eq!(error.to_string(), "Redis did not answer in time");
    assert!((Duration::from_millis(290)..10 * SECOND).contains(&start.elapsed()), "{:?}", start.elapsed());
}

#[test]
fn over_tls_an_exchange_has_one_limit_and_a_line_that_broke_is_replaced() {
    let authority = Authority::new();
    let (_redis, port) = authority.start_redis(&authority.issue("server", &["127.0.0.1"]), false, &[]);
    let proxy = Proxy::to(port);
    let url = proxy.url().replace("redis:", "rediss:");
    let tls = Tls::new().ca_pem(authority.pem());
    let options = RedisStore::options(&url).connect_timeout(2 * SECOND).io_timeout(Duration::from_millis(500));
    let store = options.tls(tls).open().unwrap();
    ask(&store).unwrap();
    let mut listener = store.subscribe(&name()).unwrap();
    store.invalidate(&name(), 7).unwrap();
    assert_eq!(listener.wait(LONG).unwrap(), Some(Change::Invalidated(7)));
    let (start, left) = (Instant::now(), Duration::from_millis(300));
    assert_eq!(listener.wait(left).unwrap(), None);
    assert!((left..10 * SECOND).contains(&start.elapsed()));
    let before = proxy.accepted();
    proxy.cut_all();
    ask(&store).unwrap();
    assert_eq!(proxy.accepted() - before, 1);
    proxy.set(Line::Mute);
    let start = Instant::now();
    assert_eq!(ask(&store).unwrap_err().kind(), StoreErrorKind::Unreachable);
    assert!((Duration::from_millis(490)..20 * SECOND).contains(&start.elapsed()), "{:?}", start.elapsed());
}

#[test]
fn certificates_that_are_renewed_in_their_files_are_used_from_the_next_connection_on() {
    let (old, new) = (Authority::new(), Authority::new());
    let (_first, first) = old.start_redis(&old.issue("server", &["127.0.0.1"]), true, &[]);
    let (_second, second) = new.start_redis(&new.issue("server", &["127.0.0.1"]), true, &[]);
    let proxy = Proxy::to(first);
    let Identity { certificate, key } = old.issue("client", &["client"]);
    let tls = Tls::new().ca_file(old.file()).identity_files(&certificate, &key);
    let store = store(&proxy.url().replace("redis:", "rediss:"), tls);
    ask(&store).unwrap();
    // A file that is just being written leaves what was read before in use.
    let whole = fs::read(&certificate).unwrap();
    fs::write(&certificate, "-----BEGIN CERTI").unwrap();
    proxy.cut_all();
    ask(&store).unwrap();
    fs::write(&certificate, whole).unwrap();
    let renewed = new.issue("client", &["client"]);
    for (from, to) in [(&new.file(), &old.file()), (&renewed.certificate, &certificate), (&renewed.key, &key)] {
        fs::copy(from, to).unwrap();
    }
    proxy.lead_to(second);
    proxy.cut_all();
    ask(&store).unwrap();
}
