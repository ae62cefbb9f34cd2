//! The rights that the documentation of `RedisStore` gives a user: everything works with them, and none is there in vain.

use std::collections::BTreeSet;
use std::time::Duration;
use testbed::{LONG, Script, redis_server::RedisServer, wait_until};
use token_manager::store::{StoreErrorKind, TokenName, contract};
use token_manager::{Fetched, RedisStore, Store, TokenManager};

const HOUR: Duration = Duration::from_secs(3600);

/// The documented lines: with channels and without.
fn lines() -> [String; 2] {
    let source = include_str!("../src/store/redis.rs");
    let lines: Vec<String> = source
        .lines()
        .filter_map(|line| line.strip_prefix("/// ACL SETUSER"))
        .map(|line| format!("ACL SETUSER{line}"))
        .collect();
    lines.try_into().expect("two lines")
}

/// The line for this server, with a password, for these keys.
fn line(redis: &RedisServer, namespace: &str) -> Vec<String> {
    let [newer, older] = lines();
    let info = redis.command(&["INFO", "server"]);
    let version = info.lines().find_map(|line| line.strip_prefix("redis_version:")).expect("a version");
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().expect("a number"));
    let line = if (numbers.next(), numbers.next()) < (Some(6), Some(2)) { older } else { newer };
    let line = line.replace(">PASSWORD", ">word").replace("tm:*", &format!("{namespace}:*"));
    line.split(' ').map(str::to_owned).collect()
}

fn set_user(redis: &RedisServer, line: &[String]) {
    let words: Vec<&str> = line.iter().map(String::as_str).collect();
    redis.command(&words);
    redis.command(&["ACL", "LOG", "RESET"]);
}

/// How many things the user was refused.
fn refusals(redis: &RedisServer) -> usize {
    redis.command(&["ACL", "LOG"]).lines().filter(|line| *line == "reason").count()
}

fn url(redis: &RedisServer) -> String {
    redis.url().replace("redis://", "redis://fleet:word@")
}

#[test]
fn the_two_lines_differ_in_the_channels_alone() {
    let [newer, older] = lines();
    assert_eq!(newer.replace(" resetchannels &tm:*", ""), older);
}

#[test]
fn under_exactly_the_documented_line_the_contract_is_kept_and_a_fleet_keeps_fresh() {
    let redis = RedisServer::start().unwrap();
    set_user(&redis, &line(&redis, "contract"));
    for protocol in ["", "?protocol=resp3"] {
        let store = RedisStore::open(&format!("{}{protocol}", url(&redis))).unwrap();
        contract::check(&store);
        contract::check_events(&store);
        redis.command(&["FLUSHALL"]);
    }

    set_user(&redis, &line(&redis, "tm"));
    let script = Script::new(HOUR);
    let managers = [0; 3].map(|_| {
        let builder = TokenManager::builder("t").redis(&url(&redis)).unwrap().deadline(LONG);
        builder.source(script.source()).build().unwrap()
    });
    let _guards = managers.each_ref().map(|manager| manager.keep_fresh().unwrap());
    assert_eq!(managers.each_ref().map(|manager| manager.get().unwrap().secret().to_owned()), ["token-1"; 3]);
    script.answer(|_| Ok(Fetched::new("carrying", HOUR).carry("refresh token")));
    managers[1].invalidate(&managers[1].get().unwrap());
    for manager in &managers {
        wait_until("everybody follows", || manager.get().unwrap().secret() == "carrying");
    }
    // A Redis that has lost everything is given the token back.
    redis.command(&["FLUSHALL"]);
    redis.command(&["SCRIPT", "FLUSH"]);
    redis.command(&["CLIENT", "KILL", "USER", "fleet"]);
    wait_until("the token is given back", || redis.command(&["EXISTS", "tm:{t}:t:token"]) == "1");
    managers[0].inspect().unwrap();
    managers[0].lift_pause().unwrap();
    assert_eq!((script.fetches(), refusals(&redis)), (2, 0), "{}", redis.command(&["ACL", "LOG"]));

    let other = TokenManager::builder("t").namespace("other").redis(&url(&redis)).unwrap().source(script.source());
    let error = other.build().unwrap().inspect().unwrap_err();
    assert!(error.to_string().contains("store"), "{error}");
    let name = TokenName { namespace: "other".into(), group: "t".into(), name: "t".into(), grant: "t".into() };
    let error = RedisStore::open(&url(&redis)).unwrap().inspect(&name, "default").unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Denied);
    assert!(error.to_string().contains("the documentation of RedisStore has the ACL line"), "{error}");
}

#[test]
fn the_line_has_the_commands_of_the_scripts_and_six_more_and_no_others() {
    let scripts = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/lua")).unwrap();
    // Those of the log are named apart.
    let paths = scripts.map(|file| file.unwrap().path()).filter(|path| !path.to_string_lossy().ends_with("_log.lua"));
    let called = paths.flat_map(|path| {
        let script = std::fs::read_to_string(path).unwrap();
        let calls = script.split("call('").skip(1);
        calls.map(|rest| rest.split('\'').next().unwrap().to_lowercase()).collect::<Vec<_>>()
    });
    let around = ["eval", "evalsha", "exists", "subscribe", "unsubscribe", "ping"].map(str::to_owned);
    let needed: BTreeSet<String> = called.chain(around).collect();
    let [newer, _] = lines();
    let given: BTreeSet<String> =
        newer.split(' ').filter_map(|word| word.strip_prefix('+')).map(str::to_owned).collect();
    assert_eq!(given, needed);
}
