//! Settings that contradict each other or the rules are refused with an error that names them.

use std::error::Error as _;
use std::time::Duration;
use token_manager::{
    Attempt, Budget, Builder, ErrorKind, Execution, Fetched, MemoryStore, Portion, RedisStore, TokenManager,
};

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
    redis(builder("t")).execution(Execution::Inline).build().unwrap();
}

#[test]
fn a_lease_shorter_than_three_store_timeouts_is_refused() {
    refused(redis(builder("t")).lease(Duration::from_millis(1499)), &["lease", "1.499s", "store's timeout", "500ms"]);
    redis(builder("t")).lease(Duration::from_millis(1500)).build().unwrap();
}

#[test]
fn an_inline_lease_that_the_fetch_may_outlast_is_refused() {
    let inline = || redis(builder("t")).execution(Execution::Inline);
    refused(inline().lease(Duration::from_secs(11)), &["lease", "11s", "fetch_limit", "10s"]);
    inline().lease(Duration::from_millis(11_001)).build().unwrap();
    let slow = RedisStore::options("redis://127.0.0.1:1/").io_timeout(Duration::from_secs(1)).open().unwrap();
    refused(builder("t").store(slow).execution(Execution::Inline), &["lease", "store's timeout", "1s"]);
}

#[test]
fn an_inline_deadline_that_leaves_no_time_to_fetch_is_refused() {
    let inline = || builder("t").execution(Execution::Inline).fetch_limit(Duration::from_secs(3));
    refused(inline().deadline(Duration::from_secs(3)), &["deadline is 3s", "fetch_limit is 3s"]);
    inline().deadline(Duration::from_millis(3_001)).build().unwrap();
    builder("t").fetch_limit(Duration::from_secs(3)).deadline(Duration::from_secs(1)).build().unwrap();
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
fn shares_of_a_life_that_make_no_sense_are_refused() {
    for bad in [f64::NAN, f64::NEG_INFINITY, -0.1, 0.0, 0.00009, 0.2501, 1.0, f64::INFINITY] {
        let words = ["refresh_before", &format!("{bad:?}"), "0.0001", "0.25"];
        refused(builder("t").refresh_before(Portion::Share(bad)), &words);
        let words = ["margin", &format!("{bad:?}"), "0.0001", "0.125"];
        refused(builder("t").margin(Portion::Share(bad)), &words);
    }
    builder("t").refresh_before(Portion::Share(0.25)).margin(Portion::Share(0.125)).build().unwrap();
    builder("t").refresh_before(Portion::Share(0.0002)).margin(Portion::Share(0.0001)).build().unwrap();
}

#[test]
fn spans_of_a_life_that_make_no_sense_are_refused() {
    let ten_years = Duration::from_secs(10 * 365 * 86_400);
    for bad in [Duration::ZERO, Duration::from_micros(999), ten_years + Duration::from_nanos(1), Duration::MAX] {
        let words = [&format!("{bad:?}"), "1 ms", "10 years"];
        refused(builder("t").refresh_before(bad), &[&words[..], &["refresh_before"]].concat());
        refused(builder("t").margin(bad), &[&words[..], &["margin"]].concat());
    }
    builder("t").refresh_before(ten_years).margin(Duration::from_millis(1)).build().unwrap();
    builder("t").refresh_before(Duration::from_millis(1)).build().unwrap();
}

#[test]
fn a_margin_above_half_of_the_refresh_window_is_refused_where_that_can_be_told() {
    let (seconds, share) = (Duration::from_secs, Portion::Share);
    let both = |refresh: Portion, margin: Portion| builder("t").refresh_before(refresh).margin(margin);
    refused(both(share(0.1), share(0.06)), &["margin", "Share(0.06)", "refresh_before", "Share(0.1)", "half"]);
    refused(both(seconds(10).into(), seconds(6).into()), &["margin", "6s", "refresh_before", "10s", "half"]);
    refused(builder("t").margin(share(0.11)), &["margin", "Share(0.11)", "refresh_before", "Share(0.2)"]);
    both(share(0.1), share(0.05)).build().unwrap();
    both(seconds(10).into(), seconds(5).into()).build().unwrap();
    both(share(0.1), seconds(3600).into()).build().unwrap();
    both(seconds(10).into(), share(0.125)).build().unwrap();
}

#[test]
fn a_token_expires_by_the_margin_that_was_set() {
    let minute = Duration::from_secs(60);
    let rows = [
        (builder("t"), 57),
        (builder("t").margin(Portion::Share(0.1)), 54),
        (builder("t").margin(Duration::from_secs(4)), 56),
        (builder("t").refresh_before(Duration::from_secs(4)), 58), // half of it
    ];
    for (builder, seconds) in rows {
        let left = builder.build().unwrap().get().unwrap().expires_in();
        let (least, most) = (Duration::from_secs(seconds - 2), Duration::from_secs(seconds));
        assert!(left <= most && left > least, "{left:?} of {minute:?}, not {most:?}");
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
        refused(builder("t").grant(bad), &["grant"]);
        refused(builder("t").egress(bad), &["egress"]);
    }
    refused(builder("budget"), &["name", "taken"]);
    refused(builder("t").grant("pause:a"), &["grant", "taken"]);
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
