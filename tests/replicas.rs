//! A commit that counts once replicas have it: what becomes of it until then.

use std::fs;
use std::time::Duration;
use testbed::redis_server::RedisServer;
use testbed::{LONG, Script, wait_until};
use token_manager::store::StoreErrorKind;
use token_manager::{Budget, RedisStore, TokenManager};

const HOUR: Duration = Duration::from_secs(3600);
const LIMIT: Duration = Duration::from_millis(300);

/// A primary and its replica, in step.
fn pair() -> (RedisServer, RedisServer) {
    let primary = RedisServer::start_with(&["--repl-diskless-sync-delay", "0"]).unwrap();
    let replica = RedisServer::start().unwrap();
    replica.command(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()]);
    wait_until("the replica follows", || replica.command(&["INFO", "replication"]).contains("master_link_status:up"));
    (primary, replica)
}

fn manager(primary: &RedisServer, limit: Duration, journal: &std::path::Path, script: &Script) -> TokenManager {
    let store = RedisStore::options(&primary.url()).wait_replicas(1, limit).open().unwrap();
    let builder = TokenManager::builder("t").store(store).journal(journal).deadline(LONG).lease(4 * limit + LIMIT * 6);
    builder.budget(Budget::per_minute(6_000).burst(1_000)).source(script.source()).build().unwrap()
}

#[test]
fn a_commit_is_in_the_replica_when_the_token_is_served() {
    let (primary, replica) = pair();
    let (folder, script) = (tempfile::tempdir().unwrap(), Script::new(HOUR));
    let manager = manager(&primary, LONG / 6, folder.path(), &script);
    for number in 1..=100 {
        let token = manager.get().unwrap();
        assert_eq!(replica.command(&["HGET", "tm:{t}:t:token", "value"]), format!("token-{number}"));
        manager.invalidate(&token);
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_commit_that_no_replica_has_is_served_kept_in_the_journal_and_repeated() {
    let (primary, replica) = pair();
    let (folder, script) = (tempfile::tempdir().unwrap(), Script::new(HOUR));
    replica.pause();
    let first = manager(&primary, LIMIT, folder.path(), &script);
    assert_eq!(first.get().unwrap().secret(), "token-1");
    // The lease is over; only the next flight, or another process, would try again.
    assert!(first.quiesce(LONG));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    replica.resume();
    first.invalidate(&first.get().unwrap());
    assert_eq!(first.get().unwrap().secret(), "token-2");
    wait_until("both are in the replica", || fs::read_dir(folder.path()).unwrap().count() == 0);
    assert_eq!(replica.command(&["HGET", "tm:{t}:t:token", "value"]), "token-2");
    assert_eq!((script.fetches(), first.inspect().unwrap().doubted), (2, 0));
}

#[test]
fn a_server_that_cannot_sync_says_so() {
    let primary = RedisServer::start().unwrap();
    let store = RedisStore::options(&primary.url()).wait_aof(0, LIMIT).open().unwrap();
    let script = Script::new(HOUR);
    let events = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let heard = events.clone();
    let builder = TokenManager::builder("t").store(store).lease(Duration::from_millis(2_500)).source(script.source());
    let manager = builder.observer(move |event| heard.lock().unwrap().push(event.to_string())).build().unwrap();
    assert_eq!(manager.get().unwrap().secret(), "token-1", "it is used all the same");
    assert!(events.lock().unwrap().iter().any(|event| event.contains("commit")), "{events:?}");
}

#[test]
fn a_limit_that_the_lease_cannot_hold_is_refused() {
    let store = |limit| RedisStore::options("redis://127.0.0.1:1/").wait_replicas(1, limit).open();
    assert_eq!(store(Duration::ZERO).err().map(|error| error.kind()), Some(StoreErrorKind::Malformed));
    let builder =
        TokenManager::builder("t").store(store(Duration::from_secs(1)).unwrap()).source(Script::new(HOUR).source());
    let refused = builder.build().expect_err("it is refused").to_string();
    assert!(refused.contains("lease"), "{refused}");
}
