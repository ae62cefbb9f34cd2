//! Bytes that idle managers hold which share one store.

use token_manager::{Attempt, Fetched, RedisStore, TokenManager};
use token_manager_benches::allocations::{Counting, live_bytes};
use token_manager_benches::measure::asked_for;
use token_manager_benches::sources::{Fixed, secret};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const MANAGERS: usize = 1000;

fn main() {
    if !asked_for() {
        return;
    }
    let source = |_: &Attempt| Ok(Fetched::new(secret(), std::time::Duration::from_secs(3600)));
    let store = RedisStore::open("redis://127.0.0.1:1/").expect("a valid URL");
    let name = |index: usize| format!("service-{index:03}");
    let before = live_bytes();
    let mut managers = Vec::with_capacity(MANAGERS);
    let list = live_bytes() - before;
    for index in 0..MANAGERS {
        let builder = TokenManager::builder(&name(index)).store(store.clone()).source(source);
        managers.push(builder.build().expect("valid settings"));
    }
    let built = live_bytes() - before - list;

    let before = live_bytes();
    let stocked: Vec<_> = (0..MANAGERS)
        .map(|index| {
            let builder = TokenManager::builder(&name(index)).store(Fixed::stocked()).source(source);
            builder.build().expect("valid settings")
        })
        .collect();
    for manager in &stocked {
        manager.get().expect("a token");
    }
    // The last flights may not have ended yet.
    std::thread::sleep(std::time::Duration::from_millis(100));
    let used = live_bytes() - before - list;
    println!("| {MANAGERS} managers, bytes each | |\n|---|---|");
    println!("| built, sharing one Redis store | {} |", built / MANAGERS as isize);
    println!(
        "| after the first token, its secret of {} bytes included | {} |",
        secret().len(),
        used / MANAGERS as isize
    );
    drop((managers, stocked));
}
