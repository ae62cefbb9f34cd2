//! The operator's view: `inspect`, `watch`, `lift-pause`, `bench`.

use crate::support::{Bench, Mood, program, wait_until};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

fn inspected(bench: &Bench) -> Value {
    let told: Value = serde_json::from_str(&bench.answer(&["inspect", "api", "--output", "json"])).expect("JSON");
    told[0].clone()
}

#[test]
fn inspect_tells_all_that_the_store_knows_and_changes_nothing() {
    let bench = Bench::new(3600);
    let told = inspected(&bench);
    assert_eq!((&told["state"], &told["place"]), (&"absent".into(), &"tm:{api}:api".into()));
    bench.issuer.set_latency(Duration::from_millis(800));
    let mut getting = bench.tkm(&["get", "api"]).stdout(Stdio::null()).spawn().expect("tkm");
    bench.issuer.wait_for(1);
    let told = inspected(&bench);
    assert_eq!(told["state"], "being fetched");
    assert_eq!(told["updater"]["owner"].as_str().expect("an owner").len(), 36);
    assert!(told["updater"]["lease_left_ms"].as_u64().expect("a span") <= 3000);
    assert!(getting.wait().expect("an end").success());
    let told = inspected(&bench);
    assert_eq!((&told["state"], &told["pause"], &told["updater"]), (&"valid".into(), &Value::Null, &Value::Null));
    assert_eq!(told["token"]["generation"], told["granted"]);
    assert!(told["token"]["left_ms"].as_u64().expect("a span") > 3_500_000);
    assert!(told["token"]["age_ms"].as_u64().expect("a span") < 30_000);
    let text = bench.answer(&["inspect"]);
    for part in
        ["api\n  place        tm:{api}:api in redis 127.0.0.1:", "  state        valid\n", "  carry        none"]
    {
        assert!(text.contains(part), "{text}");
    }
    bench.issuer.set_mood(Mood::Breaks);
    bench.run(&["rotate", "api"]);
    let told = inspected(&bench);
    assert_eq!(
        (&told["state"], &told["pause"]["class"], &told["fails"]),
        (&"absent, paused".into(), &"unavailable".into(), &1.into())
    );
    assert_eq!(told["invalidated"], told["granted"].as_u64().map(|_| told["invalidated"].clone()).expect("a number"));
    bench.answer(&["lift-pause", "api"]);
    assert_eq!(inspected(&bench)["pause"], Value::Null);
    assert_eq!(bench.issuer.log().len(), 2, "nothing of it asked the issuer");
    assert!(!format!("{told}{text}").contains("tkm-secret"));
}

#[test]
fn watch_writes_a_line_for_each_event_and_a_page_that_a_browser_shows() {
    let bench = Bench::new(3600);
    let page = bench.path("watch.html");
    let mut command = bench.tkm(&["watch", "--record", page.to_str().expect("text")]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("tkm");
    let lines = Arc::new(Mutex::new(Vec::new()));
    let (stdout, written) = (child.stdout.take().expect("a pipe"), lines.clone());
    thread::spawn(move || {
        BufReader::new(stdout).lines().map_while(Result::ok).for_each(|line| written.lock().expect("a lock").push(line))
    });
    let await_line = |part: &str| {
        let told =
            || lines.lock().expect("a lock").iter().any(|line: &String| line.contains("Z api ") && line.contains(part));
        wait_until(&format!("a line tells: {part}"), told);
    };
    // It subscribes first.
    wait_until("it listens", || bench.redis.command(&["PUBSUB", "NUMSUB", "tm:{api}:api:events:0"]).ends_with('1'));
    bench.answer(&["get", "api"]);
    await_line("committed generation ");
    bench.issuer.set_mood(Mood::Loses);
    assert_eq!(bench.run(&["rotate", "api"]).code, 75);
    await_line("invalidated up to generation ");
    await_line("fetch failed: unknown_outcome");
    await_line("paused for ");
    bench.answer(&["lift-pause", "api"]);
    await_line("pause is over");
    bench.redis.pause();
    await_line("the store cannot be asked: ");
    bench.redis.resume();
    await_line("the store answers again");
    let pid = rustix::process::Pid::from_raw(child.id() as i32).expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it lives");
    assert!(child.wait().expect("an end").success());
    let text = fs::read_to_string(&page).expect("a page");
    assert!(text.starts_with("<!DOCTYPE html>") && text.ends_with("</html>\n"));
    assert!(text.contains("1 commits, 1 failures") && text.contains("<polyline points="), "{text}");
    assert_eq!(text.matches("<svg").count(), text.matches("</svg>").count());
    assert!(!text.contains("tkm-secret") && !text.contains("http://") && !text.contains("src="), "it loads nothing");
}

#[test]
fn watch_draws_a_screen_on_a_terminal_and_gives_it_back() {
    let bench = Bench::new(3600);
    bench.answer(&["get", "api"]);
    let watch = format!("{} watch --for 2s", env!("CARGO_BIN_EXE_tkm"));
    let output = Command::new(program("script"))
        .args(["--quiet", "--return", "--command", &watch, "/dev/null"])
        .env("TKM_CONFIG", bench.path("tkm.toml"))
        .stdin(Stdio::null())
        .output()
        .expect("script");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("\x1b[?1049h") && text.trim_end().ends_with("\x1b[?1049l"), "{text:?}");
    assert!(text.contains("valid") && text.contains("████"), "{text:?}");
}

#[test]
fn bench_measures_a_store_and_leaves_the_fleet_alone() {
    let bench = Bench::new(3600);
    let told: Value =
        serde_json::from_str(&bench.answer(&["bench", "api", "--count", "20", "--output", "json"])).expect("JSON");
    assert_eq!(told["events lost"], 0);
    let rows = told.as_object().expect("an object");
    assert_eq!(rows.len(), 6);
    for (what, times) in rows.iter().filter(|(what, _)| *what != "events lost") {
        let [p50, p99, max] = ["p50_us", "p99_us", "max_us"].map(|part| times[part].as_f64().expect("a number"));
        assert!(p50 > 0.0 && p50 <= p99 && p99 <= max, "{what}: {times}");
    }
    let hit = &told["any further get"]["p50_us"];
    assert!(
        hit.as_f64().expect("a number")
            < told["look into the store (one exchange)"]["p50_us"].as_f64().expect("a number")
    );
    assert_eq!(bench.redis.command(&["KEYS", "tm:*"]), "", "no key of the fleet");
    assert_eq!(bench.issuer.log().len(), 0);
    assert!(bench.answer(&["bench", "api", "--count", "5"]).contains("a commit until a waiting process is told"));
}
