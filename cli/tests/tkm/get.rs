//! `check`, `get`, `invalidate`, `rotate`: answers, exit codes, and what must never be seen.

use crate::support::{Bench, Mood, Ran};
use serde_json::Value;
use std::fs;
use std::process::Stdio;
use std::time::Duration;

#[test]
fn a_token_is_all_that_get_prints_and_the_fleet_shares_it() {
    let bench = Bench::new(3600);
    for _ in 0..3 {
        let ran = bench.run(&["get", "api"]);
        assert_eq!((ran.code, &*ran.stdout, &*ran.stderr), (0, "tkm-secret-1\n", ""));
    }
    assert_eq!(bench.issuer.log().len(), 1);
}

#[test]
fn commands_of_one_host_share_a_token_in_files_without_a_server() {
    let bench = Bench::new(3600);
    let text = fs::read_to_string(bench.path("tkm.toml")).expect("settings");
    fs::write(bench.path("tkm.toml"), text.replace(&bench.redis.url(), "file:store")).expect("settings");
    let start = |_| bench.tkm(&["get", "api"]).stdout(Stdio::piped()).spawn().expect("tkm");
    let children: Vec<_> = (0..20).map(start).collect();
    for child in children {
        assert_eq!(Ran::from(child.wait_with_output().expect("an end")).stdout, "tkm-secret-1\n");
    }
    assert!(bench.answer(&["inspect", "api"]).contains("  state        valid\n"));
    assert_eq!(bench.issuer.log().len(), 1);
}

#[test]
fn a_hundred_commands_at_once_make_one_fetch() {
    let bench = Bench::new(3600);
    bench.issuer.set_latency(Duration::from_millis(500));
    let start = |_| bench.tkm(&["get", "api"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("tkm");
    let children: Vec<_> = (0..100).map(start).collect();
    for child in children {
        let ran = Ran::from(child.wait_with_output().expect("an end"));
        assert_eq!((ran.code, &*ran.stdout, &*ran.stderr), (0, "tkm-secret-1\n", ""));
    }
    assert_eq!(bench.issuer.log().len(), 1);
}

#[test]
fn each_failure_has_its_own_exit_code_and_prints_nothing_but_a_reason() {
    let mut bench = Bench::new(3600);
    let failed = |bench: &Bench, args: &[&str]| {
        let ran = bench.run(args);
        assert_eq!(ran.stdout, "", "{args:?}");
        assert!(ran.stderr.starts_with("tkm: "), "{args:?}: {ran:?}");
        assert!(!ran.stderr.contains("hunter2"), "{ran:?}");
        ran.code
    };
    assert_eq!(failed(&bench, &["get"]), 64);
    assert_eq!(failed(&bench, &["got", "api"]), 64);
    assert_eq!(failed(&bench, &["get", "api", "--nothing"]), 64);
    assert_eq!(failed(&bench, &["get", "api", "--output", "xml"]), 64);
    assert_eq!(failed(&bench, &["get", "other"]), 78);
    assert_eq!(failed(&bench, &["get", "api", "--config", "/nowhere"]), 78);

    for (mood, code) in [(Mood::Breaks, 75), (Mood::Throttles, 75), (Mood::Refuses, 77)] {
        bench.issuer.set_mood(mood);
        assert_eq!(failed(&bench, &["get", "api"]), code, "{mood:?}");
        let asked = bench.issuer.log().len();
        assert_eq!(failed(&bench, &["get", "api"]), code, "{mood:?}: the pause is told alike");
        assert_eq!(bench.issuer.log().len(), asked, "and asks nobody");
        assert_eq!(bench.run(&["lift-pause", "api"]).code, 0);
    }
    bench.issuer.set_mood(Mood::Grants);
    bench.settings("", "lease = \"0ms\"");
    assert_eq!(failed(&bench, &["get", "api"]), 78);
    bench.settings("", "");
    bench.redis.kill();
    assert_eq!(failed(&bench, &["get", "api"]), 69);
    assert_eq!(failed(&bench, &["invalidate", "api"]), 69);
}

#[test]
fn a_used_up_budget_is_told_as_a_matter_of_time() {
    let bench = Bench::new(3600);
    bench.settings("", "deadline = \"200ms\"");
    let text = fs::read_to_string(bench.path("tkm.toml")).expect("settings");
    let text = text.replace("per_minute = 6000, burst = 1000", "per_minute = 1, burst = 1");
    fs::write(bench.path("tkm.toml"), text).expect("settings");
    assert_eq!(bench.answer(&["get", "api"]), "tkm-secret-1");
    let ran = bench.run(&["rotate", "api"]);
    assert_eq!(ran.code, 75, "{ran:?}");
    assert_eq!(bench.issuer.log().len(), 1);
}

#[test]
fn check_tells_every_mistake_with_its_line() {
    let bench = Bench::new(3600);
    assert_eq!(bench.answer(&["check"]), "the settings can be used; tokens: api");
    assert_eq!(bench.answer(&["check", "--connect"]), "the settings can be used; tokens: api");
    bench.settings(
        "[stores.other]\nurl = \"mysql://\"",
        "store = \"man\"\nlease = \"3s\"\n[[tokens.api.files]]\npath = \"x\"\nmode = \"9\"\n",
    );
    let ran = bench.run(&["check"]);
    assert_eq!((ran.code, &*ran.stdout), (78, ""));
    let file = bench.path("tkm.toml").display().to_string();
    let lines: Vec<String> = ran.stderr.lines().map(|line| line.replace(&file, "FILE")).collect();
    assert_eq!(lines.len(), 4, "{lines:#?}");
    assert!(lines[0].starts_with("tkm: FILE:2: stores.other.url: is no address of a store"), "{lines:#?}");
    assert!(lines[1].starts_with("tkm: FILE:7: tokens.api.store: there is no table [stores.man]"), "{lines:#?}");
    assert!(lines[2].starts_with("tkm: FILE:11: tokens.api.files.0.mode: is no octal number"), "{lines:#?}");
    assert_eq!(lines[3], "tkm: 3 of the settings cannot be used");
}

#[test]
fn neither_check_nor_inspect_makes_a_folder_a_lock_or_a_journal() {
    let bench = Bench::new(3600);
    bench.settings("", "journal = \"journal\"");
    let text = fs::read_to_string(bench.path("tkm.toml")).expect("settings");
    fs::write(bench.path("tkm.toml"), text.replace(&bench.redis.url(), "file:store")).expect("settings");
    let names = || {
        let names = fs::read_dir(bench.folder.path()).expect("a folder").map(|file| file.expect("a file").file_name());
        names.collect::<std::collections::BTreeSet<_>>()
    };
    let before = names();
    bench.answer(&["check", "--connect"]);
    assert!(bench.answer(&["inspect"]).contains("  state        absent\n"));
    assert_eq!(names(), before);
    assert_eq!(bench.answer(&["get", "api"]), "tkm-secret-1");
    assert_eq!(names().len(), before.len() + 2, "the store and the journal");
    assert!(bench.answer(&["inspect"]).contains("  state        valid\n"));
}

#[test]
fn whatever_a_file_can_be_written_as_get_prints_too() {
    let bench = Bench::new(3600);
    bench.issuer.set_secret(r#"{"AccessKeyId":"AK","SecretAccessKey":"SK"}"#);
    for output in token_manager_config::FILE_OUTPUTS {
        assert_ne!(bench.answer(&["get", "api", "--output", output]), "", "{output}");
    }
}

#[test]
fn invalidate_ends_a_token_for_everybody_and_rotate_brings_the_next() {
    let bench = Bench::new(3600);
    assert_eq!(bench.answer(&["invalidate", "api"]), "there was no token to invalidate");
    assert_eq!(bench.answer(&["get", "api"]), "tkm-secret-1");
    let told = bench.answer(&["invalidate", "api"]);
    assert!(told.starts_with("generation ") && told.ends_with(" was invalidated"), "{told}");
    assert_eq!(bench.issuer.log().len(), 1, "it fetches nothing");
    assert_eq!(bench.answer(&["get", "api"]), "tkm-secret-2");
    assert_eq!(bench.answer(&["invalidate", "api", "--generation", "1"]), "generation 1 was invalidated");
    assert_eq!(bench.answer(&["get", "api"]), "tkm-secret-2", "an old generation concerns no newer one");
    let told = bench.answer(&["rotate", "api"]);
    assert!(told.starts_with("generation ") && told.ends_with(" is in use"), "{told}");
    assert_eq!(bench.answer(&["get", "api"]), "tkm-secret-3");
}

#[test]
fn a_refresh_that_a_command_begins_is_brought_to_its_end() {
    let bench = Bench::new(10);
    assert_eq!(bench.answer(&["get", "api"]), "tkm-secret-1");
    bench.issuer.set_latency(Duration::from_millis(300));
    // Between 7 and 8 seconds of its life it is due; it is served on until 9.5, so each command either has it or its successor.
    while bench.issuer.log().len() == 1 {
        let token = bench.answer(&["get", "api"]);
        assert!(["tkm-secret-1", "tkm-secret-2"].contains(&&*token), "{token}");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(bench.answer(&["get", "api"]), "tkm-secret-2", "committed before the command that fetched it ended");
    assert_eq!(bench.issuer.log().len(), 2);
}

#[test]
fn outputs_are_as_their_conventions_say() {
    let bench = Bench::new(3600);
    let soon = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_secs() as i64;
    let in_an_hour = |seconds: i64| (soon + 3500..=soon + 3630).contains(&seconds);
    let json = |output: &str| -> Value {
        serde_json::from_str(&bench.answer(&["get", "api", "--output", output])).expect("JSON")
    };
    let is_in_an_hour = |date: &Value| {
        let date = date.as_str().expect("a date");
        assert!(date.len() == 20 && date.ends_with('Z'), "{date}");
        let printed = std::process::Command::new("date").args(["-d", date, "+%s"]).output().expect("date");
        assert!(in_an_hour(String::from_utf8_lossy(&printed.stdout).trim().parse().expect("a number")), "{date}");
    };
    assert_eq!(bench.answer(&["get", "api", "--output", "header"]), "Authorization: Bearer tkm-secret-1");
    assert_eq!(bench.answer(&["get", "api", "-o", "env"]), "export TKM_TOKEN='tkm-secret-1'");
    assert_eq!(bench.answer(&["get", "api", "-o", "env", "--variable", "X"]), "export X='tkm-secret-1'");
    let told = json("json");
    assert_eq!((&told["token"], &told["name"]), (&"tkm-secret-1".into(), &"api".into()));
    assert_eq!(told["stale"], false);
    is_in_an_hour(&told["expires_at"]);
    let told = json("exec-credential");
    assert_eq!(
        (&told["apiVersion"], &told["kind"]),
        (&"client.authentication.k8s.io/v1".into(), &"ExecCredential".into())
    );
    assert_eq!(told["status"]["token"], "tkm-secret-1");
    is_in_an_hour(&told["status"]["expirationTimestamp"]);
    let told = json("bazel");
    assert_eq!(told["headers"]["Authorization"], serde_json::json!(["Bearer tkm-secret-1"]));
    is_in_an_hour(&told["expires"]);
    assert_eq!(bench.run_with(&["get", "api", "-o", "bazel", "get"], "{\"uri\":\"https://x\"}").code, 0);
    let told = json("google");
    assert_eq!(told["version"], 1);
    assert_eq!(told["success"], true);
    assert_eq!(
        (&told["token_type"], &told["id_token"]),
        (&"urn:ietf:params:oauth:token-type:jwt".into(), &"tkm-secret-1".into())
    );
    assert!(in_an_hour(told["expiration_time"].as_i64().expect("a number")));
    let ran = bench.run(&["get", "api", "-o", "aws"]);
    assert_eq!((ran.code, &*ran.stdout), (78, ""), "a token that is no set of credentials");

    bench.issuer.set_secret(
        r#"{"Credentials":{"AccessKeyId":"AK","SecretAccessKey":"it's","SessionToken":"ST","Expiration":"x"}}"#,
    );
    bench.answer(&["rotate", "api"]);
    let told = json("aws");
    assert_eq!((&told["Version"], &told["AccessKeyId"]), (&1.into(), &"AK".into()));
    assert_eq!((&told["SecretAccessKey"], &told["SessionToken"]), (&"it's".into(), &"ST".into()));
    is_in_an_hour(&told["Expiration"]);
    let line = bench.answer(&["get", "api", "-o", "env"]);
    let shell = std::process::Command::new("sh").arg("-c").arg(format!("{line}; printf %s \"$TKM_TOKEN\"")).output();
    let text = String::from_utf8(shell.expect("a shell").stdout).expect("text");
    assert!(text.contains("\"it's\""), "quoted for a shell: {text}");
}

#[test]
fn google_is_told_of_a_failure_on_standard_output() {
    let bench = Bench::new(3600);
    bench.issuer.set_mood(Mood::Refuses);
    for (name, code) in [("api", "77"), ("other", "78")] {
        let ran = bench.run(&["get", name, "-o", "google"]);
        // Its libraries read nothing of a program that ends otherwise, and some read both outputs as one.
        assert_eq!((ran.code, &*ran.stderr), (0, ""));
        let told: Value = serde_json::from_str(&ran.stdout).expect("JSON");
        assert_eq!((&told["version"], &told["success"], &told["code"]), (&1.into(), &false.into(), &code.into()));
        assert!(told["message"].as_str().is_some_and(|message| !message.is_empty()), "{told}");
    }
    assert_eq!(bench.run(&["get", "-o", "google"]).code, 0);
}

#[test]
fn tokens_lie_sealed_and_a_wrong_key_is_told_as_a_setting_and_fetches_nothing() {
    let bench = Bench::new(3600);
    let keys = |id: &str, letter: &str| {
        fs::write(bench.path("keys"), format!("{id} {}=\n", letter.repeat(43))).expect("a file")
    };
    keys("k1", "A");
    bench.settings("[audit]\n[sealed]\nkeys = { file = \"keys\" }", "");
    assert_eq!(bench.answer(&["get", "api"]), "tkm-secret-1");
    let lies = bench.redis.command(&["HGET", "tm:{api}:api:token", "value"]);
    assert!(lies.starts_with("tm1.k1."), "{lies}");
    assert!(bench.answer(&["log", "api"]).contains(&token_manager_config::fingerprint("tkm-secret-1")));
    keys("k2", "B");
    let ran = bench.run(&["get", "api"]);
    assert_eq!((ran.code, &*ran.stdout), (78, ""), "{ran:?}");
    assert_eq!(bench.issuer.log().len(), 1);
    keys("k1", "A");
    assert_eq!(bench.answer(&["get", "api"]), "tkm-secret-1");
}
