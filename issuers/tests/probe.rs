//! A new token is tried out before the fleet is given it, and is never lost for that.

use log::{LevelFilter, Log, Metadata, Record};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use testbed::{Backing, Script, wait_until};
use token_manager::FetchError;
use token_manager_issuers::Http;
use token_manager_issuers::probe::{Probed, bearer_get};

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn the_fleet_is_given_a_token_once_it_works_and_not_before() {
    let backing = Backing::redis();
    let script = Script::new(HOUR);
    let works = Arc::new(Mutex::new("token-1".to_owned()));
    let known = works.clone();
    let probe = move |secret: &str, _| secret == *known.lock().unwrap();
    let source = Probed::new(script.source(), probe).limit(Duration::from_secs(60));
    let here = backing.builder("t").fetch_limit(Duration::from_secs(70)).source(source).build().unwrap();
    let there = backing.builder("t").source(|_: &_| Err(FetchError::unavailable("only here"))).build().unwrap();
    let _fresh = there.keep_fresh().unwrap();
    assert_eq!(here.get().unwrap().secret(), "token-1");
    assert_eq!(there.get().unwrap().secret(), "token-1");

    script.set_life(HOUR);
    here.invalidate(&here.get().unwrap());
    let waiter = {
        let here = here.clone();
        thread::spawn(move || here.get().unwrap().secret().to_owned())
    };
    script.wait_for(2);
    let inspected = here.inspect().unwrap();
    assert!(inspected.updater.is_some(), "the probe is part of the fetch: {inspected:?}");
    assert!(!waiter.is_finished(), "the new token does not work yet");
    *works.lock().unwrap() = "token-2".to_owned();
    assert_eq!(waiter.join().unwrap(), "token-2");
    wait_until("the fleet has it", || there.get().is_ok_and(|token| token.secret() == "token-2"));
    assert_eq!(script.fetches(), 2);
}

#[test]
fn probes_follow_each_other_with_doubling_pauses_and_know_what_time_they_have() {
    let calls: Arc<Mutex<Vec<(Instant, Duration)>>> = Arc::default();
    let noted = calls.clone();
    let probe = move |_: &str, within| {
        noted.lock().unwrap().push((Instant::now(), within));
        noted.lock().unwrap().len() == 6
    };
    let source = Probed::new(Script::new(HOUR).source(), probe).limit(Duration::from_secs(8));
    let manager = Backing::memory().builder("t").source(source).build().unwrap();
    assert_eq!(manager.get().unwrap().secret(), "token-1");
    let calls = calls.lock().unwrap();
    for (pair, pause) in calls.windows(2).zip([50, 100, 200, 400, 500]) {
        let between = pair[1].0 - pair[0].0;
        assert!(between >= Duration::from_millis(pause), "{between:?} < {pause} ms");
        assert!(pair[0].1 - pair[1].1 >= Duration::from_millis(pause), "the time left shrinks");
    }
    assert!(calls[0].1 <= Duration::from_secs(8) && calls[0].1 > Duration::from_secs(5), "{:?}", calls[0].1);
}

#[test]
fn a_token_that_never_works_is_used_all_the_same_and_that_is_logged() {
    log::set_logger(&Capture).unwrap();
    log::set_max_level(LevelFilter::Warn);
    let source = Probed::new(Script::new(HOUR).source(), |_: &str, _| false).limit(Duration::from_millis(300));
    let manager = Backing::memory().builder("t").source(source).build().unwrap();
    let token = manager.get().unwrap();
    assert_eq!(token.secret(), "token-1");
    let told = LOGGED.lock().unwrap().join("\n");
    let generation = token.generation();
    assert_eq!(
        told,
        format!("the new token, of generation {generation}, did not work within 300.0ms; it is used all the same")
    );
}

#[test]
fn the_attempts_own_end_is_a_limit_too_and_no_probe_makes_a_source_late() {
    let source = Probed::new(Script::new(HOUR).source(), |_: &str, _| false).limit(HOUR);
    let limit = Duration::from_secs(3);
    let manager = Backing::memory().builder("t").source(source).fetch_limit(limit).build().unwrap();
    assert_eq!(manager.get().unwrap().secret(), "token-1");
    assert_eq!((manager.stats().fetches, manager.stats().failures, manager.stats().abandoned), (1, 0, 0));
}

#[test]
fn a_probe_that_panics_costs_no_token() {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let probe = move |_: &str, _| {
        counted.fetch_add(1, Ordering::Relaxed);
        panic!("a bug in the probe")
    };
    let manager =
        Backing::memory().builder("t").source(Probed::new(Script::new(HOUR).source(), probe)).build().unwrap();
    assert_eq!(manager.get().unwrap().secret(), "token-1");
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

#[test]
fn an_api_is_asked_by_get_until_it_takes_the_token() {
    let server = tiny_http::Server::http("127.0.0.1:0").unwrap();
    let url = format!("http://{}/me", server.server_addr());
    let api = thread::spawn(move || {
        let mut seen = Vec::new();
        for status in [401, 503, 204] {
            let request = server.recv_timeout(Duration::from_secs(60)).unwrap().expect("a probe");
            let header = request.headers().iter().find(|header| header.field.equiv("Authorization")).unwrap();
            seen.push(format!("{} {} {}", request.method(), request.url(), header.value));
            request.respond(tiny_http::Response::empty(status)).unwrap();
        }
        seen
    });
    let probe = bearer_get(url, Http::new().no_proxy()).unwrap();
    let source = Probed::new(Script::new(HOUR).source(), probe).limit(Duration::from_secs(8));
    let manager = Backing::memory().builder("t").source(source).build().unwrap();
    assert_eq!(manager.get().unwrap().secret(), "token-1");
    assert_eq!(api.join().unwrap(), ["GET /me Bearer token-1"; 3]);
    assert!(bearer_get("http://example.com/", Http::new()).is_err());
}

static LOGGED: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Capture;

impl Log for Capture {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        // The other tests of this file have warnings of their own.
        if record.args().to_string().contains("300.0ms") {
            LOGGED.lock().unwrap().push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}
