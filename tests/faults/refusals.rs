//! Redis answers with a refusal: the error names it, nobody panics, nothing is fetched in vain, and all is well once the
//! cause is gone.

use crate::bench::{Bench, all_refused, ask, served, wait_until};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;
use testbed::redis_server::RedisServer;
use testbed::worker_handle::Worker;

/// Asserts that every caller is told of the refusal in these words, and that no fetch was made.
#[track_caller]
fn refused(bench: &Bench, worker: &mut Worker, names: &str) {
    let words = all_refused(&ask(worker, 20, Duration::from_secs(10)), 20, "store");
    assert!(words.contains(names), "`{words}` does not name {names}");
    bench.assert_fetches(0);
}

/// Asserts that the refusal is over.
#[track_caller]
fn recovered(bench: &Bench, worker: &mut Worker) {
    served(worker, 20);
    bench.assert_fetches(1);
}

#[test]
fn readonly() {
    let bench = Bench::new();
    let mut worker = bench.worker();
    bench.redis.command(&["REPLICAOF", "127.0.0.1", "1"]);
    refused(&bench, &mut worker, "READONLY");
    bench.redis.command(&["REPLICAOF", "NO", "ONE"]);
    recovered(&bench, &mut worker);
}

#[test]
fn masterdown() {
    let bench = Bench::with(&["--replica-serve-stale-data", "no"], Duration::from_secs(600));
    let mut worker = bench.worker();
    bench.redis.command(&["REPLICAOF", "127.0.0.1", "1"]);
    refused(&bench, &mut worker, "MASTERDOWN");
    bench.redis.command(&["REPLICAOF", "NO", "ONE"]);
    recovered(&bench, &mut worker);
}

#[test]
fn loading() {
    let mut bench = Bench::with(
        &["--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024"],
        Duration::from_secs(600),
    );
    let mut worker = bench.worker();
    let fill = "for i = 1, 20000 do redis.call('SET', 'other:' .. i, i) end return 1";
    bench.redis.command(&["EVAL", fill, "0"]);
    bench.redis.command(&["SAVE"]);
    bench.redis.restart().unwrap();
    refused(&bench, &mut worker, "LOADING");
    bench.redis.command(&["CONFIG", "SET", "key-load-delay", "0"]);
    wait_until("the data is loaded", || bench.redis.command(&["INFO", "persistence"]).contains("\nloading:0"));
    recovered(&bench, &mut worker);
}

#[test]
fn out_of_memory() {
    let bench = Bench::new();
    let mut worker = bench.worker();
    bench.redis.command(&["CONFIG", "SET", "maxmemory", "1"]);
    refused(&bench, &mut worker, "OOM");
    bench.redis.command(&["CONFIG", "SET", "maxmemory", "0"]);
    recovered(&bench, &mut worker);
}

#[test]
fn misconf() {
    // A snapshot cannot be written to /proc.
    let bench = Bench::with(&["--dir", "/proc", "--logfile", ""], Duration::from_secs(600));
    let mut worker = bench.worker();
    // Redis 6 does not take it from the command line.
    bench.redis.command(&["CONFIG", "SET", "save", "3600 1"]);
    bench.redis.command(&["BGSAVE"]);
    wait_until("the snapshot has failed", || {
        bench.redis.command(&["INFO", "persistence"]).contains("rdb_last_bgsave_status:err")
    });
    refused(&bench, &mut worker, "MISCONF");
    bench.redis.command(&["CONFIG", "SET", "stop-writes-on-bgsave-error", "no"]);
    recovered(&bench, &mut worker);
}

#[test]
fn too_few_replicas() {
    let bench = Bench::new();
    let mut worker = bench.worker();
    bench.redis.command(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    refused(&bench, &mut worker, "NOREPLICAS: Redis has fewer replicas than its min-replicas-to-write");
    bench.redis.command(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    recovered(&bench, &mut worker);
}

/// Has Redis run a script that never ends, until it answers others that it is busy.
fn keep_busy(redis: &RedisServer, script: &'static str) -> thread::JoinHandle<()> {
    let url = redis.url();
    let caller = thread::spawn(move || {
        // It is ended by force.
        let _ = testbed::redis_server::ask(&url, &["EVAL", script, "0"]);
    });
    wait_until("Redis is busy", || redis.try_command(&["GET", "x"]).is_err_and(|error| error.starts_with("BUSY")));
    caller
}

#[test]
fn busy_with_a_script_that_can_be_killed() {
    let bench = Bench::with(&["--lua-time-limit", "50"], Duration::from_secs(600));
    let mut worker = bench.worker();
    let caller = keep_busy(&bench.redis, "while true do end");
    refused(&bench, &mut worker, "BUSY: Redis is busy with somebody's script; end it with SCRIPT KILL");
    bench.redis.command(&["SCRIPT", "KILL"]);
    caller.join().unwrap();
    recovered(&bench, &mut worker);
}

#[test]
fn busy_with_a_script_that_is_unkillable() {
    let mut bench = Bench::with(&["--lua-time-limit", "50"], Duration::from_secs(600));
    let mut worker = bench.worker();
    let caller = keep_busy(&bench.redis, "redis.call('SET', 'other', 'x') while true do end");
    assert!(bench.redis.try_command(&["SCRIPT", "KILL"]).unwrap_err().starts_with("UNKILLABLE"));
    refused(&bench, &mut worker, "with SHUTDOWN NOSAVE where that is UNKILLABLE");
    let _ = bench.redis.try_command(&["SHUTDOWN", "NOSAVE"]);
    caller.join().unwrap();
    bench.redis.restart().unwrap();
    recovered(&bench, &mut worker);
}

#[test]
fn as_many_clients_as_redis_takes() {
    for credentials in ["", "user:word@"] {
        let bench = Bench::new();
        bench.redis.command(&["ACL", "SETUSER", "user", "on", ">word", "~*", "&*", "+@all"]);
        let url = bench.redis.url().replace("redis://", &format!("redis://{credentials}"));
        let mut worker = bench.worker_at(&url, "");
        bench.redis.command(&["CONFIG", "SET", "maxclients", "8"]);
        // One that has just left may still be counted when the others come.
        let (mut clients, mut refusals) = (Vec::new(), 0);
        while refusals < 20 {
            match bench.redis.try_command(&["PING"]) {
                Err(_) => refusals += 1,
                Ok(_) => {
                    refusals = 0;
                    clients.push(TcpStream::connect(("127.0.0.1", bench.redis.port())).unwrap());
                }
            }
            thread::sleep(Duration::from_millis(2));
        }
        refused(&bench, &mut worker, "MAXCLIENTS: Redis has as many clients as its maxclients");
        drop(clients);
        wait_until("clients are taken again", || bench.redis.try_command(&["PING"]).is_ok());
        recovered(&bench, &mut worker);
    }
}

#[test]
fn no_password() {
    let bench = Bench::new();
    bench.redis.command(&["ACL", "SETUSER", "default", "resetpass", ">right"]);
    refused(&bench, &mut bench.worker(), "NOAUTH");
    recovered(&bench, &mut bench.worker_at(&url(&bench.redis, ":right"), ""));
}

#[test]
fn wrong_password() {
    let bench = Bench::new();
    let mut worker = bench.worker_at(&url(&bench.redis, "user:wrong"), "");
    refused(&bench, &mut worker, "Redis refused the credentials");
    bench.redis.command(&["ACL", "SETUSER", "user", "on", ">wrong", "~*", "&*", "+@all"]);
    recovered(&bench, &mut worker);
}

#[test]
fn acl_without_a_needed_command() {
    for command in ["evalsha", "hset", "set", "hmget"] {
        let bench = Bench::new();
        bench.redis.command(&["ACL", "SETUSER", "user", "on", ">word", "~*", "&*", "+@all", &format!("-{command}")]);
        let mut worker = bench.worker_at(&url(&bench.redis, "user:word"), "");
        refused(&bench, &mut worker, "NOPERM");
        bench.redis.command(&["ACL", "SETUSER", "user", &format!("+{command}")]);
        recovered(&bench, &mut worker);
    }
}

#[test]
fn acl_without_the_keys() {
    let bench = Bench::new();
    bench.redis.command(&["ACL", "SETUSER", "user", "on", ">word", "~other:*", "&*", "+@all"]);
    let mut worker = bench.worker_at(&url(&bench.redis, "user:word"), "");
    refused(&bench, &mut worker, "NOPERM");
    bench.redis.command(&["ACL", "SETUSER", "user", "~tm:*"]);
    recovered(&bench, &mut worker);
}

/// Asserts that a user restricted like this waits for the updater all the same.
fn costs_no_fetch_and_no_error(restriction: &str) {
    let bench = Bench::new();
    bench.redis.command(&["ACL", "SETUSER", "user", "on", ">word", "~*", "&*", "+@all", restriction]);
    let url = url(&bench.redis, "user:word");
    let mut workers = [bench.worker_at(&url, ""), bench.worker_at(&url, "")];
    bench.issuer.hold();
    workers.iter_mut().for_each(|worker| worker.get("all", 50, Duration::from_secs(30)));
    bench.in_flight(1);
    bench.issuer.release();
    let got = workers.each_mut().map(|worker| crate::bench::all_served(&worker.got("all"), 50));
    assert_eq!(got[0], got[1]);
    bench.assert_fetches(1);
}

#[test]
fn acl_without_channels_costs_events_and_nothing_else() {
    costs_no_fetch_and_no_error("resetchannels");
}

#[test]
fn acl_without_exists_costs_a_script_and_nothing_else() {
    costs_no_fetch_and_no_error("-exists");
}

#[test]
fn wrong_type_under_each_key() {
    let bench = Bench::new();
    let mut worker = bench.worker();
    let budget = "tm:{faults}:budget:default".to_string();
    for key in ["token", "updater", "meta", "carry"].map(|part| bench.key(part)).into_iter().chain([budget]) {
        bench.redis.command(&["DEL", &key]);
        bench.redis.command(&["RPUSH", &key, "a list"]);
        refused(&bench, &mut worker, "WRONGTYPE");
        bench.redis.command(&["DEL", &key]);
    }
    recovered(&bench, &mut worker);
}

#[test]
fn nonsense_under_each_key() {
    let bench = Bench::new();
    let mut worker = bench.worker();
    let nonsense: [(&str, &[&str]); 4] = [
        ("token", &["HSET", "gen", "99999999999999999", "value", "x"]),
        ("token", &["HSET", "gen", "x"]),
        ("meta", &["HSET", "gen", "x"]),
        ("meta", &["HSET", "pause_until", "x"]),
    ];
    for (part, command) in nonsense {
        let key = bench.key(part);
        let words: Vec<&str> = [&command[..1], &[key.as_str()], &command[1..]].concat();
        bench.redis.command(&words);
        refused(&bench, &mut worker, "token store failed");
        bench.redis.command(&["DEL", &key]);
    }
    recovered(&bench, &mut worker);
}

fn url(redis: &RedisServer, credentials: &str) -> String {
    redis.url().replace("redis://", &format!("redis://{credentials}@"))
}
