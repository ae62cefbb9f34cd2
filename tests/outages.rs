//! Redis that is not there: tokens are served until they expire, errors name the store, and it heals without a restart.

use std::error::Error;
use std::time::{Duration, Instant};
use testbed::{LONG, Script, redis_server::RedisServer, wait_until};
use token_manager::store::{StoreError, StoreErrorKind};
use token_manager::{ErrorKind, RedisStore, TokenManager};

const HOUR: Duration = Duration::from_secs(3600);

fn manager(server: &RedisServer, script: &Script) -> TokenManager {
    let store = RedisStore::open(&server.url()).unwrap();
    TokenManager::builder("t").store(store).deadline(LONG).source(script.source()).build().unwrap()
}

#[test]
fn redis_that_is_not_there_at_start_is_an_error_until_it_comes() {
    let mut server = RedisServer::start().unwrap();
    server.kill();
    let script = Script::new(HOUR);
    let manager = manager(&server, &script);
    let start = Instant::now();
    let error = manager.get_within(Duration::from_secs(10)).unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(error.kind(), ErrorKind::Store);
    let cause = error.source().unwrap().downcast_ref::<StoreError>().unwrap();
    assert_eq!(cause.kind(), StoreErrorKind::Unreachable);
    assert_eq!(script.fetches(), 0);
    server.restart().unwrap();
    wait_until("redis is used", || manager.get().is_ok());
    assert_eq!(script.fetches(), 1);
}

#[test]
fn a_valid_token_is_served_while_redis_is_down() {
    let mut server = RedisServer::start().unwrap();
    let script = Script::new(Duration::from_secs(4));
    let manager = manager(&server, &script);
    manager.get().unwrap();
    server.kill();
    wait_until("the token has expired", || match manager.get() {
        Ok(token) => {
            assert_eq!(token.secret(), "token-1");
            false
        }
        Err(error) => error.kind() == ErrorKind::Store,
    });
    assert_eq!(script.fetches(), 1);
    server.restart().unwrap();
    wait_until("redis is used again", || manager.get().is_ok());
    assert_eq!(script.fetches(), 2);
}
