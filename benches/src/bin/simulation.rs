//! Prints what a fleet of thousands costs its one Redis, and how long its requests wait; writes the commands around a
//! turnover to `results/simulation.csv`.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;
use token_manager_benches::simulation::{Phase, Settings, run};

fn main() {
    println!("Requests come 10 times a second in each process; the issuer takes 0.5 s.");
    println!("A script costs Redis 25 µs, a subscription and an EXISTS 15 µs each.\n");
    println!(
        "| processes | life | phase | requests | fetches | scripts | subscriptions | peak in 1 s | peak in 10 ms, as a rate | waits | longest wait | longest reply | listeners |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    let mut csv = String::from("life_s,second,commands_per_second\n");
    for (processes, life) in [(10_000, 7200), (10_000, 60), (10_000, 5), (30_000, 60), (100_000, 60)] {
        let settings = Settings { processes, life: Duration::from_secs(life), ..Settings::default() };
        let report = run(&settings);
        print(&settings, "cold start", 0, &report.cold);
        print(&settings, "3 lives", report.requests, &report.steady);
        if processes == 10_000 && life >= 60 {
            for (at, commands) in report.commands {
                writeln!(csv, "{life},{:.1},{}", at.as_secs_f64(), commands * 10).expect("memory");
            }
        }
    }
    fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/results/simulation.csv"), csv).expect("a writable folder");
}

fn print(Settings { processes, life, .. }: &Settings, name: &str, requests: u64, phase: &Phase) {
    let Phase { fetches, scripts, subscriptions, peak_second, peak_burst, waits, listeners, .. } = phase;
    println!(
        "| {processes} | {life:?} | {name} | {requests} | {fetches} | {scripts} | {subscriptions} | {peak_second} | {peak_burst} | {waits} | {:.0?} | {:.1?} | {listeners} |",
        phase.longest_wait, phase.longest_reply
    );
}
