//! Runs the issuer as a program of its own, for `demo --issuer URL`, for other programs and for curl.

use std::process::ExitCode;
use std::thread;
use testbed::issuer::{Fault, Issuer, Options};
use testbed::options::{Arguments, finish, number, range, some_time};

const HELP: &str = "\
A token issuer on loopback. It serves /token, /verify (Authorization: Bearer ...) and /stats until ctrl-C.

Usage: cargo run --example issuer -- [options]
  --port N            port on 127.0.0.1, 0 for a free one (8080)
  --latency A..B      how long it takes to issue a token (4s..8s)
  --life T            how long a token is valid (5s)
  --rate N            answers a minute for one source IP, 0 for no limit (60)
  --burst N           how many of them at once (10)
  --failure-rate X    share of requests that fail with 500, from 0 to 1 (0)
  --hang              take /token requests and never answer them
  --revoke-on-issue   only the newest token is valid
  --control           serve /control, as in /control?fault=status:503&hold=1
Durations are written 500ms, 5s, 2m or 2h.";

fn main() -> ExitCode {
    finish(run())
}

fn run() -> Result<(), String> {
    let Some((port, options)) = read_options()? else {
        println!("{HELP}");
        return Ok(());
    };
    let issuer = Issuer::start(("127.0.0.1", port), options)
        .map_err(|error| format!("cannot listen on port {port} ({error}); choose another with --port"))?;
    println!("{}", issuer.url());
    loop {
        thread::park();
    }
}

fn read_options() -> Result<Option<(u16, Options)>, String> {
    let mut port = 8080;
    let mut options = Options { rate: 60, burst: 10, ..Options::default() };
    (options.latency_min, options.latency_max) = range("4s..8s")?;
    let mut arguments = Arguments::from_env();
    while let Some(option) = arguments.next_option()? {
        match option.as_str() {
            "port" => port = arguments.value(number(0, u16::MAX))?,
            "latency" => (options.latency_min, options.latency_max) = arguments.value(range)?,
            "life" => options.life = arguments.value(some_time)?,
            "rate" => options.rate = arguments.value(number(0, 1_000_000))?,
            "burst" => options.burst = arguments.value(number(1, 1_000_000))?,
            "failure-rate" => options.failure_rate = arguments.value(number(0.0, 1.0))?,
            "hang" => options.fault = Fault::Hang,
            "revoke-on-issue" => options.revoke_on_issue = true,
            "control" => options.control = true,
            "help" => return Ok(None),
            _ => return Err(arguments.unknown()),
        }
    }
    Ok(Some((port, options)))
}
