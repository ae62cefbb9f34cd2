//! Settings that contradict each other or the rules are refused with an error that names them.

use std::error::Error as _;
use std::time::Duration;
use token_manager::{Attempt, Budget, Builder, ErrorKind, Fetched, Flights, MemoryStore, RedisStore, TokenManager};

fn builder(name: &str) -> Builder {
    let source = |_: &Attempt| Ok(Fetched::new("token", Duration::from_secs(60)));
    TokenManager::builder(name).store(MemoryStore::new()).source(source)
}

fn redis(builder: Builder) -> Builder {
    builder.redis("redis://127.0.0.1:1/").expect("a URL that can be read")
}

#[track_caller]
fn refused(builder: Builder, words: &[&str]) {
    let error = builder.build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    for word in words {
        assert!(error.to_string().contains(word), "{word:?} is missing in: {error}");
    }
}

#[test]
fn the_defaults_are_accepted_without_talking_to_redis() {
    redis(builder("t")).build().unwrap();
    redis(builder("t")).flights(Flights::OnCallersThread).build().unwrap();
}

#[test]
fn a_lease_shorter_than_three_store_timeouts_is_refused() {
    refused(redis(builder("t")).lease(Duration::from_millis(1499)), &["lease", "1.499s", "store's timeout", "500ms"]);
    redis(builder("t")).lease(Duration::from_millis(1500)).build().unwrap();
}

#[test]
fn an_inline_lease_that_the_fetch_may_outlast_is_refused() {
    let inline = || redis(builder("t")).flights(Flights::OnCallersThread);
    refused(inline().lease(Duration::from_secs(11)), &["lease", "11s", "fetch_limit", "10s"]);
    inline().lease(Duration::from_millis(11_001)).build().unwrap();
    let slow = RedisStore::options("redis://127.0.0.1:1/").io_timeout(Duration::from_secs(1)).open().unwrap();
    refused(builder("t").store(slow).flights(Flights::OnCallersThread), &["lease", "store's timeout", "1s"]);
}

#[test]
fn zero_and_absurd_durations_are_refused() {
    for bad in [Duration::ZERO, Duration::from_secs(3601)] {
        refused(builder("t").deadline(bad), &["deadline", "1 ms", "1 hour"]);
        refused(builder("t").fetch_limit(bad), &["fetch_limit"]);
        refused(builder("t").lease(bad), &["lease"]);
        let error = RedisStore::options("redis://127.0.0.1:1/").io_timeout(bad).open().err().unwrap();
        assert!(error.to_string().contains("io_timeout"), "{error}");
    }
}

#[test]
fn an_empty_budget_is_refused() {
    refused(builder("t").budget(Budget::per_minute(0)), &["budget.per_minute", "0"]);
    refused(builder("t").budget(Budget::per_minute(1).burst(0)), &["budget.burst", "0"]);
    refused(builder("t").budget(Budget::per_minute(60_001)), &["budget.per_minute", "60001"]);
}

#[test]
fn a_name_that_breaks_the_keys_is_refused() {
    for bad in ["", "a{b", "a}b", "a b", "a\nb"] {
        refused(builder(bad), &["name", "braces"]);
        refused(builder("t").namespace(bad), &["namespace"]);
        refused(builder("t").group(bad), &["group"]);
        refused(builder("t").egress(bad), &["egress"]);
    }
    refused(builder("budget"), &["name", "taken"]);
    refused(builder("budget:orders"), &["name", "taken"]);
    refused(builder(&"n".repeat(201)), &["name", "200"]);
}

#[test]
fn a_malformed_url_is_refused_without_being_quoted() {
    for url in ["", "billing", "http://user:hunter2@host/", "redis://user:hunter2@host:port/", "redis://:hunter2@[/0"] {
        let error = TokenManager::builder("t").redis(url).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("redis://"), "{error}");
        assert!(!format!("{error:?} {error} {:?}", RedisStore::options(url)).contains("hunter2"));
    }
}

#[test]
fn a_missing_store_or_source_is_named() {
    let source = |_: &Attempt| Ok(Fetched::new("token", Duration::from_secs(60)));
    refused(TokenManager::builder("t").source(source), &["store"]);
    refused(TokenManager::builder("t").store(MemoryStore::new()), &["source"]);
}

#[test]
fn a_token_that_cannot_be_used_is_named_and_not_stored() {
    let answers = [("", 60, "empty token"), ("secret", 0, "0ns"), ("secret", 11 * 365 * 86_400, "10 years")];
    for (secret, seconds, words) in answers {
        let source = move |_: &Attempt| Ok(Fetched::new(secret, Duration::from_secs(seconds)));
        let manager = TokenManager::builder("t").store(MemoryStore::new()).source(source).build().unwrap();
        let error = manager.get().unwrap_err();
        let cause = error.source().unwrap().to_string();
        assert!(cause.contains(words), "{cause}");
        assert_eq!(manager.inspect().unwrap().token, None);
    }
}
