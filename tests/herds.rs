//! `keep_fresh` beside a store in trouble: it comes back ever more rarely, and offers what the store has lost.

use std::thread;
use std::time::{Duration, Instant};
use testbed::hooked_store::HookedStore;
use testbed::{Backing, LONG, Script, wait_until};
use token_manager::store::{Change, Claim, Claimed, Grant, Lease, StoreErrorKind, TokenName};
use token_manager::{Budget, FetchError, MemoryStore, RedisStore, Store, TokenManager};

const HOUR: Duration = Duration::from_secs(3600);
/// Some time. Pauses of 20 ms that double, with up to a half taken off, put a ninth try after 2.5 s at the soonest.
const SOME: Duration = Duration::from_millis(1_500);
const TRIES: u64 = 8;

fn build(store: HookedStore, script: &Script) -> TokenManager {
    TokenManager::builder("t").store(store).deadline(LONG).source(script.source()).build().unwrap()
}

/// Counts the calls of a verb within some time of keeping fresh.
fn calls_in_some_time(hooked: &HookedStore, verb: &str) -> u64 {
    let manager = build(hooked.clone(), &Script::new(HOUR));
    let start = Instant::now();
    let guard = manager.keep_fresh().unwrap();
    thread::sleep(SOME);
    let (calls, took) = (hooked.calls(verb), start.elapsed());
    assert!(calls >= 3, "it tries again: {calls} in {took:?}");
    drop(guard);
    calls
}

#[test]
fn a_store_that_refuses_claims_is_asked_ever_more_rarely() {
    let hooked =
        HookedStore::new(MemoryStore::new(), |verb, _| (verb == "claim").then_some(StoreErrorKind::NotWritable));
    let claims = calls_in_some_time(&hooked, "claim");
    assert!(claims <= TRIES, "{claims}");
}

#[test]
fn a_store_that_is_not_there_is_asked_ever_more_rarely() {
    let hooked = HookedStore::new(MemoryStore::new(), |_, _| Some(StoreErrorKind::Unreachable));
    let listens = calls_in_some_time(&hooked, "subscribe");
    assert!(listens <= TRIES && hooked.calls("claim") <= TRIES, "{listens} and {}", hooked.calls("claim"));
}

#[test]
fn a_subscription_that_is_lost_each_time_is_made_ever_more_rarely() {
    // It stands while the store is looked at, and is lost when it is waited for.
    let hooked = HookedStore::new(MemoryStore::new(), |verb, before| {
        (verb == "wait" && before % 2 == 1).then_some(StoreErrorKind::Unreachable)
    });
    let listens = calls_in_some_time(&hooked, "subscribe");
    assert!(listens <= TRIES, "{listens}");
}

#[test]
fn where_events_are_forbidden_looks_bring_what_others_fetched_and_the_refresh_is_in_time() {
    let (store, script) = (MemoryStore::new(), Script::new(Duration::from_secs(2)));
    let hooked = HookedStore::new(store.clone(), |verb, _| (verb == "subscribe").then_some(StoreErrorKind::Denied));
    let manager = build(hooked, &script);
    let guard = manager.keep_fresh().unwrap();
    script.wait_for(4);
    assert_eq!(manager.stats().waits, 0);
    script.set_life(HOUR);
    script.wait_for(5);
    let newest = "token-5";
    wait_until("it is in use", || manager.get().unwrap().secret() == newest);
    let busy = TokenManager::builder("t").store(store).deadline(LONG).source(script.source()).build().unwrap();
    busy.invalidate(&busy.get().unwrap());
    assert_eq!(busy.get().unwrap().secret(), "token-6");
    wait_until("a look finds it", || manager.get().unwrap().secret() == "token-6");
    assert_eq!((script.fetches(), manager.stats().waits), (6, 0));
    drop(guard);
}

#[test]
fn a_pause_of_the_fleet_is_kept_and_news_end_it() {
    let store = MemoryStore::new();
    let (hooked, script) = (HookedStore::new(store.clone(), |_, _| None), Script::new(HOUR));
    script.answer(|_| Err(FetchError::throttled(Some(HOUR))));
    let manager = build(hooked.clone(), &script);
    let _guard = manager.keep_fresh().unwrap();
    script.wait_for(1);
    thread::sleep(SOME);
    assert!(hooked.calls("claim") <= 4, "{} claims", hooked.calls("claim"));
    let other = TokenManager::builder("t").store(store).egress("elsewhere").deadline(LONG);
    let other = other.source(script.source()).build().unwrap();
    assert_eq!(other.get().unwrap().secret(), "token-2");
    wait_until("it takes over", || manager.get().is_ok_and(|token| token.secret() == "token-2"));
    assert_eq!(script.fetches(), 2);
}

/// A keeper that has followed its token on a real Redis, and the Redis.
fn followed(script: &Script) -> (Backing, TokenManager, token_manager::FreshGuard) {
    let backing = Backing::redis();
    let Backing::Redis(server) = &backing else { unreachable!() };
    let store = RedisStore::open(&server.url()).unwrap();
    let build =
        || TokenManager::builder("t").store(store.clone()).deadline(LONG).source(script.source()).build().unwrap();
    build().get().unwrap();
    let manager = build();
    let guard = manager.keep_fresh().unwrap();
    wait_until("it has taken the token over", || manager.stats().adopted == 1);
    (backing, manager, guard)
}

#[test]
fn a_redis_that_comes_back_with_an_older_token_is_given_the_newer_one_back() {
    let script = Script::new(HOUR);
    let (backing, manager, _guard) = followed(&script);
    let Backing::Redis(server) = &backing else { unreachable!() };
    let generation = manager.get().unwrap().generation();
    let older = (generation - 1).to_string();
    // As from a backup: the token and what is known of it.
    server.command(&["HSET", "tm:{t}:t:token", "gen", &older, "value", "old", "life_ms", "3600000"]);
    server.command(&["HSET", "tm:{t}:t:meta", "gen", &older]);
    wait_until("the newer one is back", || {
        manager.inspect().unwrap().token.is_some_and(|(stored, _)| stored == generation)
    });
    assert_eq!((script.fetches(), manager.get().unwrap().secret()), (1, "token-1"));
}

#[test]
fn a_token_that_was_rejected_is_not_offered_to_a_redis_that_lost_the_rejection() {
    let script = Script::new(HOUR);
    let (backing, manager, _guard) = followed(&script);
    let Backing::Redis(server) = &backing else { unreachable!() };
    let rejected = manager.get().unwrap();
    script.hold();
    manager.invalidate(&rejected);
    script.wait_for(2);
    // The rejection is lost, and with it the grant of the fetch that runs: what that brings is doubted and refreshed once.
    server.command(&["FLUSHALL"]);
    assert_eq!(manager.inspect().unwrap().token, None);
    script.release();
    wait_until("the doubt is settled", || manager.get().unwrap().secret() == "token-3");
    assert!(manager.inspect().unwrap().token.unwrap().0 > rejected.generation());
    assert_eq!(script.fetches(), 3);
}

#[test]
fn a_doubted_token_is_refreshed_and_not_offered() {
    let (store, script) = (MemoryStore::new(), Script::new(HOUR));
    let hooked = HookedStore::new(store.clone(), |_, _| None);
    let manager = build(hooked.clone(), &script);
    let guard = manager.keep_fresh().unwrap();
    wait_until("there is a token", || manager.get_within(Duration::ZERO).is_ok());
    let generation = manager.get().unwrap().generation();
    // A forged doubt is none; the store's own is.
    hooked.forge(&[Change::Doubted(generation)]);
    let waits = hooked.calls("wait");
    wait_until("it was heard", || hooked.calls("wait") > waits + 2);
    assert_eq!(script.fetches(), 1);
    let name = token_manager::store::TokenName {
        namespace: "tm".into(),
        group: "t".into(),
        name: "t".into(),
        grant: "t".into(),
    };
    let lease = token_manager::store::Lease { owner: "another".into(), attempt: 1, generation };
    let class = token_manager::FailureClass::UnknownOutcome;
    let failure = token_manager::store::Failure { class, retry_after: None, egress: "default" };
    token_manager::Store::record_failure(&store, &name, &lease, &failure).unwrap();
    wait_until("it is refreshed", || manager.get().unwrap().secret() == "token-2");
    assert_eq!((script.fetches(), hooked.calls("offer")), (2, 0));
    drop(guard);
}

#[test]
fn a_flight_that_waits_without_events_asks_for_no_other_token_once_keep_fresh_has_taken_one_over() {
    let memory = MemoryStore::new();
    let (open, opened) = std::sync::mpsc::channel::<()>();
    let opened = std::sync::Mutex::new(opened);
    let store = HookedStore::new(memory.clone(), move |verb, before| match verb {
        "subscribe" => Some(StoreErrorKind::Other),
        "inspect" if before == 0 => {
            opened.lock().unwrap().recv_timeout(LONG).unwrap();
            None
        }
        _ => None,
    });
    let name = TokenName { namespace: "tm".into(), group: "t".into(), name: "t".into(), grant: "t".into() };
    let budget = Some(Budget::per_minute(6_000).burst(1_000));
    let claim = Claim { owner: "other", attempt: 1, newer_than: 0, lease: HOUR, budget, egress: "default" };
    let Claimed::Granted { generation, .. } = memory.claim(&name, &claim).unwrap() else { panic!("no grant") };

    let script = Script::new(HOUR);
    let builder = TokenManager::builder("t").store(store.clone()).deadline(LONG);
    let manager = builder.source(script.source()).build().unwrap();
    let _guard = manager.keep_fresh().unwrap();
    wait_until("the first inspection is held up", || store.calls("inspect") == 1);
    let caller = manager.clone();
    let caller = std::thread::spawn(move || caller.get().unwrap().secret().to_owned());
    // By now it sleeps for a third of a second or more between its claims.
    wait_until("the flight has asked six times", || store.calls("claim") == 6);
    let value = token_manager::store::Secret::new("theirs");
    let grant = Grant { value, left: HOUR, life: HOUR, age: None, carry: None, carry_lifetime: None };
    memory.commit(&name, &Lease { owner: "other".into(), attempt: 1, generation }, &grant).unwrap();
    open.send(()).unwrap();
    assert_eq!(caller.join().unwrap(), "theirs");
    assert_eq!(script.fetches(), 0);
}
