//! `tkm exec`: a command with a token.

use crate::support::{Bench, Ran, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::process::Stdio;

#[test]
fn a_command_finds_the_token_in_a_variable_and_its_exit_code_is_returned() {
    let bench = Bench::new(3600);
    assert_eq!(bench.answer(&["exec", "api", "--", "printenv", "TKM_TOKEN"]), "tkm-secret-1");
    assert_eq!(bench.answer(&["exec", "--variable", "X", "api", "printenv", "X"]), "tkm-secret-1");
    assert_eq!(bench.run(&["exec", "api", "--", "sh", "-c", "exit 7"]).code, 7);
    assert_eq!(bench.run(&["exec", "api", "--", "no-such-command"]).code, 127);
    assert_eq!(bench.run(&["exec", "api", "--", "/"]).code, 126);
    assert_eq!(bench.run(&["exec", "api"]).code, 64);
    assert_eq!(bench.answer(&["exec", "api", "--", "printf", "%s", "--output"]), "--output", "its options are its own");
    assert_eq!(bench.issuer.log().len(), 1);
}

#[test]
fn a_command_beside_a_file_sees_it_stay_fresh_and_gone_afterwards() {
    let bench = Bench::new(3600);
    let script = "echo $TKM_TOKEN_FILE >path; stat -c %a $TKM_TOKEN_FILE $(dirname $TKM_TOKEN_FILE) >modes
        cat $TKM_TOKEN_FILE >first; while ! grep -q tkm-secret-2 $TKM_TOKEN_FILE; do sleep 0.01; done; exit 5";
    let mut command = bench.tkm(&["exec", "--file", "api", "sh", "-c", script]);
    let mut child = command.current_dir(bench.folder.path()).spawn().expect("tkm");
    wait_until("the command has begun", || {
        fs::read_to_string(bench.path("first")).is_ok_and(|text| text == "tkm-secret-1\n")
    });
    bench.answer(&["rotate", "api"]);
    assert_eq!(child.wait().expect("an end").code(), Some(5));
    let path = fs::read_to_string(bench.path("path")).expect("a path");
    assert!(!fs::exists(path.trim()).expect("an answer"), "{path} is left");
    assert_eq!(fs::read_to_string(bench.path("modes")).expect("modes"), "600\n700\n");
}

#[test]
fn signals_reach_the_command() {
    let bench = Bench::new(3600);
    let script = "trap 'echo usr1 >>seen' USR1; trap 'echo term >>seen; exit 3' TERM; echo up >seen; while :; do sleep 0.01; done";
    let mut command = bench.tkm(&["exec", "--file", "api", "sh", "-c", script]);
    let mut child = command.current_dir(bench.folder.path()).spawn().expect("tkm");
    let seen = || fs::read_to_string(bench.path("seen")).unwrap_or_default();
    wait_until("the command is up", || seen() == "up\n");
    let pid = Pid::from_raw(child.id() as i32).expect("a process");
    kill_process(pid, Signal::USR1).expect("it lives");
    wait_until("it has seen the first", || seen() == "up\nusr1\n");
    kill_process(pid, Signal::TERM).expect("it lives");
    assert_eq!(child.wait().expect("an end").code(), Some(3));
    assert_eq!(seen(), "up\nusr1\nterm\n");
    let killed = bench.run(&["exec", "--file", "api", "sh", "-c", "kill -KILL $$"]);
    assert_eq!(killed.code, 128 + 9);
}

#[test]
fn no_secret_is_in_an_argument_of_any_process() {
    let bench = Bench::new(3600);
    let script = "while :; do sleep 0.05; done";
    let child = bench.tkm(&["exec", "--file", "api", "sh", "-c", script]).stderr(Stdio::piped()).spawn().expect("tkm");
    let pid = Pid::from_raw(child.id() as i32).expect("a process");
    wait_until("the command is up", || bench.issuer.log().len() == 1);
    for entry in fs::read_dir("/proc").expect("proc").flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        assert!(!line.contains("tkm-secret-1") && !line.contains("hunter2"), "{line}");
    }
    // The handler stands before the token is fetched.
    kill_process(pid, Signal::TERM).expect("it lives");
    let ran = Ran::from(child.wait_with_output().expect("an end"));
    assert_eq!(ran.stderr, "");
    assert_eq!(ran.code, 128 + 15);
}
