//! An external command as a source, with real processes: what it is told, what its answers mean, and that it always ends.
#![cfg(unix)]

use log::{LevelFilter, Log, Metadata, Record};
use std::error::Error as _;
use std::fs;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use testbed::{LONG, wait_until};
use token_manager::{Budget, Builder, Error, ErrorKind, Execution, FailureClass, MemoryStore, TokenManager};
use token_manager_issuers::command::CommandSource;

const HOUR: Duration = Duration::from_secs(3600);

fn builder(source: CommandSource) -> Builder {
    let budget = Budget::per_minute(6_000).burst(1_000);
    TokenManager::builder("t").store(MemoryStore::new()).budget(budget).deadline(LONG).source(source)
}

fn secret_of(source: CommandSource) -> String {
    builder(source).build().unwrap().get().unwrap().secret().to_owned()
}

fn failure_of(source: CommandSource) -> (FailureClass, String) {
    class_and_cause(&builder(source).build().unwrap().get().unwrap_err())
}

fn class_and_cause(error: &Error) -> (FailureClass, String) {
    let ErrorKind::Source(class) = error.kind() else { panic!("{error:?}") };
    (class, error.source().expect("a cause").to_string())
}

/// A shell script with a folder of its own as `$1`.
fn with_folder(script: &str) -> (CommandSource, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (CommandSource::shell(script).argument("sh").argument(folder.path()), folder)
}

fn is_alive(pid: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.trim())).unwrap_or_default();
    !status.is_empty() && !status.contains("State:\tZ")
}

#[test]
fn json_brings_a_token_and_its_refresh_token_comes_back_on_standard_input() {
    let script = r#"
        IFS= read -r carried
        printf '{"access_token":"%s/%s/%s/%s","expires_in":"3600","refresh_token":"r%s"}' \
            "$TKM_GENERATION" "${TKM_CARRY-none}" "$carried" "$(cat)" "$TKM_GENERATION""#;
    let manager = builder(CommandSource::shell(script)).build().unwrap();
    let first = manager.get().unwrap();
    assert_eq!(first.secret(), format!("{}/none//", first.generation()));
    manager.invalidate(&first);
    let second = manager.get().unwrap();
    let carry = format!("r{}", first.generation());
    assert_eq!(second.secret(), format!("{}/{}/{carry}/", second.generation(), carry.len()));
}

#[test]
fn arguments_are_no_shell_text_and_variables_are_added() {
    let source = CommandSource::new("printf").argument("%s").argument("$HOME; `id` \"x\"").plain_text(HOUR);
    assert_eq!(secret_of(source), "$HOME; `id` \"x\"");
    let source = CommandSource::shell("echo \" $COLOUR $PATH\n\"").environment("COLOUR", "green").plain_text(HOUR);
    assert_eq!(secret_of(source), format!("green {}", std::env::var("PATH").unwrap()));
}

#[test]
fn a_life_is_told_in_seconds_or_as_a_date_or_by_a_setting() {
    // What may be used of it: less the margin of 1 ms and what the fetch took.
    let assert_life = |source, life: u64| {
        let manager = builder(source).margin(Duration::from_millis(1)).build().unwrap();
        manager.get().unwrap();
        let (_, left) = manager.inspect().unwrap().token.expect("a token in the store");
        assert!((life - 20..life).contains(&left.as_secs()), "{left:?} of {life}");
    };
    let json = |told: &str| CommandSource::new("printf").argument(format!(r#"{{"token":"t"{told}}}"#));
    assert_life(json(r#","expires_in":120"#), 120);
    let until = std::process::Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ", "-d", "+600 seconds"]).output();
    let until = String::from_utf8(until.unwrap().stdout).unwrap();
    assert_life(json(&format!(r#","expires_at":"{}""#, until.trim())), 600);
    assert_life(json("").life(HOUR), 3600);
    assert_life(json(r#","expires_in":120"#).life(HOUR), 120);
}

#[test]
fn exit_codes_have_classes_which_can_be_changed() {
    use FailureClass::{CredentialsRejected, Throttled, Unavailable, UnknownOutcome};
    let exits = |code: i32| CommandSource::shell(format!("printf s3cret; exit {code}")).plain_text(HOUR);
    for (code, class) in
        [(69, Unavailable), (75, Unavailable), (77, CredentialsRejected), (1, UnknownOutcome), (127, UnknownOutcome)]
    {
        let (found, cause) = failure_of(exits(code));
        assert_eq!(found, class, "{code}");
        assert_eq!(cause, format!("the command ended with exit code {code}; its standard error is in the log"));
    }
    assert_eq!(failure_of(exits(75).exit_code(75, Throttled)).0, Throttled);
    assert_eq!(failure_of(exits(1).exit_code(1, Unavailable)).0, Unavailable);
    let (class, cause) = failure_of(CommandSource::shell("kill -9 $$"));
    assert_eq!((class, &*cause), (UnknownOutcome, "the command was ended by signal 9"));
}

#[test]
fn a_command_that_cannot_be_started_granted_nothing() {
    let (class, cause) = failure_of(CommandSource::new("/nowhere/to/be/found"));
    assert_eq!(class, FailureClass::Unavailable);
    assert_eq!(cause, "the command cannot be started: No such file or directory");
    let (class, cause) = failure_of(CommandSource::new("printf").argument("a\0b"));
    assert_eq!(class, FailureClass::Unavailable);
    assert_eq!(cause, "the command cannot be started: an argument or a variable has a NUL byte");
}

#[test]
fn an_output_that_cannot_be_used_is_an_unknown_outcome_and_is_not_quoted() {
    for (output, wrong) in [
        ("s3cret", "the command printed what is no JSON"),
        (r#"{"tokens":"s3cret"}"#, "the command's JSON has no access_token and no token"),
        (
            r#"{"token":"s3cret"}"#,
            "the command's JSON has no expires_in and no expires_at; set how long its tokens live",
        ),
        (r#"{"token":"s3cret","expires_in":"s3cret"}"#, "the command's expires_in is no number of seconds"),
        (r#"{"token":"s3cret","expires_at":"s3cret"}"#, "the command's expires_at is no RFC 3339 date"),
        (r#"{"token":"s3cret","expires_in":1,"refresh_token":7}"#, "the command's refresh_token is no text, or empty"),
    ] {
        let (class, cause) = failure_of(CommandSource::new("printf").argument("%s").argument(output));
        assert_eq!((class, &*cause), (FailureClass::UnknownOutcome, wrong));
    }
    let nothing = CommandSource::new("true").plain_text(HOUR);
    assert_eq!(failure_of(nothing).1, "the command printed nothing");
}

#[test]
fn an_overrun_ends_the_command_and_all_that_it_started_with_sigterm() {
    let script = "sleep 1000 & echo $! >$1/child; echo $$ >$1/self; trap 'echo told >$1/term; exit 3' TERM; wait";
    let (source, folder) = with_folder(script);
    let (class, cause) = overrun(source, Duration::from_secs(2));
    assert_eq!((class, &*cause), (FailureClass::UnknownOutcome, "the command took too long and was ended"));
    let read = |name| fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!(read("term"), "told\n");
    for pid in [read("self"), read("child")] {
        wait_until("it is gone", || !is_alive(&pid));
    }
}

#[test]
fn an_overrun_that_ignores_sigterm_is_killed_with_all_that_it_started() {
    let script =
        "trap '' TERM; (while :; do sleep 1; done) & echo $! >$1/child; echo $$ >$1/self; while :; do sleep 1; done";
    let (source, folder) = with_folder(script);
    let (class, _) = overrun(source, Duration::from_secs(2));
    assert_eq!(class, FailureClass::UnknownOutcome);
    for name in ["self", "child"] {
        let pid = fs::read_to_string(folder.path().join(name)).unwrap();
        wait_until("it is gone", || !is_alive(&pid));
    }
}

/// Returns the failure of a source that overruns; checks that it was not abandoned.
fn overrun(source: CommandSource, limit: Duration) -> (FailureClass, String) {
    let start = Instant::now();
    let manager = builder(source).fetch_limit(limit).lease(limit).build().unwrap();
    let told = class_and_cause(&manager.get().unwrap_err());
    assert!(start.elapsed() > limit / 2, "{:?}", start.elapsed());
    assert!(start.elapsed() < limit + Duration::from_secs(8), "{:?}", start.elapsed());
    assert_eq!(manager.stats().abandoned, 0);
    told
}

#[test]
fn a_token_that_is_printed_upon_sigterm_is_not_lost() {
    let source = CommandSource::shell("trap 'printf late; exit 0' TERM; sleep 1000 & wait").plain_text(HOUR);
    let limit = Duration::from_secs(2);
    let manager = builder(source).fetch_limit(limit).lease(limit).build().unwrap();
    assert_eq!(manager.get().unwrap().secret(), "late");
}

#[test]
fn what_was_started_and_holds_the_output_open_is_not_waited_for() {
    let (source, folder) = with_folder("sleep 1000 & echo $! >$1/child; printf s3cret");
    let start = Instant::now();
    assert_eq!(secret_of(source.plain_text(HOUR)), "s3cret");
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    let child = fs::read_to_string(folder.path().join("child")).unwrap();
    assert!(is_alive(&child), "it goes on");
    let pid = rustix::process::Pid::from_raw(child.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn a_command_that_prints_for_ever_is_ended() {
    let (class, cause) = failure_of(CommandSource::new("yes"));
    assert_eq!(class, FailureClass::UnknownOutcome);
    assert_eq!(cause, "the command printed more than 1048576 bytes and was ended");
    let (class, _) = overrun(CommandSource::shell("yes >&2"), Duration::from_secs(2));
    assert_eq!(class, FailureClass::UnknownOutcome);
}

#[cfg(target_os = "linux")]
#[test]
fn no_signal_is_blocked_in_the_command_on_whichever_thread_it_is_started() {
    for execution in [Execution::Background, Execution::Inline] {
        let source = CommandSource::shell("grep -E '^Sig(Blk|Ign)' /proc/$$/status | tr '\\n' ' '").plain_text(HOUR);
        let limit = Duration::from_secs(10);
        let manager = builder(source).execution(execution).fetch_limit(limit).build().unwrap();
        let masks = manager.get().unwrap().secret().replace('\t', " ");
        let ignored = u64::from_str_radix(masks.rsplit(' ').next().unwrap(), 16).unwrap();
        assert!(masks.starts_with("SigBlk: 0000000000000000 "), "{masks}");
        let (sigpipe, sigchld) = (1 << 12, 1 << 16);
        assert_eq!(ignored & (sigpipe | sigchld), 0, "{masks}");
    }
}

#[test]
fn a_carried_secret_that_no_pipe_takes_is_refused() {
    let script = r#"printf '{"token":"t","expires_in":3600,"refresh_token":"'; head -c 70000 /dev/zero | tr '\0' r; printf '"}'"#;
    let manager = builder(CommandSource::shell(script)).build().unwrap();
    manager.invalidate(&manager.get().unwrap());
    let (class, cause) = class_and_cause(&manager.get().unwrap_err());
    assert_eq!(class, FailureClass::Unavailable);
    assert_eq!(cause, "the command cannot be started: the carried secret is longer than a pipe takes");
}

static LOGGED: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Capture;

impl Log for Capture {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        LOGGED.lock().unwrap().push(format!("{}", record.args()));
    }

    fn flush(&self) {}
}

#[test]
fn the_standard_error_is_logged_in_lines_and_nothing_else() {
    log::set_logger(&Capture).unwrap();
    log::set_max_level(LevelFilter::Trace);
    let script = r#"printf 'one\r\nt\033wo\n' >&2; head -c 5000 /dev/zero | tr '\0' x >&2; printf '\n\n' >&2
        for line in $(seq 200); do echo "again $line" >&2; done; printf hunter2; printf last >&2"#;
    let source = CommandSource::new("bash").argument("-c").argument(script).plain_text(HOUR);
    assert!(!format!("{source:?}").contains("hunter2"));
    assert_eq!(secret_of(source), "hunter2");
    let logged = LOGGED.lock().unwrap().clone();
    let told: Vec<_> = logged.iter().filter_map(|line| line.strip_prefix("bash: ")).collect();
    assert_eq!(told[..2], ["one", "t wo"]);
    assert_eq!(told[2], "x".repeat(400));
    assert_eq!(told[3..6], ["again 1", "again 2", "again 3"]);
    assert_eq!(told[99..], ["again 97", "(more lines follow, which are not told)"]);
    assert!(!logged.iter().any(|line| line.contains("hunter2")), "{logged:?}");
}
