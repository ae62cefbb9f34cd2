//! Runs the issuer as a program of its own, for `demo --issuer URL`, for other programs and for curl.

mod support {
    pub mod issuer;
    pub mod options;
}

use std::process::ExitCode;
use std::thread;
use support::issuer::{Fault, Issuer, Options};
use support::options::{finish, number, range, some_time, unknown, value};

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
    use lexopt::Arg::Long;
    let mut port = 8080;
    let mut options = Options { rate: 60, burst: 10, ..Options::default() };
    (options.latency_min, options.latency_max) = range("4s..8s")?;
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
        let read = &mut parser;
        match argument {
            Long("port") => port = value(read, "port", number(0, u16::MAX))?,
            Long("latency") => (options.latency_min, options.latency_max) = value(read, "latency", range)?,
            Long("life") => options.life = value(read, "life", some_time)?,
            Long("rate") => options.rate = value(read, "rate", number(0, 1_000_000))?,
            Long("burst") => options.burst = value(read, "burst", number(1, 1_000_000))?,
            Long("failure-rate") => options.failure_rate = value(read, "failure-rate", number(0.0, 1.0))?,
            Long("hang") => options.fault = Fault::Hang,
            Long("revoke-on-issue") => options.revoke_on_issue = true,
            Long("control") => options.control = true,
            Long("help") => return Ok(None),
            other => return Err(unknown(other)),
        }
    }
    Ok(Some((port, options)))
}
