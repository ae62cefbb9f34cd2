//! This version of the library beside the one before it, on one Redis, as while a fleet is upgraded. The one before is built
//! from the project's history into the target folder: `git` and the commit must be there.

#[path = "previous/fetch.rs"]
mod fetch;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};
use testbed::redis_server::RedisServer;
use testbed::{LONG, wait_until};
use token_manager::TokenManager;

/// The last commit of the version before this one.
const PREVIOUS: &str = "06abf47";

/// Builds the program of the version before, once; returns its path.
fn previous() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("version-{PREVIOUS}"));
        let (tree, client) = (folder.join("tree"), folder.join("client"));
        if !tree.join("Cargo.toml").exists() {
            fs::create_dir_all(&tree).unwrap();
            let archive = format!("git archive {PREVIOUS} | tar -x -C '{}'", tree.display());
            let unpacked = Command::new("sh").arg("-ec").arg(archive).current_dir(root).status().unwrap();
            let is_there = unpacked.success() && tree.join("Cargo.toml").exists();
            assert!(
                is_there,
                "the history lacks {PREVIOUS}, or git is missing: clone the project whole, `apt-get install git`"
            );
        }
        fs::create_dir_all(client.join("src")).unwrap();
        let manifest = "[package]\nname = \"previous\"\nedition = \"2024\"\n[workspace]\n\
            [dependencies]\ntoken-manager = { path = \"../tree\" }\n";
        for (file, text) in [
            ("Cargo.toml", manifest),
            ("src/main.rs", include_str!("previous/client.rs")),
            ("src/fetch.rs", include_str!("previous/fetch.rs")),
        ] {
            let file = client.join(file);
            if fs::read_to_string(&file).ok().as_deref() != Some(text) {
                fs::write(file, text).unwrap();
            }
        }
        // The same versions of its dependencies as it was tested with.
        if !client.join("Cargo.lock").exists() {
            fs::copy(tree.join("Cargo.lock"), client.join("Cargo.lock")).unwrap();
        }
        let build = |offline: &[&str]| {
            let mut cargo = Command::new(env!("CARGO"));
            cargo
                .args(["build", "--quiet", "--target-dir"])
                .arg(folder.join("target"))
                .args(offline)
                .current_dir(&client);
            cargo.status().unwrap().success()
        };
        assert!(build(&["--offline"]) || build(&[]), "version {PREVIOUS} does not build");
        folder.join("target/debug/previous")
    })
}

/// A process with the version before.
struct Old {
    child: Child,
    input: ChildStdin,
    answers: Receiver<String>,
}

impl Old {
    fn start(bench: &Bench) -> Old {
        let mut command = Command::new(previous());
        command.arg(bench.redis.url()).arg(&bench.log).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (tell, answers) = channel();
        thread::spawn(move || {
            BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| tell.send(line))
        });
        Old { child, input, answers }
    }

    fn tell(&mut self, order: &str) {
        writeln!(self.input, "{order}").unwrap();
    }

    fn answer(&self) -> String {
        self.answers.recv_timeout(LONG).unwrap()[2..].to_owned()
    }

    fn ask(&mut self, order: &str) -> String {
        self.tell(order);
        self.answer()
    }
}

impl Drop for Old {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Bench {
    redis: RedisServer,
    folder: tempfile::TempDir,
    log: PathBuf,
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("fetches");
        Bench { redis: RedisServer::start().unwrap(), folder, log }
    }

    fn new_manager(&self) -> TokenManager {
        fetch::manager(&self.redis.url(), self.log.clone(), "new")
    }

    /// The fetches so far, as in `old refresh-1 false`.
    fn fetches(&self) -> Vec<String> {
        fs::read_to_string(&self.log).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    fn set(&self, what: &str) {
        fs::write(self.log.with_extension(what), "").unwrap();
    }

    fn unset(&self, what: &str) {
        fs::remove_file(self.log.with_extension(what)).unwrap();
        assert!(self.folder.path().exists());
    }
}

fn secret(manager: &TokenManager) -> String {
    manager.get().unwrap().secret().to_owned()
}

#[test]
fn either_version_takes_over_what_the_other_one_fetched_and_hands_its_refresh_token_on() {
    let bench = Bench::new();
    let (mut old, new) = (Old::start(&bench), bench.new_manager());
    assert_eq!((old.ask("get"), secret(&new)), ("token-1".into(), "token-1".into()));
    for round in 1..=5 {
        // The new version presents what the old one was given, and the other way round.
        new.invalidate(&new.get().unwrap());
        assert_eq!(secret(&new), format!("token-{}", 2 * round));
        assert_eq!(Old::start(&bench).ask("get"), format!("token-{}", 2 * round));
        let mut other = Old::start(&bench);
        assert_eq!(other.ask("invalidate"), "invalidated");
        assert_eq!(other.ask("get"), format!("token-{}", 2 * round + 1));
        assert_eq!(secret(&bench.new_manager()), format!("token-{}", 2 * round + 1));
        new.invalidate(&new.get().unwrap());
        assert_eq!(secret(&new), format!("token-{}", 2 * round + 1), "it was not the newest that was invalidated");
    }
    let expected = (0..11).map(|number| {
        let (version, carry) = (if number % 2 == 0 { "old" } else { "new" }, format!("refresh-{number}"));
        format!("{version} {} false", if number == 0 { "-" } else { &carry })
    });
    assert_eq!(bench.fetches(), expected.collect::<Vec<_>>());
}

#[test]
fn processes_of_both_versions_that_keep_fresh_follow_each_other_with_one_fetch_a_turnover() {
    let bench = Bench::new();
    let (mut old, new) = (Old::start(&bench), bench.new_manager());
    let _guard = new.keep_fresh().unwrap();
    assert_eq!(old.ask("fresh"), "fresh true");
    for round in 1..=10 {
        let expected = format!("token-{round}");
        wait_until("the new one has it", || {
            new.get_within(Duration::ZERO).is_ok_and(|token| token.secret() == expected)
        });
        let start = Instant::now();
        while old.ask("get") != expected {
            assert!(start.elapsed() < LONG);
        }
        match round % 2 {
            0 => new.invalidate(&new.get().unwrap()),
            _ => assert_eq!(old.ask("invalidate"), "invalidated"),
        }
    }
    wait_until("the last one is fetched", || bench.fetches().len() == 11);
}

#[test]
fn a_waiter_of_one_version_is_told_by_the_updater_of_the_other_one() {
    for new_first in [true, false] {
        let bench = Bench::new();
        let (mut old, new) = (Old::start(&bench), bench.new_manager());
        bench.set("hold");
        thread::scope(|scope| {
            let ask_new = || scope.spawn(|| secret(&new));
            let fetching = || wait_until("somebody fetches", || bench.fetches().len() == 1);
            let asked = if new_first {
                let asked = ask_new();
                fetching();
                old.tell("get");
                asked
            } else {
                old.tell("get");
                fetching();
                ask_new()
            };
            let channel = "tm:{t}:t:events:0";
            wait_until("the other one waits", || bench.redis.command(&["PUBSUB", "NUMSUB", channel]).ends_with("\n1"));
            bench.unset("hold");
            assert_eq!((old.answer(), asked.join().unwrap()), ("token-1".into(), "token-1".into()));
        });
        assert_eq!(bench.fetches(), [if new_first { "new - false" } else { "old - false" }]);
    }
}

#[test]
fn an_updater_of_the_version_before_that_is_killed_is_replaced_and_what_it_presented_is_known() {
    let bench = Bench::new();
    let (mut old, new) = (Old::start(&bench), bench.new_manager());
    assert_eq!(old.ask("get"), "token-1");
    assert_eq!(old.ask("invalidate"), "invalidated");
    bench.set("hold");
    old.tell("get");
    wait_until("the old one fetches", || bench.fetches().len() == 2);
    old.child.kill().unwrap();
    bench.unset("hold");
    assert_eq!(secret(&new), "token-3");
    assert_eq!(bench.fetches()[1..], ["old refresh-1 false", "new refresh-1 true"]);
}

#[test]
fn either_version_keeps_the_pause_that_the_other_one_was_told() {
    for new_first in [true, false] {
        let bench = Bench::new();
        let (mut old, new) = (Old::start(&bench), bench.new_manager());
        bench.set("throttle");
        let mut ask = |new_is_asked: bool| match new_is_asked {
            true => format!("{:?}", new.get().unwrap_err().kind()),
            false => old.ask("get").replace("error ", ""),
        };
        let told = [ask(new_first), ask(!new_first)];
        assert_eq!(told, ["Source(Throttled)", "Source(Throttled)"]);
        assert_eq!(bench.fetches().len(), 1);
        bench.unset("throttle");
        wait_until("the pause is over", || new.get().is_ok());
        assert_eq!((old.ask("get"), bench.fetches().len()), ("token-2".into(), 2));
    }
}
