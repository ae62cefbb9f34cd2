//! The number of instructions of a hit, which no noise of the machine changes, stays below a limit.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use std::process::Command;

/// A hit took 117 instructions before it was shortened to about 90: a lock, a hash or an allocation more would go far beyond.
/// Under valgrind the clocks are read by system calls, whose instructions in the kernel are not counted.
const MOST: u64 = 100;

fn instructions(hits: u64) -> u64 {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null", env!("CARGO_BIN_EXE_hits"), "plain", "1"]);
    let output = valgrind.arg(hits.to_string()).output();
    let output = output.expect("valgrind is missing; run `sudo apt-get install valgrind`");
    let text = String::from_utf8_lossy(&output.stderr);
    let count = text.lines().find_map(|line| line.split_once("Collected : ")).map(|(_, count)| count.trim().parse());
    count.unwrap_or_else(|| panic!("valgrind counted nothing:\n{text}")).unwrap()
}

#[test]
#[cfg_attr(debug_assertions, ignore = "counts optimised code: cargo test --release -p token-manager-benches")]
fn a_hit_takes_no_more_instructions_than_its_limit() {
    let per_hit = (instructions(110_000) - instructions(10_000)) / 100_000;
    println!("{per_hit} instructions a hit");
    assert!(per_hit <= MOST, "a hit takes {per_hit} instructions, the limit is {MOST}");
}
