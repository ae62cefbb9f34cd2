//! Events are hints: nobody fetches, rejects or doubts a token for one without the store's own word.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use testbed::hooked_store::HookedStore;
use testbed::{Backing, LONG, Script, commit_elsewhere, wait_until};
use token_manager::store::{Change, StoreErrorKind};
use token_manager::{MemoryStore, RedisStore, TokenManager};

const HOUR: Duration = Duration::from_secs(3600);
const HUGE: u64 = 9_000_000_000_000_000;

fn build(store: HookedStore, script: &Script) -> TokenManager {
    TokenManager::builder("t").store(store).deadline(LONG).source(script.source()).build().unwrap()
}

fn serves(manager: &TokenManager, secret: &str) -> bool {
    manager.get_within(Duration::ZERO).is_ok_and(|token| token.secret() == secret)
}

#[test]
fn forged_events_on_the_channel_cost_neither_a_fetch_nor_the_token() {
    let backing = Backing::redis();
    let Backing::Redis(server) = &backing else { unreachable!() };
    let script = Script::new(HOUR);
    let idle = backing.builder("t").source(script.source()).build().unwrap();
    let _guard = idle.keep_fresh().unwrap();
    wait_until("the idle one has a token", || serves(&idle, "token-1"));
    let channel = "tm:{t}:t:events:0";
    wait_until("it is subscribed", || server.command(&["PUBSUB", "NUMSUB", channel]).ends_with("\n1"));
    for event in [format!("committed {HUGE}"), format!("invalidated {HUGE}"), format!("doubted {HUGE}")] {
        assert_eq!(server.command(&["PUBLISH", channel, &event]), "1");
    }
    assert!(serves(&idle, "token-1"));
    // A true event that comes after the forged ones shows that those have been heard.
    commit_elsewhere(&RedisStore::open(&server.url()).unwrap(), "token-2", idle.get().unwrap().generation());
    wait_until("the idle one follows", || serves(&idle, "token-2"));
    assert_eq!((script.fetches(), idle.stats().fetches, idle.stats().flights), (1, 1, 1));
}

#[test]
fn a_hundred_forged_events_at_once_cost_two_looks_and_one_inspection() {
    let (hooked, script) = (HookedStore::new(MemoryStore::new(), |_, _| None), Script::new(HOUR));
    let manager = build(hooked.clone(), &script);
    let _guard = manager.keep_fresh().unwrap();
    wait_until("there is a token, and the store was looked at", || {
        manager.get_within(Duration::ZERO).is_ok() && hooked.calls("check") == 1
    });
    // The event of the first commit is heard when the thread waits again.
    let waits = hooked.calls("wait");
    wait_until("it listens", || hooked.calls("wait") > waits + 2);
    let (claims, inspections) = (hooked.calls("claim"), hooked.calls("inspect"));
    hooked.forge(&[[Change::Committed(HUGE), Change::Invalidated(HUGE), Change::Doubted(HUGE)]; 100].concat());
    wait_until("they are heard", || hooked.calls("inspect") > inspections);
    let waits = hooked.calls("wait");
    wait_until("it listens again", || hooked.calls("wait") > waits + 2);
    // The first was acted on at once, the others together.
    assert_eq!((hooked.calls("claim") - claims, hooked.calls("inspect") - inspections), (2, 1));
    assert_eq!((script.fetches(), manager.get().unwrap().secret()), (1, "token-1"));
}

#[test]
fn a_subscription_that_told_nothing_of_a_commit_is_replaced() {
    let (store, script) = (MemoryStore::new(), Script::new(Duration::from_secs(20)));
    let deaf = Arc::new(AtomicBool::new(false));
    let is_deaf = deaf.clone();
    let hooked = HookedStore::new(store.clone(), move |verb, _| {
        (verb == "tell" && is_deaf.load(Ordering::SeqCst)).then_some(StoreErrorKind::Other)
    });
    let idle = build(hooked.clone(), &script);
    let _guard = idle.keep_fresh().unwrap();
    wait_until("the store was looked at twice", || hooked.calls("check") == 2);
    assert_eq!((hooked.calls("subscribe"), serves(&idle, "token-1")), (1, true));
    deaf.store(true, Ordering::SeqCst);
    commit_elsewhere(&store, "token-2", idle.get().unwrap().generation());
    wait_until("a look finds the news", || serves(&idle, "token-2"));
    wait_until("it subscribes anew", || hooked.calls("subscribe") == 2);
    assert_eq!((script.fetches(), idle.stats().flights), (1, 1));
}
