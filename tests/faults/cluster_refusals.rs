//! A store for one server that meets nodes of a Redis Cluster: each of their refusals is an error that says what to do.

use crate::bench::{Bench, all_refused, ask, served, wait_until};
use std::time::Duration;
use testbed::redis_server::RedisServer;
use testbed::worker_handle::Worker;
use token_manager::store::{StoreErrorKind, TokenName};
use token_manager::{RedisStore, Store};

const NODE: &[&str] = &["--cluster-enabled", "yes", "--cluster-require-full-coverage", "no"];

/// A node that has no slot.
fn node() -> Bench {
    Bench::with(NODE, Duration::from_secs(600))
}

#[track_caller]
fn refused(bench: &Bench, worker: &mut Worker, names: &str) {
    let words = all_refused(&ask(worker, 5, Duration::from_secs(10)), 5, "store");
    assert!(words.contains(names), "`{words}` does not name {names}");
    bench.assert_fetches(0);
}

fn add_all_slots(redis: &RedisServer) {
    let slots: Vec<String> = (0..16_384).map(|slot| slot.to_string()).collect();
    let command: Vec<&str> = ["CLUSTER", "ADDSLOTS"].into_iter().chain(slots.iter().map(String::as_str)).collect();
    redis.command(&command);
}

#[test]
fn clusterdown_and_crossslot() {
    let bench = node();
    let mut worker = bench.worker();
    refused(&bench, &mut worker, "CLUSTERDOWN: the Redis Cluster is down; see CLUSTER INFO");
    add_all_slots(&bench.redis);
    wait_until("the cluster is up", || bench.redis.command(&["CLUSTER", "INFO"]).contains("cluster_state:ok"));
    served(&mut worker, 5);
    bench.assert_fetches(1);

    // Braces that close at once are no tag: each key has a slot of its own.
    let name = TokenName { namespace: "tm".into(), group: "}".into(), name: "t".into(), grant: "t".into() };
    let error = RedisStore::open(&bench.redis.url()).unwrap().inspect(&name, "default").unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Malformed);
    assert!(error.to_string().starts_with("Redis answered CROSSSLOT: the keys are in several slots; leave braces"));
}

#[test]
fn moved_ask_and_tryagain() {
    let (bench, other) = (node(), RedisServer::start_with(NODE).expect("a second node"));
    let mut worker = bench.worker();
    let id = |redis: &RedisServer| redis.command(&["CLUSTER", "MYID"]);
    let (here, there) = (id(&bench.redis), id(&other));
    add_all_slots(&other);
    bench.redis.command(&["CLUSTER", "MEET", "127.0.0.1", &other.port().to_string()]);
    let slot = bench.redis.command(&["CLUSTER", "KEYSLOT", "{faults}"]);
    let nodes = [(&bench.redis, &there), (&other, &here)];
    wait_until("the nodes know each other", || {
        nodes.iter().all(|(redis, other)| redis.command(&["CLUSTER", "NODES"]).contains(other.as_str()))
            && bench.redis.try_command(&["GET", "{faults}"]).is_err_and(|error| error.starts_with("MOVED"))
    });
    refused(&bench, &mut worker, "MOVED: this Redis is a node of a cluster");

    for redis in [&bench.redis, &other] {
        redis.command(&["CLUSTER", "SETSLOT", &slot, "NODE", &here]);
    }
    bench.redis.command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &there]);
    refused(&bench, &mut worker, "ASK: this Redis is a node of a cluster");
    bench.redis.command(&["CLUSTER", "SETSLOT", &slot, "STABLE"]);
    bench.redis.command(&["HSET", &bench.key("carry"), "gen", "0"]);
    bench.redis.command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &there]);
    refused(&bench, &mut worker, "TRYAGAIN: the keys are just moving");
    bench.redis.command(&["CLUSTER", "SETSLOT", &slot, "STABLE"]);
    bench.redis.command(&["DEL", &bench.key("carry")]);
    served(&mut worker, 5);
    bench.assert_fetches(1);
}
