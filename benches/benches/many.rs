//! What many tokens cost one process: bytes, threads, connections, time to take over what a Redis has, and the processor's while idle.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use testbed::redis_server::RedisServer;
use testbed::wait_until;
use token_manager::{Attempt, Budget, Fetched, RedisStore, Store, TokenManager, TokenManagers};
use token_manager_benches::allocations::{Counting, live_bytes};
use token_manager_benches::measure::{asked_for, quantile};
use token_manager_benches::sources::{Fixed, secret};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const TOKENS: usize = 100_000;
const COLD: usize = 10_000;
const WORKERS: usize = 64;
const ROUNDS: usize = 7;
const IDLE: Duration = Duration::from_secs(30);
const HOUR: Duration = Duration::from_secs(3600);

fn keys(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("tenant-{number:06}")).collect()
}

fn managers(store: impl Store) -> TokenManagers {
    let builder = TokenManager::builder("crm").store(store).budget(Budget::per_minute(60_000)).deadline(HOUR / 60);
    let source = |_: &str, _: &Attempt| Ok(Fetched::new(secret(), HOUR));
    builder.keyed(source).max_keys(2 * TOKENS).workers(WORKERS).build().expect("valid settings")
}

fn main() {
    if !asked_for() {
        return;
    }
    bytes();
    let redis = RedisServer::start().expect("a Redis");
    cold_fetches(&redis);
    take_over(&redis);
    idle(&redis);
}

fn bytes() {
    let keys = keys(TOKENS);
    let before = live_bytes();
    let managers = managers(Fixed::stocked());
    for key in &keys {
        managers.get(key).expect("a token");
    }
    wait_until("the last flight has ended", || threads("tkm-flight") == 0);
    let held = live_bytes() - before;
    let secrets = (secret().len() * TOKENS) as isize;
    keys.iter().for_each(|key| assert!(managers.forget(key)));
    let left = live_bytes() - before;
    println!("| {TOKENS} tokens, bytes each beside the secret | {} |", (held - secrets) / TOKENS as isize);
    println!("| left when all are forgotten, bytes in all | {left} |");
}

/// How many threads of this name the process has; all if it is empty.
fn threads(name: &str) -> usize {
    let tasks = fs::read_dir("/proc/self/task").expect("Linux").flatten();
    let names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|comm| comm.starts_with(name)).count()
}

fn connections(redis: &RedisServer) -> usize {
    redis.command(&["CLIENT", "LIST"]).lines().filter(|line| !line.is_empty()).count() - 1
}

fn cold_fetches(redis: &RedisServer) {
    let keys = keys(COLD);
    let managers = managers(RedisStore::open(&redis.url()).expect("a valid URL"));
    let others = threads("");
    let began = Instant::now();
    let guard = managers.keep_fresh().expect("a thread");
    let (mut most, mut connected) = (0, 0);
    for key in &keys {
        let _ = managers.get_within(key, Duration::ZERO);
    }
    while keys.iter().any(|key| managers.get_within(key, Duration::ZERO).is_err()) {
        most = most.max(threads("") - others);
        connected = connected.max(connections(redis));
        thread::sleep(Duration::from_millis(20));
    }
    println!("| {COLD} tokens fetched by one process, {WORKERS} workers | {:?} |", began.elapsed());
    println!(
        "| threads of the library meanwhile, at most | {most} |\n| connections meanwhile, at most | {connected} |"
    );
    drop(guard);
}

fn take_over(redis: &RedisServer) {
    let keys = keys(COLD);
    let mut commands = String::new();
    for key in &keys {
        let key = format!("tm:{{crm:{key}}}:crm:{key}:token");
        commands +=
            &format!("*5\r\n$5\r\nHMGET\r\n${}\r\n{key}\r\n$3\r\ngen\r\n$5\r\nvalue\r\n$7\r\nlife_ms\r\n", key.len());
    }
    let (mut cli, mut own) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        cli.push(pipelined(redis, &commands).as_secs_f64() * 1e3);
        let managers = managers(RedisStore::open(&redis.url()).expect("a valid URL"));
        let began = Instant::now();
        assert_eq!(managers.load(&keys).expect("a Redis"), COLD);
        for key in &keys {
            managers.get(key).expect("a token");
        }
        own.push(began.elapsed().as_secs_f64() * 1e3);
        assert_eq!(managers.stats().fetches, 0);
    }
    let (cli, own) = (quantile(&mut cli, 0.5), quantile(&mut own, 0.5));
    println!("| {COLD} tokens that the store has, read by redis-cli in one pipeline | {cli:.0} ms |");
    println!("| the same taken over and asked for once each | {own:.0} ms, × {:.2} |", own / cli);
}

fn pipelined(redis: &RedisServer, commands: &str) -> Duration {
    let began = Instant::now();
    let port = redis.port().to_string();
    let cli =
        Command::new("redis-cli").args(["-p", &port, "--pipe"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
    let mut cli = cli.expect("redis-cli");
    cli.stdin.take().expect("a pipe").write_all(commands.as_bytes()).expect("an open pipe");
    assert!(cli.wait().expect("an end").success());
    began.elapsed()
}

fn idle(redis: &RedisServer) {
    let keys = keys(TOKENS);
    let managers = managers(RedisStore::open(&redis.url()).expect("a valid URL"));
    let guard = managers.keep_fresh().expect("a thread");
    let began = Instant::now();
    for key in &keys {
        let _ = managers.get_within(key, Duration::ZERO);
    }
    wait_until("all have a token", || keys.iter().all(|key| managers.get_within(key, Duration::ZERO).is_ok()));
    println!("| {TOKENS} tokens fetched and kept fresh after | {:?} |", began.elapsed());
    let commands = || {
        let stats = redis.command(&["INFO", "stats"]);
        let count = stats.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
        count.and_then(|count| count.trim().parse::<u64>().ok()).expect("a count")
    };
    let is_idle = || {
        let before = commands();
        thread::sleep(Duration::from_secs(2));
        commands() - before < 1_000
    };
    while !is_idle() && began.elapsed() < HOUR / 6 {}
    println!("| all of them looked at once, and idle after | {:?} |", began.elapsed());
    let (before, bytes) = (cpu(), live_bytes());
    let sent = commands();
    thread::sleep(IDLE);
    let used = (cpu() - before).as_secs_f64() / IDLE.as_secs_f64();
    println!("| processor of an idle process with all of them, of one core | {:.2} % |", used * 100.0);
    println!(
        "| commands (of scripts too) a second meanwhile | {:.1} |",
        (commands() - sent) as f64 / IDLE.as_secs_f64()
    );
    println!("| threads, connections meanwhile | {}, {} |", threads("tkm-"), connections(redis));
    println!("| bytes each with keep_fresh, beside the secret | {} |", bytes as usize / TOKENS - secret().len());
    drop(guard);
}

fn cpu() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}
