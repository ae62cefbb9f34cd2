//! The agent when something is in its way: files that cannot be written, settings that cannot be used, signals at the wrong moment.

use crate::service::{Agent, SOCKET, curl};
use crate::support::{Bench, LONG, Ran, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

/// A second token, one file of which has an owner that there is not.
const NOBODYS: &str = "[tokens.zzz]\nstore = \"main\"\n[[tokens.zzz.files]]\npath = \"z\"\nowner = \"nobody-of-that-name\"\n\
    [tokens.zzz.source.command]\nrun = [\"true\"]\nplain_text = true\nlife = \"1h\"\n";

#[test]
fn a_file_that_cannot_be_written_is_told_of_and_tried_again_alone() {
    let bench = Bench::new(3600);
    let file = |path: &str| format!("[[tokens.api.files]]\npath = \"{path}\"\nhook = [\"./hook\"]\n");
    fs::write(bench.path("hook"), "#!/bin/sh\necho \"$TKM_FILE\" >>\"$(dirname \"$0\")/ran\"\n").expect("a file");
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(bench.path("hook"), executable).expect("a file");
    bench.settings(SOCKET, &(file("later/token") + &file("token")));
    let agent = Agent::start(&bench);
    let (good, bad) = (bench.path("token"), bench.path("later/token"));
    let told = agent.wait_for("STATUS=1 tokens are fresh; files that cannot be written: ");
    assert!(told.ends_with(&*bad.to_string_lossy()), "{told}");
    let behind = |path: &std::path::Path| {
        let metrics = curl(&bench.path("sock"), &["http://tkm/metrics"]).stdout;
        let file = format!(",file=\"{}\"}} ", path.display());
        let found = metrics.lines().find_map(|line| line.strip_prefix("token_manager_file_behind")?.split_once(&file));
        assert!(metrics.ends_with("\n# EOF\n") && metrics.matches("# EOF").count() == 1, "{metrics}");
        found.map(|(_, value)| value.to_owned()).expect("a value")
    };
    assert_eq!((behind(&bad), behind(&good)), ("1".into(), "0".into()));
    fs::create_dir(bench.path("later")).expect("a folder");
    wait_until("the file is there", || fs::read_to_string(&bad).is_ok_and(|text| text == "tkm-secret-1\n"));
    while agent.wait_for("STATUS=") != "STATUS=1 tokens are fresh" {}
    assert_eq!((behind(&bad), behind(&good)), ("0".into(), "0".into()));
    let ran = fs::read_to_string(bench.path("ran")).expect("the hooks have run");
    assert_eq!(ran, format!("{}\n{}\n", good.display(), bad.display()), "each once");
    assert_eq!(bench.issuer.log().len(), 1);
}

#[test]
fn a_command_beside_a_file_gets_the_token_that_could_not_be_written_at_first() {
    let bench = Bench::new(3600);
    let script = "D=$(dirname $TKM_TOKEN_FILE); mv $D $D.away; touch moved; while [ ! -e back ]; do sleep 0.01; done
        mv $D.away $D; for i in $(seq 1000); do grep -q tkm-secret-2 $TKM_TOKEN_FILE && exit 5; sleep 0.01; done; exit 6";
    let mut command = bench.tkm(&["exec", "--file", "api", "sh", "-c", script]);
    command.current_dir(bench.folder.path()).stderr(fs::File::create(bench.path("stderr")).expect("a file"));
    let mut child = command.spawn().expect("tkm");
    wait_until("the folder is away", || bench.path("moved").exists());
    bench.answer(&["rotate", "api"]);
    wait_until("a write has failed", || {
        fs::read_to_string(bench.path("stderr")).is_ok_and(|text| text.contains(" cannot be written: "))
    });
    fs::write(bench.path("back"), "").expect("a file");
    assert_eq!(child.wait().expect("an end").code(), Some(5));
}

#[test]
fn the_agent_ends_no_sooner_than_what_is_under_way_and_lives_meanwhile() {
    let bench = Bench::new(3600);
    bench.settings(SOCKET, "");
    let agent = Agent::start_with(&bench, |command| {
        command.env("WATCHDOG_USEC", "200000");
    });
    bench.issuer.set_latency(Duration::from_secs(3));
    let socket = bench.path("sock");
    assert_eq!(curl(&socket, &["http://tkm/invalidate/api", "--data", "tkm-secret-1"]).code, 0);
    let mut asked = UnixStream::connect(&socket).expect("a connection");
    asked.write_all(b"GET /token/api HTTP/1.1\r\n\r\n").expect("a request");
    // It stood behind that one in the line.
    assert_eq!(curl(&socket, &["http://tkm/health"]).stdout, "ok\n");
    bench.issuer.wait_for(2);
    agent.signal(Signal::TERM);
    let told = agent.wait_for("STOPPING=1\n");
    assert!(told.contains("\nEXTEND_TIMEOUT_USEC=16000000\nSTATUS=ending; what is under way has 16 seconds"), "{told}");
    (0..10).for_each(|_| drop(agent.wait_for("WATCHDOG=1")));
    let mut answer = String::new();
    asked.read_to_string(&mut answer).expect("an answer");
    assert!(answer.ends_with("\r\n\r\ntkm-secret-2\n"), "{answer}");
    assert_eq!(agent.end(), Some(0));
    assert_eq!(bench.answer(&["get", "api"]), "tkm-secret-2", "the fleet has what was fetched");
    assert_eq!(bench.issuer.log().len(), 2);
}

#[test]
fn settings_that_cannot_be_used_begin_nothing() {
    let bench = Bench::new(3600);
    bench.settings(&format!("{SOCKET}{NOBODYS}"), "");
    let ran = bench.run(&["agent"]);
    assert_eq!(ran.code, 78, "{ran:?}");
    assert!(ran.stderr.contains("this host has no user \"nobody-of-that-name\""), "{ran:?}");
    assert_eq!(bench.issuer.log().len(), 0);
    assert!(!bench.path("sock").exists());
}

#[test]
fn a_reload_that_fails_changes_nothing_and_says_so() {
    let bench = Bench::new(3600);
    bench.settings(SOCKET, "");
    let agent = Agent::start(&bench);
    let refused = |what: &str| {
        agent.signal(Signal::HUP);
        agent.wait_for("RELOADING=1");
        agent.wait_for("READY=1");
        let told = agent.wait_for("STATUS=1 tokens are fresh; the newest settings were not taken: ");
        assert!(told.contains(what) && !told.contains('\n'), "{told}");
        assert_eq!(curl(&bench.path("sock"), &["http://tkm/token/api"]).stdout, "tkm-secret-1\n");
    };
    fs::write(bench.path("other"), "mine").expect("a file");
    bench.settings("[agent]\nsocket = \"other\"\n", "");
    refused("remove what is no socket there");
    assert_eq!(fs::read(bench.path("other")).expect("a file"), b"mine");
    bench.settings(&format!("[agent]\nsocket = \"third\"\n{NOBODYS}"), "");
    refused("this host has no user \"nobody-of-that-name\"");
    assert!(!bench.path("third").exists());
    fs::write(bench.path("tkm.toml"), "[tokens.").expect("a file");
    refused("tkm.toml");
    bench.settings("[agent]\nsocket = \"third\"\n", "");
    agent.signal(Signal::HUP);
    agent.wait_for("RELOADING=1");
    while agent.wait_for("STATUS=") != "STATUS=1 tokens are fresh" {}
    assert_eq!(curl(&bench.path("third"), &["http://tkm/token/api"]).stdout, "tkm-secret-1\n");
    assert!(!bench.path("sock").exists());
    assert_eq!(bench.issuer.log().len(), 1);
}

#[test]
fn a_token_in_memory_outlives_a_reload_but_not_another_store() {
    let bench = Bench::new(3600);
    let reload = |agent: &Agent| {
        agent.signal(Signal::HUP);
        agent.wait_for("RELOADING=1");
        agent.wait_for("READY=1");
    };
    let in_memory = |store: &str, file: &str| {
        let file = format!("store = \"{store}\"\n[[tokens.api.files]]\npath = \"{file}\"\n");
        bench.settings(&format!("{SOCKET}[stores.one]\nurl = \"memory\"\n[stores.two]\nurl = \"memory\"\n"), &file);
    };
    let is_in = |file: &str, text: &str| {
        wait_until("the file is there", || fs::read_to_string(bench.path(file)).is_ok_and(|found| found == text));
    };
    in_memory("one", "first");
    let agent = Agent::start(&bench);
    in_memory("one", "second");
    reload(&agent);
    is_in("second", "tkm-secret-1\n");
    assert_eq!(bench.issuer.log().len(), 1);
    in_memory("two", "third");
    reload(&agent);
    is_in("third", "tkm-secret-2\n");
    assert_eq!(bench.issuer.log().len(), 2);
}

#[test]
fn the_hook_of_old_settings_brings_no_old_token_back() {
    let bench = Bench::new(3600);
    let script = format!("cd {}; touch begun; while [ ! -e go ]; do sleep 0.01; done", bench.folder.path().display());
    let file = "[[tokens.api.files]]\npath = \"token\"\n";
    bench.settings(
        "",
        &format!("[[tokens.api.files]]\npath = \"other\"\nhook = [\"sh\", \"-c\", \"{script}\"]\n{file}"),
    );
    let notes = thread::scope(|scope| {
        let agent = scope.spawn(|| Agent::start(&bench));
        wait_until("the hook runs", || bench.path("begun").exists());
        bench.settings("", file);
        let child = fs::read_dir("/proc").expect("proc").flatten().find_map(|entry| {
            let line = fs::read(entry.path().join("environ")).unwrap_or_default();
            let (line, ours) = (String::from_utf8_lossy(&line).into_owned(), fs::read(entry.path().join("cmdline")));
            let ours = ours.is_ok_and(|line| line.ends_with(b"\0agent\0"));
            (ours && line.contains(&*bench.folder.path().to_string_lossy())).then(|| entry.file_name())
        });
        let pid = child.and_then(|name| name.to_string_lossy().parse().ok()).and_then(Pid::from_raw);
        kill_process(pid.expect("the agent"), Signal::HUP).expect("it lives");
        agent.join().expect("no panic")
    });
    bench.answer(&["rotate", "api"]);
    let is_new = || fs::read_to_string(bench.path("token")).is_ok_and(|text| text == "tkm-secret-2\n");
    wait_until("the file is new", is_new);
    fs::write(bench.path("go"), "").expect("a file");
    assert_eq!(notes.end(), Some(0), "the old keeper has ended too");
    assert!(is_new());
}

#[test]
fn an_answer_that_is_cut_off_is_told_as_such_and_a_mute_agent_is_not_awaited_for_ever() {
    let bench = Bench::new(3600);
    bench.settings(SOCKET, "deadline = \"1s\"\n");
    let listener = UnixListener::bind(bench.path("sock")).expect("a socket");
    for cut in ["HTTP/1.1 200 OK\r\nContent-Le", "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"token\": \"tkm-sec"] {
        let child = bench.tkm(&["get", "api"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("tkm");
        let (mut stream, _) = listener.accept().expect("a client");
        let mut request = [0; 4096];
        assert!(stream.read(&mut request).expect("a request") > 0);
        stream.write_all(cut.as_bytes()).expect("a client");
        drop(stream);
        let ran = Ran::from(child.wait_with_output().expect("an end"));
        assert_eq!((ran.code, &*ran.stdout), (69, ""), "{ran:?}");
        assert!(ran.stderr.contains("the agent's answer was cut off"), "{ran:?}");
    }
    // Nobody accepts: one stands in the line, and the others wait to.
    rustix::net::listen(&listener, 0).expect("a listener");
    let begun = Instant::now();
    let children: Vec<_> =
        (0..3).map(|_| bench.tkm(&["get", "api"]).stdout(Stdio::piped()).spawn().expect("tkm")).collect();
    for child in children {
        assert_eq!(Ran::from(child.wait_with_output().expect("an end")).stdout, "tkm-secret-1\n");
    }
    assert!(begun.elapsed() < LONG, "{:?}", begun.elapsed());
}

#[test]
fn a_service_manager_that_does_not_listen_holds_nothing_up() {
    let bench = Bench::new(3600);
    bench.settings(SOCKET, "[[tokens.api.files]]\npath = \"token\"\n");
    let agent = Agent::start(&bench);
    // Each sender has a limit of its own; the line is full when a new one can send nothing.
    let fill = || {
        let notes = UnixDatagram::unbound().expect("a socket");
        notes.set_nonblocking(true).expect("a socket");
        let sent = (0..).take_while(|_| notes.send_to(b"full", bench.path("notify")).is_ok()).count();
        (notes, sent)
    };
    let mut fillers = vec![fill()];
    while fillers.last().is_some_and(|(_, sent)| *sent > 0) {
        fillers.push(fill());
    }
    bench.answer(&["rotate", "api"]);
    wait_until("the file is new", || {
        fs::read_to_string(bench.path("token")).is_ok_and(|text| text == "tkm-secret-2\n")
    });
    assert_eq!(agent.end(), Some(0));
}
