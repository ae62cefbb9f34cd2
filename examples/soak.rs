//! A fleet of real processes under random faults, for as long as you like: prints what was injected and what came of it,
//! and fails if anything happened that must not.

use std::process::ExitCode;
use std::time::Duration;
use testbed::options::{Arguments, finish, number, some_time};
use testbed::soak::{KINDS, Plan};

const HELP: &str = "\
Processes under random faults, against a private Redis and an issuer of their own.

Usage: cargo run --release --example soak -- [options]
  --for T         how long faults are injected (60s)
  --processes N   how many processes, in turn in each database (4)
  --databases N   how many fleets of the same token name, each in a database of its own (2)
  --faults A,B    which faults: kill stop reject restart hang flush scripts cut late mute fails silent throttles slow
                  signals clock (all; clock needs a C compiler)
  --threads N     how many threads each (8)
  --seed N        reproduces the schedule of faults (a new one)
  --schedule      only print the schedule
Durations are written 500ms, 5s, 2m or 2h. The exit code is 1 if there was a violation.";

fn main() -> ExitCode {
    testbed::worker::work_if_ordered();
    finish(run())
}

fn some_kinds(text: &str) -> Result<Vec<&'static str>, String> {
    let known = |word: &str| KINDS.into_iter().find(|kind| *kind == word);
    text.split(',').map(|word| known(word).ok_or(format!("there is no fault `{word}`; see --help"))).collect()
}

fn run() -> Result<(), String> {
    let seed = getrandom::u64().map_err(|error| format!("no random seed: {error}; give one with --seed"))? % 1_000_000;
    let mut plan = Plan::new(seed, Duration::from_secs(60));
    let mut only_schedule = false;
    let mut arguments = Arguments::from_env();
    while let Some(option) = arguments.next_option()? {
        match option.as_str() {
            "help" => {
                println!("{HELP}");
                return Ok(());
            }
            "schedule" => only_schedule = true,
            "for" => plan.length = arguments.value(some_time)?,
            "databases" => plan.databases = arguments.value(number(1, 16))?,
            "faults" => plan.kinds = arguments.value(some_kinds)?,
            "processes" => plan.processes = arguments.value(number(1, 64))?,
            "threads" => plan.threads = arguments.value(number(1, 1_000))?,
            "seed" => plan.seed = arguments.value(number(0, u64::MAX))?,
            _ => return Err(arguments.unknown()),
        }
    }
    println!("seed {}", plan.seed);
    if only_schedule {
        testbed::soak::schedule(&plan).iter().for_each(|(at, fault)| println!("{at:>8} ms  {fault:?}"));
        return Ok(());
    }
    let report = testbed::soak::run(&plan, &[]);
    print!("{report}");
    match report.violations.len() {
        0 => Ok(()),
        count => Err(format!("{count} violations; --seed {} reproduces the schedule", plan.seed)),
    }
}
