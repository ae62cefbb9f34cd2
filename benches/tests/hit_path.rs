//! A hit allocates nothing, makes no system call and writes to no memory that other threads use.
#![cfg(target_os = "linux")]

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::thread;
use token_manager_benches::allocations::{self, Counting};
use token_manager_benches::sources::fresh_manager;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn hits(mode: &str) -> ExitStatus {
    Command::new(env!("CARGO_BIN_EXE_hits")).args([mode, "4", "100000"]).status().unwrap()
}

#[test]
fn a_hit_allocates_nothing() {
    let manager = fresh_manager();
    let count = || {
        manager.get().unwrap();
        let before = allocations::made();
        for _ in 0..10_000 {
            let token = manager.get().unwrap();
            assert_eq!(token.clone().secret().len(), 800);
        }
        allocations::made() - before
    };
    let in_others: Vec<u64> = thread::scope(|scope| {
        let threads = [(); 4].map(|()| scope.spawn(count));
        threads.map(|thread| thread.join().unwrap()).into()
    });
    assert_eq!((count(), in_others), (0, vec![0; 4]));
}

#[test]
fn a_hit_makes_no_system_call_and_writes_no_shared_memory() {
    let status = hits("sealed");
    assert!(status.success(), "{status}: SIGSYS is a system call, SIGSEGV a write to what the threads share");
}

#[test]
fn the_seal_notices_a_system_call_and_a_write() {
    assert_eq!(hits("call").signal(), Some(libc::SIGSYS));
    assert_eq!(hits("write").signal(), Some(libc::SIGSEGV));
}
