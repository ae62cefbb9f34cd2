//! A token's log in Redis.

use testbed::redis_server::RedisServer;
use token_manager::RedisStore;
use token_manager::store::TokenName;

#[test]
fn a_log_keeps_the_order_has_no_entry_twice_and_is_read_on_from_any_place() {
    let redis = RedisServer::start().expect("a Redis");
    let store = RedisStore::open(&redis.url()).expect("a URL");
    let [namespace, group, name, grant] = ["tm", "group", "name", "grant"].map(Into::into);
    let name = TokenName { namespace, group, name, grant };
    assert_eq!(store.read_log(&name, 10, None).expect("a log"), []);
    for number in 0..5 {
        let (entry, number) = (format!("entry {number}"), number.to_string());
        // Twice, as after a lost reply.
        for _ in 0..2 {
            store.append_log(&name, 1000, &entry, &[("number", &number), ("empty", "")]).expect("an entry");
        }
    }
    let numbers = |count, after: Option<&str>| {
        let entries = store.read_log(&name, count, after).expect("a log");
        entries.iter().map(|entry| entry.get("number").expect("a number").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(numbers(10, None), ["0", "1", "2", "3", "4"]);
    assert_eq!(numbers(2, None), ["3", "4"]);
    let third = store.read_log(&name, 3, None).expect("a log")[0].clone();
    assert_eq!((third.get("empty"), third.get("entry")), (Some(""), None));
    assert_eq!(numbers(1, Some(&third.id)), ["3"]);
    assert_eq!(numbers(10, Some(&third.id)), ["3", "4"]);
    assert!(redis.command(&["PTTL", "tm:{group}:name:log"]).parse::<u64>().expect("an expiry") > 2_591_000_000);
    redis.command(&["SET", "tm:{group}:name:log", "something else"]);
    assert!(store.read_log(&name, 10, None).is_err());
}
