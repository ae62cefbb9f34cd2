//! A fleet of real processes under random faults, for as long as you like: prints what was injected and what came of it,
//! and fails if anything happened that must not.

#[path = "support/crew.rs"]
mod crew;
#[path = "support/issuer.rs"]
mod issuer;
#[path = "support/options.rs"]
mod options;
#[path = "support/proxy.rs"]
mod proxy;
#[path = "support/redis_server.rs"]
mod redis_server;
#[path = "support/soak.rs"]
mod soak;
#[path = "support/worker.rs"]
mod worker;

use options::{Arguments, finish, number, some_time};
use soak::Plan;
use std::process::ExitCode;
use std::time::Duration;

const HELP: &str = "\
Processes under random faults, against a private Redis and an issuer of their own.

Usage: cargo run --release --example soak -- [options]
  --for T         how long faults are injected (60s)
  --processes N   how many processes (4)
  --threads N     how many threads each (8)
  --seed N        reproduces the schedule of faults (a new one)
  --schedule      only print the schedule
Durations are written 500ms, 5s, 2m or 2h. The exit code is 1 if there was a violation.";

fn main() -> ExitCode {
    worker::work_if_ordered();
    finish(run())
}

fn run() -> Result<(), String> {
    let seed = getrandom::u64().map_err(|error| format!("no random seed: {error}; give one with --seed"))? % 1_000_000;
    let mut plan = Plan { seed, length: Duration::from_secs(60), processes: 4, threads: 8 };
    let mut only_schedule = false;
    let mut arguments = Arguments::from_env();
    while let Some(option) = arguments.next()? {
        match option.as_str() {
            "help" => {
                println!("{HELP}");
                return Ok(());
            }
            "schedule" => only_schedule = true,
            "for" => plan.length = arguments.value(some_time)?,
            "processes" => plan.processes = arguments.value(number(1, 64))?,
            "threads" => plan.threads = arguments.value(number(1, 1_000))?,
            "seed" => plan.seed = arguments.value(number(0, u64::MAX))?,
            _ => return Err(arguments.unknown()),
        }
    }
    println!("seed {}", plan.seed);
    if only_schedule {
        soak::schedule(&plan).iter().for_each(|(at, fault)| println!("{at:>8} ms  {fault:?}"));
        return Ok(());
    }
    let report = soak::run(&plan, &[]);
    print!("{report}");
    match report.violations.len() {
        0 => Ok(()),
        count => Err(format!("{count} violations; --seed {} reproduces the schedule", plan.seed)),
    }
}
