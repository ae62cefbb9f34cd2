//! `tkm exec`: a command with a token.

use crate::support::{Bench, Ran, program, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

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

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(child.id() as i32).expect("a process")
}

/// The state of a process, as proc(5) has it: S sleeping, T stopped.
fn state(pid: Pid) -> char {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit(") ").next().and_then(|rest| rest.chars().next()).unwrap_or('-')
}

#[test]
fn a_signal_ends_it_at_once_while_the_token_is_fetched_and_leaves_no_folder() {
    let bench = Bench::new(3600);
    bench.issuer.set_latency(Duration::from_secs(8));
    for (signal, code) in [(Signal::TERM, 128 + 15), (Signal::INT, 128 + 2), (Signal::HUP, 128 + 1)] {
        let fetches = bench.issuer.log().len();
        let mut command = bench.tkm(&["exec", "--file", "api", "touch", "started"]);
        let child = command.env("XDG_RUNTIME_DIR", bench.folder.path()).stderr(Stdio::piped());
        let child = child.current_dir(bench.folder.path()).spawn().expect("tkm");
        bench.issuer.wait_for(fetches + 1);
        let told = Instant::now();
        kill_process(pid_of(&child), signal).expect("it lives");
        let ran = Ran::from(child.wait_with_output().expect("an end"));
        assert_eq!((ran.code, &*ran.stderr), (code, ""));
        assert!(told.elapsed() < Duration::from_secs(3), "{:?}", told.elapsed());
        let left = fs::read_dir(bench.folder.path()).expect("a folder").flatten();
        let left = left.filter(|file| file.file_name().to_string_lossy().starts_with("tkm-")).count();
        assert_eq!((left, bench.path("started").exists()), (0, false));
    }
}

#[test]
fn what_killed_ones_left_is_removed_by_the_next_one_once_their_commands_have_ended() {
    let bench = Bench::new(3600);
    let start = |script: &str| {
        let mut command = bench.tkm(&["exec", "--file", "api", "sh", "-c", script]);
        command.env("XDG_RUNTIME_DIR", bench.folder.path()).current_dir(bench.folder.path()).spawn().expect("tkm")
    };
    let folders = || {
        let all = fs::read_dir(bench.folder.path()).expect("a folder").flatten();
        all.filter(|file| file.file_name().to_string_lossy().starts_with("tkm-")).count()
    };
    let mut child =
        start("echo $$ >command; while ! [ -e go ]; do sleep 0.01; done; cat $TKM_TOKEN_FILE >late; echo >>late");
    wait_until("the command is up", || {
        fs::read_to_string(bench.path("command")).is_ok_and(|text| text.ends_with('\n'))
    });
    child.kill().expect("it lives");
    child.wait().expect("an end");
    fs::create_dir(bench.path("tkm-of-somebody")).expect("a folder");
    assert_eq!(start("exit 4").wait().expect("an end").code(), Some(4));
    assert_eq!(folders(), 2, "the command still needs its file");
    fs::write(bench.path("go"), "").expect("a file");
    wait_until("the command has read it", || {
        fs::read_to_string(bench.path("late")).is_ok_and(|text| text.ends_with("\n\n"))
    });
    assert_eq!(fs::read_to_string(bench.path("late")).expect("a file"), "tkm-secret-1\n\n");
    let command = fs::read_to_string(bench.path("command")).expect("a number").trim().parse().expect("a number");
    let command = Pid::from_raw(command).expect("a process");
    wait_until("the command has ended", || matches!(state(command), '-' | 'Z'));
    wait_until("nothing is left but what is not ours", || {
        assert_eq!(start("exit 4").wait().expect("an end").code(), Some(4));
        folders() == 1 || state(command) == 'Z' // nobody here reaps orphans
    });
}

/// A shell with job control on a terminal of its own.
struct Terminal {
    script: Child,
    keys: ChildStdin,
    screen: Arc<Mutex<String>>,
}

impl Terminal {
    fn open(bench: &Bench) -> Terminal {
        let mut command = Command::new(program("script"));
        command.args(["-qfc", "exec bash --norc --noprofile -i", "/dev/null"]).current_dir(bench.folder.path());
        command.env("TKM_CONFIG", bench.path("tkm.toml")).env("TKM", env!("CARGO_BIN_EXE_tkm")).env("PS1", "$ ");
        // Whoever runs the tests may have no terminal to lose.
        let mut script = command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("script");
        let (keys, mut shown) = (script.stdin.take().expect("a pipe"), script.stdout.take().expect("a pipe"));
        let screen = Arc::new(Mutex::new(String::new()));
        let kept = screen.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(1..) = shown.read(&mut bytes).inspect(|count| {
                kept.lock().expect("no panic").push_str(&String::from_utf8_lossy(&bytes[..*count]));
            }) {}
        });
        Terminal { script, keys, screen }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("a terminal");
        self.keys.flush().expect("a terminal");
    }

    /// Waits until this is shown, and forgets what was shown up to there.
    fn shows(&self, what: &str) {
        let seen = || {
            let mut screen = self.screen.lock().expect("no panic");
            let found = screen.find(what).map(|at| at + what.len());
            found.into_iter().for_each(|end| drop(screen.drain(..end)));
            found.is_some()
        };
        wait_until(&format!("the terminal shows {what:?}"), seen);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

#[test]
fn a_terminal_stops_it_with_its_command_and_both_go_on_in_the_foreground() {
    let bench = Bench::new(3600);
    // It starts no programs: a shell that is stopped while it does so (vfork(2)) stops only when that program runs, which is stopped.
    let script = [
        "import os, time",
        "print('up-%d' % (40 + 2), flush=True)",
        "while not os.path.exists('go'):",
        "    open('ticks', 'a').write('.')",
        "    time.sleep(0.01)",
        "raise SystemExit(7)",
    ];
    fs::write(bench.path("ticking.py"), script.join("\n")).expect("a file");
    let mut terminal = Terminal::open(&bench);
    terminal.press("$TKM exec --file api -- python3 ticking.py\n");
    terminal.shows("up-42");
    for _ in 0..2 {
        terminal.press("\x1a");
        terminal.shows("Stopped");
        terminal.press("echo shell-$((40+2))\n");
        terminal.shows("shell-42");
        let ticks = || fs::metadata(bench.path("ticks")).map_or(0, |about| about.len());
        let stopped_at = ticks();
        terminal.press("fg\n");
        wait_until("the command goes on", || ticks() > stopped_at);
    }
    fs::write(bench.path("go"), "").expect("a file");
    terminal.press("echo code-$?\n");
    terminal.shows("code-7");
    terminal.press("$TKM exec --file api -- sh -c 'echo up-$((40+3)); exec sleep 60'\n");
    terminal.shows("up-43");
    terminal.press("\x03");
    terminal.press("echo code-$?\n");
    terminal.shows("code-130");
}

#[test]
fn a_command_that_is_stopped_where_there_is_no_terminal_stops_nobody_else() {
    let bench = Bench::new(3600);
    let mut command = bench.tkm(&[
        "exec",
        "--file",
        "api",
        "sh",
        "-c",
        "echo $$ >up; while ! [ -e go ]; do sleep 0.01; done; exit 7",
    ]);
    command.current_dir(bench.folder.path());
    // Without a terminal of its own, whatever these tests have.
    let mut child = Command::new(program("setsid"));
    child.arg("--wait").arg(command.get_program()).args(command.get_args()).current_dir(bench.folder.path());
    let mut child = child.env("TKM_CONFIG", bench.path("tkm.toml")).spawn().expect("setsid");
    wait_until("the command is up", || fs::read_to_string(bench.path("up")).is_ok_and(|text| text.ends_with('\n')));
    let pid = fs::read_to_string(bench.path("up")).expect("a number").trim().parse().ok().and_then(Pid::from_raw);
    let pid = pid.expect("a process");
    kill_process(pid, Signal::STOP).expect("it lives");
    wait_until("it has stopped", || state(pid) == 'T');
    kill_process(pid, Signal::CONT).expect("it lives");
    fs::write(bench.path("go"), "").expect("a file");
    assert_eq!(child.wait().expect("an end").code(), Some(7));
}
