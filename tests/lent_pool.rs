//! A store on a pool that the program has anyway: what works as with connections of its own, and what is lost.

use redis::Client;
use std::thread;
use std::time::{Duration, Instant};
use testbed::proxy::{Line, Proxy};
use testbed::{LONG, Script, redis_server::RedisServer, wait_until};
use token_manager::store::{StoreError, StoreErrorKind, TokenName, contract};
use token_manager::{RedisStore, Store, TokenManager};

const HOUR: Duration = Duration::from_secs(3600);

fn name() -> TokenName {
    TokenName { namespace: "tm".into(), group: "t".into(), name: "t".into(), grant: "t".into() }
}

fn ask(store: &RedisStore) -> Result<(), StoreError> {
    store.inspect(&name(), "default").map(drop)
}

fn pool(url: &str, size: u32) -> r2d2::Pool<Client> {
    let builder = r2d2::Pool::builder().max_size(size).min_idle(Some(0)).error_handler(Box::new(r2d2::NopErrorHandler));
    builder.build_unchecked(Client::open(url).unwrap())
}

#[test]
fn on_a_pool_of_the_programs_the_contract_is_kept() {
    let redis = RedisServer::start().unwrap();
    for url in [redis.url(), format!("{}3?protocol=resp3", redis.url())] {
        contract::check(&RedisStore::from_pool(pool(&url, 4)));
        redis.command(&["FLUSHALL"]);
        redis.command(&["SCRIPT", "FLUSH"]);
    }
}

#[test]
fn a_fleet_may_have_stores_of_both_kinds_and_makes_one_fetch() {
    let redis = RedisServer::start().unwrap();
    let url = format!("{}2", redis.url());
    let script = Script::held(HOUR);
    let stores = [RedisStore::open(&url).unwrap(), RedisStore::from_pool(pool(&url, 4))];
    let managers = stores
        .map(|store| TokenManager::builder("t").store(store).source(script.source()).deadline(LONG).build().unwrap());
    let _guards = managers.each_ref().map(|manager| manager.keep_fresh().unwrap());
    thread::scope(|scope| {
        let calls: Vec<_> = (0..20)
            .map(|number| {
                let manager = &managers[number % 2];
                scope.spawn(|| manager.get().unwrap().secret().to_owned())
            })
            .collect();
        script.wait_for(1);
        script.release();
        calls.into_iter().for_each(|call| assert_eq!(call.join().unwrap(), "token-1"));
    });
    // Whoever subscribes hears of what the other kind does, in the database of its pool.
    let mut listener = RedisStore::open(&url).unwrap().subscribe(&name()).unwrap();
    managers[1].invalidate(&managers[1].get().unwrap());
    assert!(listener.wait(LONG).unwrap().is_some());
    wait_until("the other one follows", || managers[0].get().unwrap().secret() == "token-2");
    assert_eq!(script.fetches(), 2);
}

#[test]
fn it_tells_of_no_changes() {
    let redis = RedisServer::start().unwrap();
    let error = RedisStore::from_pool(pool(&redis.url(), 1)).subscribe(&name()).err().unwrap();
    assert_eq!(error.to_string(), "a pool of the program's tells of no changes");
}

#[test]
fn a_line_that_broke_is_tried_once_more_and_a_full_or_empty_pool_is_told_of() {
    let redis = RedisServer::start().unwrap();
    let proxy = Proxy::to(redis.port());
    let lent = pool(&proxy.url(), 1);
    let store = RedisStore::from_pool(lent.clone());
    ask(&store).unwrap();
    proxy.cut_all();
    ask(&store).unwrap();

    let taken = lent.get().unwrap();
    let start = Instant::now();
    let error = ask(&store).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Exhausted);
    assert!((Duration::from_millis(490)..Duration::from_secs(10)).contains(&start.elapsed()));
    drop(taken);
    proxy.set(Line::Shut);
    proxy.cut_all();
    assert_eq!(ask(&store).unwrap_err().kind(), StoreErrorKind::Unreachable);
    proxy.set(Line::Pass);
    wait_until("the pool has made a connection", || ask(&store).is_ok());
}

#[test]
fn a_forked_child_is_told_to_make_its_own() {
    let redis = RedisServer::start().unwrap();
    let store = RedisStore::from_pool(pool(&redis.url(), 1));
    ask(&store).unwrap();
    // SAFETY: the child only asks the store, which takes no lock, and leaves through `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let told = ask(&store).is_err_and(|error| error.to_string().contains("in the child"));
        // SAFETY: it has no preconditions.
        unsafe { libc::_exit(if told { 7 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: it is our child, and nobody else waits for it.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!((libc::WIFEXITED(status), libc::WEXITSTATUS(status)), (true, 7));
    ask(&store).unwrap();
}
