//! A program that lives for one token, a cron job or a CGI: the connections, commands and round trips from its start to a token that
//! is in the store, and the threads that it has then.

use std::time::Duration;
use std::{env, fs};
use testbed::child::{Dialogue, say};
use testbed::redis_server::RedisServer;
use testbed::tap::{Passed, Tap};
use token_manager::{Attempt, Builder, Execution, Fetched, RedisStore, TokenManager};

const HOUR: Duration = Duration::from_secs(3600);

fn builder(url: &str) -> Builder {
    let store = RedisStore::options(url).without_thread().open().unwrap();
    TokenManager::builder("t").store(store).execution(Execution::Inline)
}

fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

/// What the processes below run.
#[test]
fn child_that_wants_one_token() {
    let Ok(url) = env::var("SHORT_LIVED") else { return };
    let before = threads();
    // The threads are counted while the managers stand: at the end of a call, not of the program.
    match env::var("SHORT_LIVED_KEY") {
        Err(_) => {
            let manager = builder(&url).source(|_: &Attempt| Ok(Fetched::new("fetched", HOUR))).build().unwrap();
            let token = manager.get().unwrap();
            say(&format!("got {}, {} more threads", token.secret(), threads() - before));
        }
        Ok(key) => {
            let source = |_: &str, _: &Attempt| Ok(Fetched::new("fetched", HOUR));
            let managers = builder(&url).keyed(source).build().unwrap();
            let token = managers.get(&key).unwrap();
            say(&format!("got {}, {} more threads", token.secret(), threads() - before));
        }
    }
}

/// Starts a process that wants one token, and returns what it sent once it has ended.
fn run(tap: &Tap, login: &str, database: &str, key: Option<&str>) -> (String, Passed) {
    let url = format!("redis://{login}127.0.0.1:{}/{database}", tap.port());
    let variables = [("SHORT_LIVED", url.as_str()), ("SHORT_LIVED_KEY", key.unwrap_or_default())];
    let variables = if key.is_some() { &variables[..] } else { &variables[..1] };
    let mut child = Dialogue::start(&["child_that_wants_one_token", "--exact", "--nocapture"], variables);
    let got = child.expect("got ");
    assert!(child.process.wait().unwrap().success());
    (got, tap.take())
}

fn passed(commands: &[&str], round_trips: usize) -> Passed {
    let commands = commands.iter().map(|name| name.to_string()).collect();
    Passed { connections: 1, commands, round_trips }
}

const NO_THREAD: &str = "fetched, 0 more threads";

#[test]
fn a_token_that_is_in_the_store_takes_a_fresh_process_two_round_trips_and_no_thread() {
    let redis = RedisServer::start().unwrap();
    let tap = Tap::to(redis.port());
    // The first one fetches, and teaches Redis both scripts.
    let scripts = ["EVALSHA", "EVAL", "EVALSHA", "EVAL"];
    assert_eq!(run(&tap, "", "", None), (NO_THREAD.into(), passed(&scripts, 5)));
    for _ in 0..3 {
        // One to connect, one to claim.
        assert_eq!(run(&tap, "", "", None), (NO_THREAD.into(), passed(&["EVALSHA"], 2)));
    }
    // Whoever comes first after Redis has forgotten the script says it again.
    redis.command(&["SCRIPT", "FLUSH"]);
    assert_eq!(run(&tap, "", "", None), (NO_THREAD.into(), passed(&["EVALSHA", "EVAL"], 3)));
    assert_eq!(run(&tap, "", "", None), (NO_THREAD.into(), passed(&["EVALSHA"], 2)));
}

#[test]
fn a_login_and_a_database_take_one_round_trip_more_together() {
    let redis = RedisServer::start_with(&["--requirepass", "word"]).unwrap();
    let tap = Tap::to(redis.port());
    run(&tap, ":word@", "3", None);
    let expected = (NO_THREAD.to_owned(), passed(&["AUTH", "SELECT", "EVALSHA"], 3));
    assert_eq!(run(&tap, ":word@", "3", None), expected);
    assert_eq!(run(&tap, "default:word@", "3", None), expected);
}

#[test]
fn a_token_by_key_takes_no_more() {
    let redis = RedisServer::start().unwrap();
    let tap = Tap::to(redis.port());
    run(&tap, "", "", Some("tenant-1"));
    assert_eq!(run(&tap, "", "", Some("tenant-1")), (NO_THREAD.into(), passed(&["EVALSHA"], 2)));
}
