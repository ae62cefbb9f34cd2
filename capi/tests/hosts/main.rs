//! Programs in C, C++ and Python, compiled against the installed library and run against a real Redis and the issuer.

mod config;
mod header;
mod issuers;
mod many;
mod memory;
mod toolchain;

use std::process::{Command, Output};
use std::time::Duration;
use testbed::certificates::Authority;
use testbed::issuer::{Issuer, Options};
use testbed::redis_cluster::RedisCluster;
use testbed::redis_server::RedisServer;
use testbed::sentinels::Sentinels;
use token_manager::{Attempt, Fetched, RedisStore, TokenManager};
use toolchain::{Build, Link, compile, library, run};

/// A Redis and an issuer of one's own.
pub struct World {
    pub redis: RedisServer,
    pub issuer: Issuer,
}

impl World {
    pub fn start() -> World {
        let latency = Duration::from_millis(50);
        let life = Duration::from_secs(60);
        let options = Options { latency_min: latency, latency_max: latency, life, control: true, ..Options::default() };
        let issuer = Issuer::start("127.0.0.1:0", options).expect("a free port");
        World { redis: RedisServer::start().expect("a Redis"), issuer }
    }

    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.args([self.redis.url(), self.issuer.url()]);
        command
    }

    pub fn asked(&self) -> u64 {
        self.issuer.stats().asked
    }
}

fn python(world: &World, token: &str) -> Command {
    let mut command = Command::new("python3");
    command.arg(toolchain::source("host.py")).arg(library(Build::Release, Link::Shared));
    command.args([&world.redis.url(), &world.issuer.url(), token]);
    command
}

#[test]
fn a_hundred_c_threads_share_one_fetch() {
    for link in [Link::Shared, Link::Static] {
        let world = World::start();
        let shown = run(&mut world.command(compile("demo.c", Build::Release, link, &[])));
        assert!(shown.contains("ok 100 threads, 1 fetches"), "{shown}");
        assert_eq!(world.asked(), 1);
    }
}

#[test]
fn the_quickstart_prints_what_the_fleet_has_fetched() {
    let world = World::start();
    let program = compile("../examples/quickstart.c", Build::Release, Link::Shared, &[]);
    let start = |command: &str| run(Command::new(&program).arg(world.redis.url()).arg(command));
    assert_eq!(start("printf first"), "Authorization: Bearer first\n");
    assert_eq!(start("printf second"), "Authorization: Bearer first\n", "it is valid still");
}

#[test]
fn c_reaches_redis_over_tls_with_logins_that_expire() {
    let authority = Authority::new();
    let (redis, port) = authority.start_redis(&authority.issue("server", &["localhost"]), true, &[]);
    redis.command(&["ACL", "SETUSER", "fleet", "on", ">word", "~*", "&*", "+@all"]);
    let client = authority.issue("client", &["client"]);
    let logins = authority.folder().join("logins");
    std::fs::write(&logins, "fleet\nword\n").expect("a file");
    for build in [Build::Release, Build::Debug] {
        let mut command = Command::new(compile("redis.c", build, Link::Shared, &[]));
        command.arg(format!("rediss://localhost:{port}/2")).arg(authority.file());
        let shown = run(command.args([&client.certificate, &client.key, &logins]));
        assert_eq!(shown.lines().filter(|line| line.starts_with("ok ")).count(), 4, "{shown}");
    }
}

#[test]
fn the_quickstart_runs_in_a_cluster_and_behind_sentinels() {
    let program = compile("../examples/quickstart.c", Build::Release, Link::Shared, &[]);
    let start = |url: &str, command: &str| run(Command::new(&program).arg(url).arg(command));
    let cluster = RedisCluster::start().expect("a cluster");
    let sentinels = Sentinels::start().expect("sentinels");
    for url in [cluster.url(), sentinels.url()] {
        assert_eq!(start(&url, "printf first"), "Authorization: Bearer first\n");
        assert_eq!(start(&url, "printf second"), "Authorization: Bearer first\n", "it is valid still");
    }
}

#[test]
fn a_token_of_a_c_program_lies_in_redis_sealed() {
    let (world, folder) = (World::start(), tempfile::tempdir().expect("a folder"));
    let keys = folder.path().join("keys");
    std::fs::write(&keys, "k1 q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=\n").expect("a file of keys");
    let program = compile("sealed.c", Build::Release, Link::Shared, &[]);
    let secret = run(world.command(&program).arg(&keys));
    let lies = world.redis.command(&["HGET", "tm:{sealed}:sealed:token", "value"]);
    assert!(lies.starts_with("tm1.k1.") && !lies.contains(secret.trim()), "{lies}");
    assert_eq!(run(world.command(&program).arg(&keys)), secret, "another process opens it");
    assert_eq!(world.asked(), 1);
}

#[test]
fn cpp_exceptions_become_outcomes_and_errors_become_exceptions() {
    let world = World::start();
    let shown = run(&mut world.command(compile("demo.cpp", Build::Release, Link::Shared, &[])));
    assert_eq!(shown.lines().filter(|line| line.starts_with("ok ")).count(), 11, "{shown}");
    assert_eq!(world.asked(), 3);
}

#[test]
fn python_is_called_back_by_foreign_threads() {
    let world = World::start();
    let shown = run(&mut python(&world, "python"));
    assert!(shown.contains("ok 20 threads, 1 fetches"), "{shown}");
    assert_eq!(world.asked(), 1);
}

#[test]
fn forked_children_work_and_leave_their_parent_alone() {
    for build in [Build::Release, Build::Debug] {
        let world = World::start();
        let shown = run(&mut world.command(compile("prefork.c", build, Link::Shared, &[])));
        assert_eq!(shown.lines().filter(|line| line.starts_with("ok ")).count(), 4, "{shown}");
        assert_eq!(world.asked(), 3);
    }
}

#[test]
fn forked_children_meet_in_a_folder_too() {
    let (world, folder) = (World::start(), tempfile::tempdir().expect("a folder"));
    let mut program = Command::new(compile("prefork.c", Build::Release, Link::Shared, &[]));
    let shown = run(program.arg(folder.path()).arg(world.issuer.url()));
    assert_eq!(shown.lines().filter(|line| line.starts_with("ok ")).count(), 4, "{shown}");
    assert_eq!(world.asked(), 3);
}

#[test]
fn misuse_is_answered_and_never_silent() {
    for build in [Build::Release, Build::Debug] {
        let world = World::start();
        let shown = run(&mut world.command(compile("misuse.c", build, Link::Shared, &[])));
        assert_eq!(shown.lines().filter(|line| line.starts_with("ok ")).count(), 9, "{shown}");
    }
}

#[test]
fn freeing_twice_ends_a_debug_build_with_a_message() {
    use std::os::unix::process::ExitStatusExt;
    let world = World::start();
    let program = compile("misuse.c", Build::Debug, Link::Shared, &[]);
    let Output { status, stderr, .. } = world.command(program).arg("twice").output().expect("it runs");
    assert_eq!(status.signal(), Some(6));
    assert!(String::from_utf8_lossy(&stderr).contains("tkm_error_free: this handle was freed before"));
}

#[test]
fn c_python_and_rust_share_one_fetch_per_life() {
    let world = World::start();
    let program = compile("demo.c", Build::Release, Link::Shared, &[]);
    for life in 1..=3 {
        world.issuer.hold();
        let c = world.command(&program).arg("mixed").stdout(std::process::Stdio::piped()).spawn().expect("C runs");
        let py = python(&world, "mixed").stdout(std::process::Stdio::piped()).spawn().expect("Python runs");
        let (url, redis) = (world.issuer.url(), world.redis.url());
        let rust = std::thread::spawn(move || {
            let manager = TokenManager::builder("mixed")
                .store(RedisStore::open(&redis).expect("a store"))
                .source(move |attempt: &Attempt| fetch(&url, attempt))
                .build()
                .expect("sound settings");
            manager.get().expect("a token");
            manager
        });
        assert!(world.issuer.wait_for(|stats| stats.in_flight == 1, Duration::from_secs(20)));
        world.issuer.release();
        let manager = rust.join().expect("Rust got a token");
        for child in [c, py] {
            let output = child.wait_with_output().expect("it ended");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        assert_eq!(world.asked(), life);
        manager.invalidate(&manager.get().expect("the token at hand"));
    }
}

fn fetch(url: &str, _: &Attempt) -> Result<Fetched, token_manager::FetchError> {
    let lost = |_| token_manager::FetchError::unknown_outcome("no answer");
    let text = ureq::post(&format!("{url}/token")).send_empty().map_err(lost)?.body_mut().read_to_string();
    let json: serde_json::Value = serde_json::from_str(&text.map_err(lost)?).unwrap_or_default();
    let life = Duration::from_millis(json["expires_in_ms"].as_u64().unwrap_or_default());
    Ok(Fetched::new(json["access_token"].as_str().unwrap_or_default(), life))
}
