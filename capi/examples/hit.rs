//! What a hit costs in Rust, and through C if the compiled `hosts/hit.c` is given: nanoseconds on one thread, best of five.

use std::hint::black_box;
use std::process::Command;
use std::time::{Duration, Instant};
use token_manager::{Fetched, MemoryStore, TokenManager};

const HITS: u32 = 5_000_000;

fn main() {
    let manager = TokenManager::builder("hit")
        .store(MemoryStore::new())
        .source(|_: &token_manager::Attempt| Ok(Fetched::new("secret", Duration::from_secs(3600))))
        .build()
        .expect("sound settings");
    let program = std::env::args().nth(1);
    let (mut rust, mut c) = (f64::MAX, f64::MAX);
    for _ in 0..5 {
        // In turns, so that a machine that changes its pace changes it for both.
        rust = rust.min(hit(&manager));
        if let Some(program) = &program {
            let output = Command::new(program).output().expect("the program runs");
            c = c.min(String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number"));
        }
    }
    println!("rust {rust:.2} ns");
    if program.is_some() {
        println!("c {c:.2} ns, {:.2} times as much", c / rust);
    }
}

fn hit(manager: &TokenManager) -> f64 {
    black_box(manager.get().expect("a token"));
    let start = Instant::now();
    for _ in 0..HITS {
        drop(black_box(manager.get()));
    }
    start.elapsed().as_nanos() as f64 / f64::from(HITS)
}
