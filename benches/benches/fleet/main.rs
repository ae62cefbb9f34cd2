//! Eight processes of 25 threads on one real Redis: how soon all are served after a commit, beside a bare PUBLISH → GET
//! and beside polling; what a due token costs a caller; what each design costs Redis; and the same with many tokens, which `-- keyed` measures alone.

use child::{LATE_LIFE, LATE_REQUESTS, LIFE, REQUESTS, THREADS};
use std::fmt::Write as _;
use std::{env, fs, thread};
use testbed::child::Dialogue;
use testbed::redis_server::RedisServer;
use token_manager_benches::measure::{asked_for, machine_time, quantile, ratio};

mod child;
mod keyed;
mod original;

const PROCESSES: usize = 8;
const ROUNDS: usize = 31;

fn numbers(child: &mut Dialogue) -> Vec<u64> {
    child.expect("").split_whitespace().map(|word| word.parse().expect("a number")).collect()
}

struct Fleet {
    children: Vec<Dialogue>,
    redis: RedisServer,
}

impl Fleet {
    fn start() -> Fleet {
        let redis = RedisServer::start().expect("a Redis");
        let url = redis.url();
        let children = (0..PROCESSES).map(|_| Dialogue::start(&["--child", &url], &[])).collect();
        Fleet { children, redis }
    }

    fn tell(&mut self, line: &str) {
        self.children.iter_mut().for_each(|child| child.process.tell(line));
    }

    fn hear(&mut self) -> Vec<Vec<u64>> {
        self.children.iter_mut().map(numbers).collect()
    }

    fn ask(&mut self, line: &str) -> Vec<Vec<u64>> {
        self.tell(line);
        self.hear()
    }

    /// Returns how long after the commit's reply each thread was served, in milliseconds.
    fn turnover(&mut self, line: &str) -> Vec<f64> {
        let answers = self.ask(line);
        let committed = answers.iter().map(|answer| answer[0]).max().expect("children");
        waits(committed, &answers)
    }

    fn bare(&mut self, round: usize) -> Vec<f64> {
        let name = format!("bare-{round}");
        self.tell(&format!("bare {name}"));
        self.hear(); // all are subscribed
        self.redis.command(&["SET", &name, "value"]);
        self.redis.command(&["PUBLISH", &name, "1"]);
        let published = machine_time();
        waits(published, &self.hear())
    }

    /// Returns the seconds of CPU that Redis has spent so far, how many of these commands it was sent, and all
    /// commands, those that scripts called included.
    fn spent(&self, commands: &[&str]) -> [f64; 3] {
        let info = self.redis.command(&["INFO"]);
        let field = |name: &str| -> f64 {
            let line = info.lines().find_map(|line| line.strip_prefix(name)).expect("a field of INFO");
            line.trim_start_matches(':').trim().parse().expect("a number")
        };
        let sent = commands.iter().map(|command| self.calls(command)).sum();
        [field("used_cpu_sys:") + field("used_cpu_user:"), sent, field("total_commands_processed:")]
    }

    /// Returns how often this command was called since the last RESETSTAT.
    fn calls(&self, command: &str) -> f64 {
        let info = self.redis.command(&["INFO", "commandstats"]);
        let calls = info.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
        calls.map_or(0.0, |rest| rest.split(',').next().expect("a field").parse().expect("a number"))
    }
}

fn waits(since: u64, answers: &[Vec<u64>]) -> Vec<f64> {
    let served = answers.iter().flat_map(|answer| &answer[1..]);
    served.map(|served| served.saturating_sub(since) as f64 / 1e6).collect()
}

fn main() {
    let args: Vec<String> = env::args().collect();
    match &args[..] {
        [_, flag, url] if flag == "--child" => child::serve(url),
        _ if asked_for() => {
            let mut fleet = Fleet::start();
            if !args.iter().any(|arg| arg == "keyed") {
                turnovers(&mut fleet);
                loads(&mut fleet);
                late_load(&mut fleet);
            }
            keyed::turnovers(&mut fleet);
        }
        _ => {}
    }
}

fn turnovers(fleet: &mut Fleet) {
    fleet.turnover("turnover warm-up"); // connections, scripts
    let mut last = [const { Vec::new() }; 3];
    let mut all = [const { Vec::<f64>::new() }; 3];
    let mut commands = [const { Vec::new() }; 2];
    for round in 0..ROUNDS {
        fleet.redis.command(&["CONFIG", "RESETSTAT"]);
        let ours = fleet.turnover(&format!("turnover turn-{round}"));
        commands[0].push((fleet.calls("evalsha") + fleet.calls("eval")) / PROCESSES as f64);
        commands[1].push(fleet.calls("subscribe") / PROCESSES as f64);
        let rounds = [ours, fleet.bare(round), fleet.turnover(&format!("polling poll-{round}"))];
        for ((last, all), round) in last.iter_mut().zip(&mut all).zip(rounds) {
            last.push(round.iter().copied().fold(0.0, f64::max));
            all.extend(round);
        }
    }
    println!(
        "{PROCESSES} processes × {THREADS} threads wait for one token; {ROUNDS} rounds in turns; ms after the commit's reply"
    );
    println!("| | one thread p50 | last thread p50 | last thread p90 | × bare |\n|---|---|---|---|---|");
    let mut csv = String::from("design,wait_ms\n");
    for (index, name) in ["token-manager", "bare PUBLISH → GET", "polling each ms"].iter().enumerate() {
        let [p50, p90] = [0.5, 0.9].map(|part| quantile(&mut last[index].clone(), part));
        let times = ratio(&last[index], &last[1]);
        println!("| {name} | {:.2} | {p50:.2} | {p90:.2} | {times:.2} |", quantile(&mut all[index], 0.5));
        for percent in 0..=100 {
            let wait = quantile(&mut all[index], f64::from(percent) / 100.0);
            writeln!(csv, "{name},{wait:.3}").expect("memory");
        }
    }
    fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/results/turnover.csv"), csv).expect("a writable folder");
    let [scripts, subscriptions] = commands.map(|mut counts| quantile(&mut counts, 0.5));
    println!("Redis commands per process and life: {scripts:.2} scripts, {subscriptions:.2} subscriptions (medians)\n");
}

/// The same requests at the same pace by each design, and what they cost Redis.
fn loads(fleet: &mut Fleet) {
    const OURS: [&str; 3] = ["evalsha", "eval", "subscribe"];
    const POLLING: [&str; 4] = ["get", "setnx", "set", "del"];
    let before = fleet.spent(&OURS);
    let ours = fleet.ask("load steady");
    let after = fleet.spent(&OURS);
    thread::sleep(LIFE);
    let before_polling = fleet.spent(&POLLING);
    fleet.ask("polling-load steady-polling");
    let after_polling = fleet.spent(&POLLING);
    let spent = |from: [f64; 3], to: [f64; 3]| [0, 1, 2].map(|index| to[index] - from[index]);
    let (own, polling) = (spent(before, after), spent(before_polling, after_polling));
    let requests = PROCESSES * THREADS * REQUESTS;
    println!("{requests} requests at a steady pace, tokens of {LIFE:?}, by each design; what they cost Redis");
    println!("| | CPU s | commands sent | and those that scripts called |\n|---|---|---|---|");
    for (name, [cpu, sent, all]) in [("token-manager", own), ("polling each ms", polling)] {
        println!("| {name} | {cpu:.3} | {sent:.0} | {all:.0} |");
    }
    let [cpu, sent, all] = [0, 1, 2].map(|index| polling[index] / own[index]);
    println!("| times less | {cpu:.0} | {sent:.0} | {all:.0} |\n");

    println!("The same calls, over {} lives or so; ms", (REQUESTS as u64 * 20) / (LIFE.as_millis() as u64 * 3 / 4));
    calls(&ours.concat());
}

/// The steady load with tokens that are refreshed late: how many fetches a nominal life costs, and whether anyone waits.
fn late_load(fleet: &mut Fleet) {
    let mut granted = Vec::new();
    let mut times = Vec::new();
    for answer in fleet.ask("late-load late") {
        let (moments, calls) = answer[1..].split_at(answer[0] as usize);
        granted.extend_from_slice(moments);
        times.extend_from_slice(calls);
    }
    granted.sort_unstable();
    let fetches = granted.len();
    let lives = (granted[fetches - 1] - granted[0]) as f64 / LATE_LIFE.as_nanos() as f64;
    let a_life = (fetches - 1) as f64 / lives;
    println!(
        "\nTokens of {LATE_LIFE:?} refreshed 4 to 6 % before their end: {fetches} fetches, {a_life:.3} a nominal life"
    );
    println!("{} calls; ms", PROCESSES * THREADS * LATE_REQUESTS);
    calls(&times);
}

/// Shows the calls of a manager that refreshes beside those of one that has nothing to refresh, which take turns.
fn calls(nanos: &[u64]) {
    println!("| | p50 | p99.9 | longest | above 1 ms |\n|---|---|---|---|---|");
    for (name, which) in [("token refreshed in the background", 0), ("nothing to refresh (the machine's own noise)", 1)]
    {
        let mut times: Vec<f64> = nanos.iter().skip(which).step_by(2).map(|nanos| *nanos as f64 / 1e6).collect();
        let above = times.iter().filter(|time| **time > 1.0).count();
        let [p50, p999, longest] = [0.5, 0.999, 1.0].map(|part| quantile(&mut times, part));
        println!("| {name} | {p50:.5} | {p999:.4} | {longest:.2} | {above} |");
    }
}
