//! What a verb costs a real Redis, and what 1,000 processes with 10,000 tokens would then need of one, or of the nodes of a Cluster.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::time::Duration;
use std::{fs, thread};
use testbed::redis_server::RedisServer;
use token_manager::store::{Claim, Claimed, Grant, Lease, Secret, TokenName};
use token_manager::{Budget, RedisStore, Store};
use token_manager_benches::measure::asked_for;
use token_manager_benches::simulation::many::{Costs, Settings, run, spread};
use token_manager_benches::sources::secret;

const CALLS: u32 = 5_000;
const SUBSCRIBERS: usize = 100;
const CHANNELS: usize = 10_000;
const HOUR: Duration = Duration::from_secs(3600);

fn main() {
    if !asked_for() {
        return;
    }
    let redis = RedisServer::start().expect("a Redis");
    let costs = measure(&redis);
    println!("\nµs of Redis' processor each, receiving and sending included, one after the other:\n{costs:.1?}");
    println!("bytes of Redis' memory for each channel of a subscriber: {}", subscription_bytes(&redis));
    fleets(costs);
    println!(
        "\n| 10,000 groups on a Cluster of | fewest on a node | most | most against the mean |\n|---|---|---|---|"
    );
    for nodes in [3, 6, 12, 24, 48] {
        let counts = spread((0..10_000).map(|number| format!("crm:tenant-{number:06}")), nodes);
        let (least, most) = (counts.iter().min().expect("nodes"), counts.iter().max().expect("nodes"));
        println!("| {nodes} nodes | {least} | {most} | {:.2} |", (most * nodes) as f64 / 10_000.0);
    }
}

fn name(number: u32) -> TokenName {
    let name = format!("crm:tenant-{number:06}");
    TokenName { namespace: "tm".into(), group: (&*name).into(), name: (&*name).into(), grant: (&*name).into() }
}

fn info(redis: &RedisServer, field: &str) -> f64 {
    let info = redis.command(&["INFO"]);
    let value = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).expect("a field of INFO");
    value.trim().parse().expect("a number")
}

/// Returns what Redis' processor spends on each of these calls.
fn each(redis: &RedisServer, calls: u32, run: impl FnOnce()) -> Duration {
    let spent = || info(redis, "used_cpu_user") + info(redis, "used_cpu_sys");
    let before = spent();
    run();
    Duration::from_secs_f64((spent() - before).max(0.0) / f64::from(calls))
}

fn measure(redis: &RedisServer) -> Costs {
    let store = RedisStore::open(&redis.url()).expect("a valid URL");
    let names: Vec<TokenName> = (0..CALLS).map(name).collect();
    let claim = |budget| Claim { owner: "bench", attempt: 1, newer_than: 0, lease: HOUR, budget, egress: "default" };
    let mut leases = Vec::new();
    let grant = each(redis, CALLS, || {
        for name in &names {
            match store.claim(name, &claim(Some(Budget::default()))).expect("a Redis") {
                Claimed::Granted { generation, .. } => {
                    leases.push(Lease { owner: "bench".into(), attempt: 1, generation });
                }
                other => panic!("not granted: {other:?}"),
            }
        }
    });
    let value = Secret::new(secret());
    let fetched = Grant { value, left: HOUR, life: HOUR, age: None, carry: None, carry_lifetime: None };
    let commit = each(redis, CALLS, || {
        for (name, lease) in names.iter().zip(&leases) {
            store.commit(name, lease, &fetched).expect("a Redis");
        }
    });
    let take_over = each(redis, CALLS, || {
        for name in &names {
            let claimed = store.claim(name, &claim(None)).expect("a Redis");
            assert!(matches!(claimed, Claimed::Token(_)));
        }
    });
    let inspect = each(redis, CALLS, || {
        names.iter().for_each(|name| drop(store.inspect(name, "default").expect("a Redis")));
    });
    let mut connection = connect(redis);
    let ping = each(redis, CALLS, || {
        for _ in 0..CALLS {
            connection.write_all(b"PING\r\n").expect("a Redis");
            connection.read_exact(&mut [0; 7]).expect("a Redis");
        }
    });
    Costs { grant, take_over, commit, inspect, ping, event: event(redis, &mut connection) }
}

fn connect(redis: &RedisServer) -> TcpStream {
    let connection = TcpStream::connect(("127.0.0.1", redis.port())).expect("a Redis");
    connection.set_nodelay(true).expect("an option");
    connection
}

/// Returns what one event to one of many subscribers costs.
fn event(redis: &RedisServer, publisher: &mut TcpStream) -> Duration {
    const EVENTS: u32 = 500;
    let readers: Vec<_> = (0..SUBSCRIBERS)
        .map(|_| {
            let mut connection = connect(redis);
            connection.write_all(b"SUBSCRIBE tm:{crm:t}:crm:t:events:0\r\n").expect("a Redis");
            let mut answer = [0; 4096];
            assert!(connection.read(&mut answer).expect("a Redis") > 0);
            thread::spawn(move || while connection.read(&mut answer).is_ok_and(|count| count > 0) {})
        })
        .collect();
    let cost = each(redis, EVENTS * SUBSCRIBERS as u32, || {
        for _ in 0..EVENTS {
            publisher.write_all(b"PUBLISH tm:{crm:t}:crm:t:events:0 committed:1700000000000000\r\n").expect("a Redis");
            publisher.read_exact(&mut [0; 6]).expect("a Redis"); // `:100`
        }
    });
    redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    readers.into_iter().for_each(|reader| reader.join().expect("no panic"));
    cost
}

/// Returns what Redis keeps for each channel of a subscriber, where the channel has others.
fn subscription_bytes(redis: &RedisServer) -> u64 {
    let subscribe = |connection: &mut TcpStream| {
        for number in 0..CHANNELS {
            writeln!(connection, "SUBSCRIBE tm:{{crm:{number}}}:crm:{number}:events:0\r").expect("a Redis");
        }
        writeln!(connection, "PING\r").expect("a Redis");
        let (mut answer, mut tail) = ([0; 65_536], Vec::new());
        while !tail.windows(4).any(|bytes| bytes == b"pong") {
            let count = connection.read(&mut answer).expect("a Redis");
            tail = answer[count.saturating_sub(64)..count].to_vec();
        }
    };
    let mut connections: Vec<TcpStream> = (0..11).map(|_| connect(redis)).collect();
    subscribe(&mut connections[0]);
    let before = info(redis, "used_memory");
    connections[1..].iter_mut().for_each(subscribe);
    ((info(redis, "used_memory") - before) / (10 * CHANNELS) as f64) as u64
}

fn fleets(costs: Costs) {
    println!(
        "\n| processes × tokens, life | first fetched | fetches a second | scripts | pings | events | peak of commands in 1 s | one core of Redis | longest queue | connections, at rest and at most |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let mut csv =
        String::from("processes,tokens,life_s,started_within_s,scripts_per_s,pings_per_s,events_per_s,busy\n");
    for (processes, tokens, minutes, started) in [
        (100, 10_000, 60, 60),
        (1_000, 1_000, 60, 60),
        (1_000, 10_000, 120, 120),
        (1_000, 10_000, 60, 60),
        (1_000, 10_000, 60, 1),
        (1_000, 10_000, 15, 15),
    ] {
        let [life, started_within] = [minutes, started].map(|minutes| Duration::from_secs(minutes * 60));
        let settings = Settings {
            processes,
            tokens,
            life,
            span: life * 2,
            started_within,
            issuer: Duration::from_millis(500),
            network: Duration::from_micros(250),
            costs,
            seed: 1,
        };
        let report = run(&settings);
        let rate = |count: u64| count as f64 / settings.span.as_secs_f64();
        let rates = [report.scripts, report.pings, report.events].map(rate);
        let within = if started == minutes { "over a life".into() } else { format!("within {started} min") };
        println!(
            "| {processes} × {tokens}, {minutes} min | {within} | {:.1} | {:.0} | {:.0} | {:.0} | {} | {:.0} % | {:.1?} | {}, {} |",
            rate(report.fetches),
            rates[0],
            rates[1],
            rates[2],
            report.peak,
            report.busy * 100.0,
            report.longest_queue,
            2 * processes,
            33 * processes,
        );
        let [scripts, pings, events] = rates;
        let started = started * 60;
        let line = format!("{processes},{tokens},{},{started},{scripts:.1},{pings:.1},{events:.1}", minutes * 60);
        writeln!(csv, "{line},{:.4}", report.busy).expect("memory");
    }
    fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/results/many.csv"), csv).expect("a writable folder");
}
