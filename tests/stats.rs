//! What is counted, and the text that monitoring systems read.

use std::time::Duration;
use testbed::hooked_store::HookedStore;
use testbed::{Backing, LONG, Script, commit_elsewhere, on_threads, wait_until};
use token_manager::store::{Claim, Claimed, Failure, Lease, StoreErrorKind};
use token_manager::{Budget, FailureClass, FetchError, MemoryStore, Store, TokenManager, openmetrics};

const HOUR: Duration = Duration::from_secs(3600);

fn manager(store: impl token_manager::Store, script: &Script) -> TokenManager {
    TokenManager::builder("t").store(store).deadline(LONG).source(script.source()).build().unwrap()
}

#[test]
fn waits_fetches_and_failures_are_counted_and_timed() {
    for backing in Backing::both() {
        let script = Script::held(HOUR);
        script.answer(|_| Err(FetchError::unavailable("out of order")));
        let manager = backing.builder("t").source(script.source()).build().unwrap();
        assert_eq!((manager.stats(), manager.stats().expires_in), (Default::default(), None));
        let callers = {
            let manager = manager.clone();
            std::thread::spawn(move || on_threads(10, move |_| manager.get().is_err()))
        };
        wait_until("all wait", || manager.stats().waits == 10);
        script.release();
        assert_eq!(callers.join().unwrap(), [true; 10]);
        manager.lift_pause().unwrap();
        let token = manager.get().unwrap();
        manager.invalidate(&token);
        let stats = manager.stats();
        assert_eq!((stats.flights, stats.fetches, stats.failures, stats.waits), (2, 2, 1, 11));
        assert_eq!((stats.wait_times.count(), stats.fetch_times.count()), (11, 1));
        assert!(stats.wait_times.sum() >= stats.fetch_times.sum());
        assert_eq!(stats.failures_by_class.of(FailureClass::Unavailable), 1);
        assert_eq!(stats.failures_by_class.of(FailureClass::Throttled), 0);
        assert_eq!((stats.invalidated, stats.expires_in), (1, None));
        let left = Some(manager.get().unwrap().expires_in());
        assert!(manager.stats().expires_in <= left && manager.stats().expires_in > Some(HOUR / 2));
    }
}

#[test]
fn a_doubted_token_a_used_up_budget_and_a_store_in_trouble_are_counted() {
    let script = Script::new(HOUR);
    let builder = TokenManager::builder("t").store(MemoryStore::new()).source(script.source());
    let manager = builder.budget(Budget::per_minute(1).burst(1)).deadline(Duration::from_millis(10)).build().unwrap();
    manager.invalidate(&manager.get().unwrap());
    manager.get().unwrap_err();
    assert_eq!((manager.stats().limited, manager.stats().fetches), (1, 1));

    let failing = HookedStore::new(MemoryStore::new(), |verb, _| (verb == "claim").then_some(StoreErrorKind::Denied));
    let manager = self::manager(failing, &script);
    manager.get().unwrap_err();
    let stats = manager.stats();
    assert_eq!((stats.store_errors.of(StoreErrorKind::Denied), stats.store_errors.iter().count()), (1, 7));

    let store = MemoryStore::new();
    let first = self::manager(store.clone(), &script);
    let generation = first.get().unwrap().generation();
    let claim = Claim {
        owner: "other",
        attempt: 1,
        newer_than: generation,
        lease: HOUR,
        budget: Some(Budget::per_minute(60)),
        egress: "e",
    };
    let Ok(Claimed::Granted { generation, .. }) = store.claim(first.name(), &claim) else { panic!("no grant") };
    let lease = Lease { owner: "other".into(), attempt: 1, generation };
    let lost = Failure { class: FailureClass::UnknownOutcome, retry_after: None, egress: "e" };
    store.record_failure(first.name(), &lease, &lost).unwrap();
    let late = self::manager(store, &script);
    late.get().unwrap();
    assert_eq!((first.stats().doubts, late.stats().doubts), (0, 1));
}

#[test]
fn a_silent_updater_that_was_waited_for_is_a_takeover_and_one_that_commits_is_none() {
    let server = testbed::redis_server::RedisServer::start().unwrap();
    let store = token_manager::RedisStore::open(&server.url()).unwrap();
    let script = Script::new(HOUR);
    let manager = self::manager(store.clone(), &script);
    let lease = |owner: &str| {
        let updater = format!("7:{owner}:1:60000");
        server.command(&["SET", "tm:{t}:t:updater", &updater, "PX", "60000"]);
    };
    lease("dead");
    let waiting = {
        let manager = manager.clone();
        std::thread::spawn(move || manager.get().map(|token| token.secret().to_owned()))
    };
    let channel = "tm:{t}:t:events:0";
    wait_until("it waits", || server.command(&["PUBSUB", "NUMSUB", channel]).ends_with("\n1"));
    server.command(&["PEXPIRE", "tm:{t}:t:updater", "1"]);
    assert_eq!(waiting.join().unwrap().unwrap(), "token-1");
    assert_eq!(manager.stats().takeovers, 1);
    let token = manager.get().unwrap();
    manager.invalidate(&token);
    lease("slow");
    let waiting = {
        let manager = manager.clone();
        std::thread::spawn(move || manager.get().map(|token| token.secret().to_owned()))
    };
    wait_until("it waits", || server.command(&["PUBSUB", "NUMSUB", channel]).ends_with("\n1"));
    server.command(&["DEL", "tm:{t}:t:updater"]);
    commit_elsewhere(&store, "token-2", token.generation());
    assert_eq!(waiting.join().unwrap().unwrap(), "token-2");
    assert_eq!((manager.stats().takeovers, script.fetches()), (1, 1));
}

#[test]
fn the_text_has_every_figure_of_every_manager_and_no_secret() {
    let script = Script::new(HOUR);
    let one = manager(MemoryStore::new(), &script);
    let builder =
        TokenManager::builder(r#"a"b\c"#).namespace("other").store(MemoryStore::new()).source(script.source());
    let idle = builder.build().unwrap();
    one.get().unwrap();
    let text = openmetrics([&one, &idle]);
    let labels = r#"namespace="tm",group="t",token="t""#;
    let escaped = r#"namespace="other",group="a\"b\\c",token="a\"b\\c""#;
    for line in [
        "# TYPE token_manager_fetches counter".to_owned(),
        "# HELP token_manager_fetches Calls of the token source.".to_owned(),
        format!("token_manager_fetches_total{{{labels}}} 1"),
        format!("token_manager_fetches_total{{{escaped}}} 0"),
        format!("token_manager_failures_total{{{labels},class=\"throttled\"}} 0"),
        format!("token_manager_store_errors_total{{{labels},kind=\"sealed\"}} 0"),
        "# UNIT token_manager_wait_seconds seconds".to_owned(),
        format!("token_manager_wait_seconds_bucket{{{labels},le=\"+Inf\"}} 1"),
        format!("token_manager_wait_seconds_bucket{{{labels},le=\"0.001\"}} "),
        format!("token_manager_wait_seconds_count{{{labels}}} 1"),
        "# TYPE token_manager_time_to_expiry_seconds gauge".to_owned(),
    ] {
        assert!(text.lines().any(|shown| shown.starts_with(&line)), "{line} is not in:\n{text}");
    }
    assert!(text.ends_with("\n# EOF\n") && !text.contains("token-1"));
    assert!(!text.contains(&format!("time_to_expiry_seconds{{{escaped}}}")), "it has no token");
    let mut heads: Vec<_> = text.lines().filter(|line| line.starts_with("# TYPE")).collect();
    let count = heads.len();
    heads.dedup();
    assert_eq!((heads.len(), count), (14, 14));
}

#[test]
fn the_recorder_of_the_crate_metrics_is_told_the_same() {
    use metrics_util::debugging::{DebugValue, DebuggingRecorder};
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    recorder.install().expect("the only recorder of this program");
    let script = Script::new(HOUR);
    script.answer(|_| Err(FetchError::unavailable("out of order")));
    let builder = TokenManager::builder("recorded").store(MemoryStore::new()).source(script.source());
    let manager = builder.build().unwrap();
    manager.get().unwrap_err();
    manager.lift_pause().unwrap();
    manager.invalidate(&manager.get().unwrap());
    let mut seen = Vec::new();
    for (key, _, _, value) in snapshotter.snapshot().into_vec() {
        let (_, key) = key.into_parts();
        let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        if labels.contains(&"token=recorded".to_owned()) {
            let value = match value {
                DebugValue::Counter(count) => count,
                DebugValue::Histogram(values) => values.len() as u64,
                DebugValue::Gauge(_) => 0,
            };
            seen.push(format!("{} {} {value}", key.name(), labels[3..].join(",")));
        }
    }
    seen.sort();
    let expected = [
        "token_manager_adopted_total  1",
        "token_manager_failures_total class=unavailable 1",
        "token_manager_fetch_seconds  1",
        "token_manager_fetches_total  2",
        "token_manager_flights_total  2",
        "token_manager_invalidated_total  1",
        "token_manager_wait_seconds  2",
    ];
    assert_eq!(seen, expected);
}
