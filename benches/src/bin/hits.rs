//! Takes a fresh token so many times in each of so many threads: for counters of instructions, and for a test that
//! seals the process before the first hit.
//!
//! `hits <plain|sealed|write|call> <threads> <hits>`: `sealed` freezes what the threads share and forbids system calls;
//! `write` and `call` do in addition what is forbidden, to show that it does not go unnoticed.

use std::env::args;
use std::fs;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Barrier, OnceLock};
use std::thread;
use token_manager::TokenManager;
use token_manager_benches::seal;
use token_manager_benches::sources::fresh_manager;

#[global_allocator]
static ALLOCATOR: seal::Arena = seal::Arena;

fn main() {
    let args: Vec<String> = args().collect();
    let [_, mode, threads, count] = &args[..] else { panic!("usage: hits <plain|sealed|write|call> <threads> <hits>") };
    let (threads, count) = (threads.parse().expect("threads"), count.parse().expect("hits"));
    match mode.as_str() {
        "plain" => take(&ready_manager(), count),
        "sealed" | "write" | "call" => sealed(mode, threads, count),
        _ => panic!("no such mode: {mode}"),
    }
}

fn ready_manager() -> TokenManager {
    let manager = fresh_manager();
    manager.get().expect("a token");
    manager
}

fn take(manager: &TokenManager, count: u64) {
    for _ in 0..count {
        black_box(manager.get().expect("a fresh token"));
    }
}

fn sealed(mode: &str, threads: usize, count: u64) {
    static MANAGER: OnceLock<TokenManager> = OnceLock::new();
    static PROBE: OnceLock<Box<AtomicU64>> = OnceLock::new();
    static ENDED: AtomicUsize = AtomicUsize::new(0);
    seal::open_arena();
    MANAGER.get_or_init(ready_manager);
    PROBE.get_or_init(Box::default);
    // The threads of the first flight still write to what they were given.
    while fs::read_dir("/proc/self/task").expect("a mounted /proc").count() > 1 {
        thread::yield_now();
    }
    let (manager, probe) = (&MANAGER.wait(), &PROBE.wait());
    seal::close_arena();
    assert!(seal::arena_bytes() > 800, "the token is not in the arena");
    let (warm, frozen) = (Barrier::new(threads + 1), Barrier::new(threads + 1));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                take(manager, 1); // takes the thread's own clone of the token
                warm.wait();
                frozen.wait();
                seal::forbid_system_calls();
                take(manager, count);
                match mode {
                    "write" => probe.store(1, Ordering::Relaxed),
                    "call" => drop(black_box(std::process::id())),
                    _ => {}
                }
                // Even to end a thread takes system calls: the last one ends them all.
                if ENDED.fetch_add(1, Ordering::SeqCst) + 1 == threads {
                    seal::end(0);
                }
                loop {
                    std::hint::spin_loop();
                }
            });
        }
        warm.wait();
        seal::freeze_arena();
        frozen.wait();
    });
}
