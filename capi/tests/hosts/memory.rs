//! The hosts under valgrind and AddressSanitizer. There is no run under ThreadSanitizer: the library and Rust's standard
//! library are not instrumented on a stable toolchain, so every hand-over between threads in them looks like a race.

use crate::World;
use crate::toolchain::{Build, Link, compile, run};
use std::process::Command;

#[test]
fn valgrind_finds_no_error_and_no_leak_in_the_c_demo() {
    let world = World::start();
    let mut command = Command::new("valgrind");
    command.args(["--quiet", "--error-exitcode=9", "--leak-check=full", "--errors-for-leak-kinds=definite,indirect"]);
    command.arg(compile("demo.c", Build::Release, Link::Shared, &[]));
    run(command.args([world.redis.url(), world.issuer.url()]));
    assert_eq!(world.asked(), 1);
}

#[test]
fn address_sanitizer_finds_nothing_in_the_hosts() {
    // Not the prefork host: a child forked while another thread allocates hangs in the sanitizer's own allocator (gcc 12).
    for host in ["demo.c", "demo.cpp", "misuse.c"] {
        let world = World::start();
        let program = compile(host, Build::Release, Link::Static, &["-fsanitize=address", "-fno-omit-frame-pointer"]);
        run(&mut world.command(program));
    }
}
