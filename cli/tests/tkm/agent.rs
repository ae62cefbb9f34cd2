//! The agent: files that are always whole, a socket that curl can ask, a service manager that is told.

use crate::service::{Agent, SOCKET, curl};
use crate::support::{Bench, Ran, wait_until};
use rustix::process::Signal;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn curl_asks_the_agent_and_so_does_tkm() {
    let bench = Bench::new(3600);
    bench.settings(SOCKET, "");
    let agent = Agent::start(&bench);
    let socket = bench.path("sock");
    assert_eq!(fs::metadata(&socket).expect("a socket").permissions().mode() & 0o777, 0o600);
    assert_eq!(curl(&socket, &["http://tkm/token/api"]).stdout, "tkm-secret-1\n");
    let told: serde_json::Value =
        serde_json::from_str(&curl(&socket, &["http://tkm/token/api?output=json"]).stdout).expect("JSON");
    let fields: Vec<&String> = told.as_object().expect("an object").keys().collect();
    assert_eq!(fields, ["expires_in_ms", "generation", "stale", "token"], "and never the carried secret");
    let status = |args: &[&str]| {
        curl(&socket, &[&["--output", "/dev/null", "--write-out", "%{http_code}"], args].concat()).stdout
    };
    assert_eq!(status(&["http://tkm/token/other"]), "404");
    assert_eq!(status(&["http://tkm/token/api", "--request", "DELETE"]), "405");
    assert_eq!(status(&["http://tkm/invalidate/api", "--request", "POST"]), "400");
    assert_eq!(status(&["http://tkm/invalidate/api", "--data", "another"]), "200");
    assert_eq!(curl(&socket, &["http://tkm/token/api"]).stdout, "tkm-secret-1\n", "another token was refused");
    assert_eq!(status(&["http://tkm/invalidate/api", "--data", "tkm-secret-1"]), "200");
    assert_eq!(curl(&socket, &["http://tkm/token/api"]).stdout, "tkm-secret-2\n");
    assert!(curl(&socket, &["http://tkm/metrics"]).stdout.contains("token=\"api\"} 2\n"));

    bench.redis.pause(); // the agent has the token at hand; the store answers nobody
    assert_eq!(bench.answer(&["get", "api"]), "tkm-secret-2");
    bench.redis.resume();
    let children: Vec<_> =
        (0..100).map(|_| bench.tkm(&["get", "api"]).stdout(Stdio::piped()).spawn().expect("tkm")).collect();
    for child in children {
        assert_eq!(Ran::from(child.wait_with_output().expect("an end")).stdout, "tkm-secret-2\n");
    }
    assert_eq!(bench.issuer.log().len(), 2);
    assert_eq!(agent.end(), Some(0));
    assert!(!socket.exists(), "it removes its socket");
    assert_eq!(bench.answer(&["get", "api"]), "tkm-secret-2", "without an agent the store is asked");
}

#[test]
fn a_flood_of_bad_clients_keeps_nobody_from_a_token() {
    let bench = Bench::new(3600);
    bench.settings(SOCKET, "");
    let _agent = Agent::start(&bench);
    let socket = bench.path("sock");
    let mute: Vec<UnixStream> = (0..60).map(|_| UnixStream::connect(&socket).expect("a connection")).collect();
    for nonsense in
        [&b"\x16\x03\x01"[..], b"GET", &[b'a'; 100_000], b"GET / HTTP/1.1\r\nContent-Length: 9999999999\r\n\r\n"]
    {
        let mut stream = UnixStream::connect(&socket).expect("a connection");
        let _ = stream.write_all(nonsense); // it may have been refused in the middle
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer); // so may the rest of the answer
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    assert_eq!(curl(&socket, &["http://tkm/token/api"]).stdout, "tkm-secret-1\n");
    drop(mute);
}

/// Reads a file over and over, and counts what is not as it must be.
fn read_all_the_time(path: &Path, ended: &AtomicBool, wrong: &AtomicUsize, reads: &AtomicUsize, owner: (u32, u32)) {
    while !ended.load(Ordering::Relaxed) {
        let mut file = fs::File::open(path).expect("it is always there");
        let about = file.metadata().expect("a file");
        let mut text = String::new();
        file.read_to_string(&mut text).expect("text");
        let number = text.strip_prefix("tkm-secret-").and_then(|rest| rest.strip_suffix('\n'));
        let whole = number.is_some_and(|number| number.parse::<u32>().is_ok());
        let right = about.mode() & 0o7777 == 0o640 && (about.uid(), about.gid()) == owner;
        wrong.fetch_add(usize::from(!whole || !right), Ordering::Relaxed);
        reads.fetch_add(1, Ordering::Relaxed);
        // A thousand readers share the machine with the agent.
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_thousand_readers_during_a_thousand_rotations_read_whole_files_of_the_right_owner() {
    let bench = Bench::new(3600);
    // As root for another user, else for one's own.
    let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let owner = if own.0 == 0 { (65534, 65534) } else { own };
    let file = format!(
        "[[tokens.api.files]]\npath = \"token\"\nmode = \"0640\"\nowner = \"{}\"\ngroup = \"{}\"\n",
        owner.0, owner.1
    );
    bench.settings("", &file);
    let text = fs::read_to_string(bench.path("tkm.toml")).expect("settings");
    let text = text.replace("per_minute = 6000, burst = 1000", "per_minute = 60000, burst = 60000");
    fs::write(bench.path("tkm.toml"), text).expect("settings");
    let _agent = Agent::start(&bench);
    let path = bench.path("token");
    let (ended, wrong, reads) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let readers: Vec<_> = (0..1000)
        .map(|_| {
            let (path, ended, wrong, reads) = (path.clone(), ended.clone(), wrong.clone(), reads.clone());
            let read = move || read_all_the_time(&path, &ended, &wrong, &reads, owner);
            thread::Builder::new().stack_size(64 << 10).spawn(read).expect("a thread")
        })
        .collect();
    let config = token_manager_config::Config::read(bench.path("tkm.toml")).expect("settings");
    let (store, name) = (config.store("api").expect("a store"), config.token_name("api").expect("a name"));
    for rotation in 1..=1000 {
        let (generation, _) = store.inspect(&name, "default").expect("a store").token.expect("a token");
        store.invalidate(&name, generation).expect("a store");
        let wanted = format!("tkm-secret-{}\n", rotation + 1);
        wait_until("the file is new", || fs::read_to_string(&path).is_ok_and(|text| text == wanted));
    }
    ended.store(true, Ordering::Relaxed);
    readers.into_iter().for_each(|reader| reader.join().expect("a reader"));
    println!("{} reads", reads.load(Ordering::Relaxed));
    assert!(reads.load(Ordering::Relaxed) > 10_000);
    assert_eq!(wrong.load(Ordering::Relaxed), 0);
}

#[test]
fn a_killed_agent_leaves_a_whole_file_and_the_next_one_clears_up() {
    let bench = Bench::new(3600);
    bench.settings(SOCKET, "[[tokens.api.files]]\npath = \"token\"\n");
    let path = bench.path("token");
    for round in 0..20 {
        let agent = Agent::start(&bench);
        bench.run(&["invalidate", "api", "--direct"]);
        // At another moment of the rotation each time.
        thread::sleep(Duration::from_millis(2 * round));
        drop(agent);
        let text = fs::read_to_string(&path).expect("a file");
        assert!(text.starts_with("tkm-secret-") && text.ends_with('\n'), "{text:?}");
        assert_eq!(fs::metadata(&path).expect("a file").mode() & 0o7777, 0o600);
    }
    bench.settings(&format!("{SOCKET}metrics_file = \"metrics\"\n"), "[[tokens.api.files]]\npath = \"token\"\n");
    let hour_ago = std::time::SystemTime::now() - Duration::from_secs(3600);
    let leave = |name: &str| {
        let mut file = fs::File::create(bench.path(name)).expect("a file");
        file.write_all(b"left").expect("a file");
        file.set_modified(hour_ago).expect("a time");
    };
    let (ours, others) =
        ([".token.tkm-1-0", ".metrics.tkm-12-345"], [".token.tkm-1", ".token.tkm-notes-1", ".other.tkm-1-0"]);
    ours.iter().chain(&others).for_each(|name| leave(name));
    fs::create_dir(bench.path(".tkm-1-0")).expect("a folder");
    leave(".tkm-1-0/s");
    fs::File::open(bench.path(".tkm-1-0")).expect("a folder").set_modified(hour_ago).expect("a time");
    let agent = Agent::start(&bench);
    assert!(!bench.path(".tkm-1-0").exists(), "nor does the socket's folder stay");
    ours.iter().for_each(|name| assert!(!bench.path(name).exists(), "{name}: what a killed agent left is removed"));
    others.iter().for_each(|name| assert!(bench.path(name).exists(), "{name} is somebody else's"));
    assert_eq!(agent.end(), Some(0));
}

#[test]
fn a_hook_runs_after_each_change_and_is_not_told_the_token() {
    let bench = Bench::new(3600);
    let hook = "cat \\\"$TKM_FILE\\\" >>seen; env >>told";
    let file = format!(
        "[[tokens.api.files]]\npath = \"token\"\ntemplate = \"X {{token}}.\"\nhook = [\"sh\", \"-c\", \"cd {} && {hook}\"]\n",
        bench.folder.path().display()
    );
    bench.settings("", &file);
    let _agent = Agent::start(&bench);
    bench.answer(&["rotate", "api", "--direct"]);
    wait_until("the hook has run twice", || {
        fs::read_to_string(bench.path("seen")).is_ok_and(|seen| seen == "X tkm-secret-1.X tkm-secret-2.")
    });
    wait_until("it has told its environment", || {
        fs::read_to_string(bench.path("told")).is_ok_and(|told| told.matches("TKM_NAME=api").count() == 2)
    });
    assert!(!fs::read_to_string(bench.path("told")).expect("a file").contains("tkm-secret"));
}

#[test]
fn the_service_manager_hears_of_everything() {
    let bench = Bench::new(3600);
    bench.settings(SOCKET, "");
    let agent = Agent::start_with(&bench, |command| {
        command.env("WATCHDOG_USEC", "200000");
    });
    agent.wait_for("STATUS=1 tokens are fresh");
    let begun = Instant::now();
    (0..10).for_each(|_| drop(agent.wait_for("WATCHDOG=1")));
    assert!(begun.elapsed() < Duration::from_secs(10), "ten signs of life in {:?}", begun.elapsed());

    bench.settings("[agent]\nsocket = \"other\"\n", "[[tokens.api.files]]\npath = \"token\"\n");
    agent.signal(Signal::HUP);
    assert!(agent.wait_for("RELOADING=1").contains("\nMONOTONIC_USEC="));
    agent.wait_for("READY=1");
    assert!(!bench.path("sock").exists() && bench.path("other").exists());
    wait_until("the new file is there", || bench.path("token").exists());

    fs::write(bench.path("tkm.toml"), "[tokens.").expect("a file");
    agent.signal(Signal::HUP);
    agent.wait_for("READY=1");
    assert!(fs::read_to_string(bench.path("stderr")).expect("a file").contains("the settings stay as they were: "));
    assert_eq!(curl(&bench.path("other"), &["http://tkm/token/api"]).stdout, "tkm-secret-1\n");
    agent.signal(Signal::TERM);
    agent.wait_for("STOPPING=1");
}

#[test]
fn two_agents_do_not_share_a_socket_but_share_files() {
    let bench = Bench::new(3600);
    bench.settings(SOCKET, "[[tokens.api.files]]\npath = \"token\"\n");
    let _one = Agent::start(&bench);
    let second = bench.run(&["agent"]);
    assert_eq!(second.code, 78, "{second:?}");
    assert!(second.stderr.contains("an agent answers on"), "{second:?}");
    bench.settings("[agent]\nsocket = \"other\"\n", "[[tokens.api.files]]\npath = \"token\"\n");
    let _two = Agent::start(&bench);
    for number in 2..12 {
        bench.answer(&["rotate", "api"]);
        let wanted = format!("tkm-secret-{number}\n");
        wait_until("the file is new", || fs::read_to_string(bench.path("token")).is_ok_and(|text| text == wanted));
    }
    assert_eq!(bench.issuer.log().len(), 11);
}

#[test]
fn an_agent_without_a_token_is_ready_and_says_so_with_the_same_exit_codes() {
    let bench = Bench::new(3600);
    bench.settings(SOCKET, "[[tokens.api.files]]\npath = \"token\"\n");
    bench.issuer.set_mood(crate::support::Mood::Refuses);
    let agent = Agent::start(&bench);
    agent.wait_for("STATUS=1 tokens, of which these are not fresh: api");
    assert!(!bench.path("token").exists());
    let ran = bench.run(&["get", "api"]);
    assert_eq!((ran.code, &*ran.stdout), (77, ""), "{ran:?}");
    let answer = curl(&bench.path("sock"), &["--include", "http://tkm/token/api"]).stdout;
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("Retry-After: "), "{answer}");
    bench.issuer.set_mood(crate::support::Mood::Grants);
    assert_eq!(bench.run(&["lift-pause", "api"]).code, 0);
    wait_until("the file is there", || bench.path("token").exists());
}
