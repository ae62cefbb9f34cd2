//! The whole time of a program that lives for one token that Redis has, from its start to its end, beside `redis-cli GET`; and
//! the connections, commands and round trips that it takes.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use testbed::redis_server::RedisServer;
use testbed::tap::Tap;
use token_manager_benches::measure::{asked_for, machine_time, quantile, ratio};

const ROUNDS: usize = 200;

fn main() {
    if !asked_for() {
        return;
    }
    let (redis, folder) = (RedisServer::start().expect("a Redis"), tempfile::tempdir().expect("a folder"));
    let from_c = compile(folder.path());
    let tap = Tap::to(redis.port());
    let candidates = |port: u16| {
        let (port, url) = (port.to_string(), format!("redis://127.0.0.1:{port}/"));
        let ours = env!("CARGO_BIN_EXE_short");
        [
            ("`true`, which asks nobody", command("true", &[])),
            ("redis-cli GET", command("redis-cli", &["-p", &port, "GET", "value"])),
            ("token-manager, inline and without thread", command(ours, &[&url])),
            ("token-manager, as it is by default", command(ours, &[&url, "background"])),
            ("token-manager from C, inline and without thread", command(&from_c.to_string_lossy(), &[&url])),
        ]
    };
    redis.command(&["SET", "value", &token_manager_benches::sources::secret()]);
    run(&mut command(env!("CARGO_BIN_EXE_short"), &[&redis.url()])); // fetches
    let passed = candidates(tap.port()).map(|(_, mut program)| {
        run(&mut program);
        tap.take()
    });
    let mut direct = candidates(redis.port());
    let mut times = vec![Vec::with_capacity(ROUNDS); direct.len()];
    for round in 0..=ROUNDS {
        for turn in 0..direct.len() {
            let chosen = (turn + round) % direct.len();
            let began = machine_time();
            run(&mut direct[chosen].1);
            if round > 0 {
                times[chosen].push((machine_time() - began) as f64 / 1e6);
            }
        }
    }
    println!("\nms from a program's start to its end, a token of 800 bytes; {ROUNDS} runs each, taken in turns");
    println!("| | p50 | p90 | × redis-cli | connections | commands | round trips |\n|---|---|---|---|---|---|---|");
    for (index, (name, _)) in direct.iter().enumerate() {
        let [p50, p90] = [0.5, 0.9].map(|part| quantile(&mut times[index].clone(), part));
        let (times, passed) = (ratio(&times[index], &times[1]), &passed[index]);
        let (connections, commands) = (passed.connections, passed.commands.join(", "));
        println!("| {name} | {p50:.2} | {p90:.2} | {times:.2} | {connections} | {commands} | {} |", passed.round_trips);
    }
}

fn command(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).stdout(Stdio::null());
    command
}

fn run(program: &mut Command) {
    let status = program.status().expect("a program that can be started");
    assert!(status.success(), "{program:?} failed: {status}");
}

/// Compiles the program in C against the C library, which cargo builds first.
fn compile(folder: &Path) -> PathBuf {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let program = folder.join("short");
    run(Command::new(env!("CARGO")).args(["build", "-q", "--release", "-p", "token-manager-capi"]).current_dir(root));
    let library = Path::new(env!("CARGO_BIN_EXE_short")).with_file_name("libtoken_manager_capi.a");
    let mut compiler = Command::new("cc");
    compiler.args(["-std=c99", "-O2", "-o"]).arg(&program).arg(root.join("benches/benches/short/short.c"));
    compiler.arg("-I").arg(root.join("capi/include")).arg(&library);
    compiler.args(["-lpthread", "-ldl", "-lm"]);
    run(&mut compiler);
    program
}
