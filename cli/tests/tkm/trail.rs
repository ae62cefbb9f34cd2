//! The audit trail: from it alone the issuer's own log is made again.

use crate::support::{Asked, Bench, Mood, wait_until};
use serde_json::Value;
use std::process::Stdio;
use std::time::Duration;
use token_manager_config::fingerprint;

/// What a trail says of one fetch, in the terms of the issuer's log.
#[derive(Debug, PartialEq)]
enum Fetch {
    /// The issuer granted the token with this fingerprint.
    Granted(String),
    /// It answered in this mood.
    Answered(Mood),
    /// It granted a token that nobody got.
    Lost,
    /// Whoever was to ask died; nobody knows.
    Unknown,
}

/// Makes the issuer's log of a trail.
fn fetches(entries: &[Value]) -> Vec<Fetch> {
    let of = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    let same =
        |one: &Value, other: &Value| ["generation", "owner", "attempt"].iter().all(|name| one[*name] == other[*name]);
    let grants = entries.iter().filter(|entry| entry["event"] == "granted");
    grants
        .map(|grant| {
            let end = entries.iter().find(|entry| entry["event"] == "ended" && same(entry, grant));
            match end.map(|end| (of(end, "outcome"), of(end, "fingerprint"))) {
                None => Fetch::Unknown,
                Some((outcome, mark)) => match outcome.as_str() {
                    "committed" | "doubted" | "superseded" | "invalid" => Fetch::Granted(mark),
                    "throttled" => Fetch::Answered(Mood::Throttles),
                    "unavailable" => Fetch::Answered(Mood::Breaks),
                    "credentials_rejected" => Fetch::Answered(Mood::Refuses),
                    "unknown_outcome" => Fetch::Lost,
                    other => panic!("an outcome of another kind: {other}"),
                },
            }
        })
        .collect()
}

/// The same, of what the issuer wrote itself. `died` are the requests whose askers were killed.
fn asked(log: &[Asked], died: &[usize]) -> Vec<Fetch> {
    let fetch = |(number, asked): (usize, &Asked)| match (&asked.token, asked.mood) {
        _ if died.contains(&number) => Fetch::Unknown,
        (Some(token), Mood::Grants) => Fetch::Granted(fingerprint(token)),
        (Some(_), _) => Fetch::Lost,
        (None, mood) => Fetch::Answered(mood),
    };
    log.iter().enumerate().map(fetch).collect()
}

#[test]
fn the_issuers_log_is_made_again_from_the_trail_of_a_run_with_faults() {
    let bench = Bench::new(3600);
    bench.settings("[audit]\n", "lease = \"1500ms\"\negress = \"office\"");
    let moods = [Mood::Grants, Mood::Breaks, Mood::Grants, Mood::Throttles, Mood::Loses, Mood::Grants, Mood::Refuses];
    let mut died = Vec::new();
    for round in 0..28 {
        bench.issuer.set_mood(moods[round % moods.len()]);
        bench.issuer.set_latency(Duration::from_millis(if round % 7 == 5 { 300 } else { 0 }));
        let before = bench.issuer.log().len();
        if round % 7 == 5 {
            // Its process is killed after the issuer has granted, before it has heard of that.
            let mut child = bench.tkm(&["get", "api"]).stdout(Stdio::null()).spawn().expect("tkm");
            bench.issuer.wait_for(before + 1);
            child.kill().expect("it lives");
            child.wait().expect("an end");
            died.push(before);
        }
        let getting: Vec<_> = (0..4)
            .map(|_| bench.tkm(&["get", "api"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("tkm"))
            .collect();
        getting.into_iter().for_each(|mut child| assert!(child.wait().is_ok()));
        if round == 13 {
            bench.redis.pause();
            assert_eq!(bench.run(&["get", "api"]).code, 69);
            bench.redis.resume();
        }
        bench.answer(&["lift-pause", "api"]);
        bench.answer(&["invalidate", "api"]);
    }
    let text = bench.answer(&["log", "api", "--count", "100000", "--output", "json"]);
    let entries: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let log = bench.issuer.log();
    assert!(log.len() >= 28 && died.len() == 4, "{} requests, {} died", log.len(), died.len());
    assert_eq!(fetches(&entries), asked(&log, &died));

    for entry in entries.iter().filter(|entry| entry["event"] == "ended") {
        assert_eq!(
            (entry["egress"].as_str(), entry["owner"].as_str().map(str::len)),
            (Some("office"), Some(36)),
            "{entry}"
        );
        assert!(
            entry["host"].is_string() && entry["took_ms"].as_str().is_some_and(|took| took.parse::<u64>().is_ok()),
            "{entry}"
        );
    }
    let raw = bench.redis.command(&["XRANGE", "tm:{api}:api:log", "-", "+"]);
    assert!(raw.contains(&fingerprint("tkm-secret-1")), "{raw}");
    assert!(!raw.contains("tkm-secret") && !raw.contains("hunter2"), "no secret is in it");
    println!("{} requests, {} entries", log.len(), entries.len());
}

#[test]
fn a_trail_is_capped_and_can_be_followed() {
    let bench = Bench::new(3600);
    let none = bench.run(&["log", "api"]);
    assert!(none.code == 78 && none.stderr.contains("no trail is kept; add the table [audit]"), "{none:?}");
    bench.settings("[audit]\nentries = 10\n", "");
    assert_eq!(bench.answer(&["log", "api"]), "");
    let path = bench.path("followed");
    let out = std::fs::File::create(&path).expect("a file");
    let mut following = bench.tkm(&["log", "api", "--follow"]).stdout(out).spawn().expect("tkm");
    let config = token_manager_config::Config::read(bench.path("tkm.toml")).expect("settings");
    let manager = config.manager("api").expect("a manager");
    for _ in 0..150 {
        manager.invalidate(&manager.get().expect("a token"));
    }
    // Redis caps a stream by whole nodes of a hundred entries.
    let kept: usize = bench.redis.command(&["XLEN", "tm:{api}:api:log"]).parse().expect("a number");
    assert!((10..=220).contains(&kept), "{kept} entries of 450 are kept");
    assert_eq!(bench.answer(&["log", "api", "--count", "7"]).lines().count(), 7);
    wait_until("the last one is there", || {
        let text = std::fs::read_to_string(&path).expect("a file");
        text.contains(&fingerprint("tkm-secret-150"))
    });
    following.kill().expect("it lives");
    following.wait().expect("an end");
    let line = bench.answer(&["log", "api", "--count", "2"]);
    assert!(line.contains(" committed in ") && line.contains(" token ") && line.contains(" egress default"), "{line}");
}
