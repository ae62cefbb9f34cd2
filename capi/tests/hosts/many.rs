//! The tokens of many keys in C: a thousand tenants, a Redis, exact numbers of fetches.

use crate::toolchain::{Build, Link, compile, run};
use std::process::Command;
use testbed::redis_server::RedisServer;

/// Runs the host, under another command or none.
fn tenants(before: &[&str], link: Link, build: Build, more: &[&str]) {
    let redis = RedisServer::start().expect("a Redis");
    let program = compile("many.c", build, link, more).to_string_lossy().into_owned();
    let words: Vec<&str> = before.iter().copied().chain([&*program]).collect();
    let shown = run(Command::new(words[0]).args(&words[1..]).arg(redis.url()));
    assert_eq!(shown.lines().filter(|line| line.starts_with("ok ")).count(), 8, "{shown}");
    assert!(shown.contains("ok 25 threads, 999 keys, 999 fetches"), "{shown}");
    assert_eq!(redis.command(&["HGET", "tm:{crm:tenant-5}:crm:tenant-5:token", "value"]), "tenant-5 2");
}

#[test]
fn a_c_program_has_the_tokens_of_a_thousand_tenants() {
    tenants(&[], Link::Shared, Build::Release, &[]);
    tenants(&[], Link::Static, Build::Debug, &[]);
}

#[test]
fn valgrind_finds_no_error_and_no_leak_in_many_tokens() {
    let kinds = "--errors-for-leak-kinds=definite,indirect";
    let valgrind = ["valgrind", "--quiet", "--error-exitcode=9", "--leak-check=full", kinds];
    tenants(&valgrind, Link::Shared, Build::Release, &[]);
}
