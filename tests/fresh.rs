//! `keep_fresh`: every process holds the new token right after the commit, and the thread ends with its guard.

use std::sync::{Arc, OnceLock};
use std::time::Duration;
use testbed::hooked_store::HookedStore;
use testbed::{Backing, LONG, Script, commit_elsewhere, wait_until};
use token_manager::store::{Claim, Claimed, TokenName};
use token_manager::{Budget, MemoryStore, RedisStore, Store, TokenManager};

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn an_idle_manager_follows_what_another_fetches_and_rejects() {
    for backing in Backing::both() {
        let script = Script::new(HOUR);
        let idle = backing.builder("t").source(script.source()).build().unwrap();
        let busy = backing.builder("t").source(script.source()).build().unwrap();
        let _guard = idle.keep_fresh().unwrap();
        wait_until("the idle one has a token", || idle.get_within(Duration::ZERO).is_ok());
        for generation in 2..=4 {
            busy.invalidate(&busy.get().unwrap());
            let newest = format!("token-{generation}");
            wait_until("the idle one follows", || {
                idle.get_within(Duration::ZERO).is_ok_and(|token| token.secret() == newest)
            });
            assert_eq!(script.fetches(), generation);
        }
    }
}

#[test]
fn a_flight_asks_for_no_further_token_once_keep_fresh_has_taken_over_what_it_waits_for() {
    let (store, script) = (MemoryStore::new(), Script::new(HOUR));
    let (shared, waiting) = (store.clone(), Arc::new(OnceLock::<TokenManager>::new()));
    let manager = waiting.clone();
    // The updater commits, and keep_fresh takes over, while the flight that waits for it is busy looking for it.
    let hooked = HookedStore::new(store.clone(), move |verb, before| {
        if verb == "presence" && before == 0 {
            commit_elsewhere(&shared, "new", 0);
            let manager = manager.get().expect("a manager");
            let _guard = manager.keep_fresh().unwrap();
            let has_new = || manager.get_within(Duration::ZERO).is_ok_and(|token| token.secret() == "new");
            wait_until("keep_fresh has taken it over", has_new);
        }
        None
    });
    let builder = TokenManager::builder("t").store(hooked.clone()).source(script.source()).deadline(LONG);
    let manager = waiting.get_or_init(|| builder.build().unwrap());
    let name = TokenName { namespace: "tm".into(), group: "t".into(), name: "t".into(), grant: "t".into() };
    let budget = Some(Budget::per_minute(6_000).burst(1_000));
    let claim = Claim { owner: "other", attempt: 1, newer_than: 0, lease: HOUR, budget, egress: "default" };
    assert!(matches!(store.claim(&name, &claim).unwrap(), Claimed::Granted { .. }));
    assert_eq!(manager.get().unwrap().secret(), "new");
    assert!(manager.quiesce(LONG));
    assert_eq!((hooked.calls("presence"), script.fetches()), (1, 0));
}

#[test]
fn an_idle_token_is_refreshed_before_it_expires() {
    for backing in Backing::both() {
        let script = Script::new(Duration::from_secs(4));
        let manager = backing.builder("t").source(script.source()).build().unwrap();
        let _guard = manager.keep_fresh().unwrap();
        script.wait_for(3);
        assert_eq!(manager.stats().waits, 0);
    }
}

#[test]
fn a_redis_that_lost_its_data_is_given_the_token_back() {
    let backing = Backing::redis();
    let Backing::Redis(server) = &backing else { unreachable!() };
    let script = Script::new(HOUR);
    let managers: Vec<TokenManager> = (0..3)
        .map(|_| {
            let store = RedisStore::open(&server.url()).unwrap();
            TokenManager::builder("t").store(store).source(script.source()).build().unwrap()
        })
        .collect();
    let _guards: Vec<_> = managers.iter().map(|manager| manager.keep_fresh().unwrap()).collect();
    let all_have = |secret: &'static str| {
        wait_until("all have the token", || {
            managers.iter().all(|m| m.get_within(Duration::ZERO).is_ok_and(|token| token.secret() == secret))
        });
    };
    all_have("token-1");
    // Whoever has this one was told of it: it follows the store.
    let generation = managers[0].get().unwrap().generation();
    commit_elsewhere(&RedisStore::open(&server.url()).unwrap(), "elsewhere", generation);
    all_have("elsewhere");
    server.command(&["FLUSHALL"]);
    wait_until("the store has a token again", || managers[0].inspect().unwrap().token.is_some());
    all_have("elsewhere");
    let newcomer = RedisStore::open(&server.url()).unwrap();
    let newcomer = TokenManager::builder("t").store(newcomer).source(script.source()).build().unwrap();
    assert_eq!(newcomer.get().unwrap().secret(), "elsewhere");
    assert_eq!(script.fetches(), 1);
    drop(managers);
}

#[test]
fn a_restart_of_redis_does_not_end_it() {
    let mut backing = Backing::redis();
    let script = Script::new(HOUR);
    let manager = backing.builder("t").source(script.source()).build().unwrap();
    let _guard = manager.keep_fresh().unwrap();
    let serves = |secret| manager.get_within(Duration::ZERO).is_ok_and(|token| token.secret() == secret);
    wait_until("there is a token", || serves("token-1"));
    let Backing::Redis(server) = &mut backing else { unreachable!() };
    // Who has this one was told of it: it follows the store.
    let generation = manager.get().unwrap().generation();
    commit_elsewhere(&RedisStore::open(&server.url()).unwrap(), "elsewhere", generation);
    wait_until("it follows", || serves("elsewhere"));
    server.kill();
    assert_eq!(manager.get().unwrap().secret(), "elsewhere");
    server.restart().unwrap();
    wait_until("the store is filled again", || serves("elsewhere") && manager.inspect().unwrap().token.is_some());
    assert_eq!(script.fetches(), 1);
}
