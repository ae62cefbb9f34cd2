//! Handlers of the host's signals run on the host's threads only. Alone in its process, so that threads are told by name.
#![cfg(target_os = "linux")]

use std::fs;
use std::time::Duration;
use testbed::{Backing, Script, threads_named};

/// SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV and SIGSYS: raised by what a thread itself does.
const SYNCHRONOUS: u64 = bits(&[4, 5, 6, 7, 8, 11, 31]);
/// SIGKILL and SIGSTOP, which cannot be blocked, and what the C libraries keep to themselves.
const NEVER_BLOCKED: u64 = bits(&[9, 19, 32, 33, 34]);

const fn bits(signals: &[u32]) -> u64 {
    let (mut mask, mut index) = (0, 0);
    while index < signals.len() {
        mask |= 1 << (signals[index] - 1);
        index += 1;
    }
    mask
}

/// The signals that a thread blocks.
fn blocked(task: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{task}/status")).unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap() & !NEVER_BLOCKED
}

#[test]
fn all_but_synchronous_signals_are_blocked_in_the_librarys_own_threads_and_none_in_the_hosts() {
    let before = blocked("thread-self");
    let (backing, script) = (Backing::redis(), Script::held(Duration::from_secs(3600)));
    let manager = backing.builder("t").source(script.source()).build().unwrap();
    let guard = manager.keep_fresh().unwrap();
    assert!(manager.get_within(Duration::ZERO).is_err());
    script.wait_for(1);
    let mut masks = Vec::new();
    for task in fs::read_dir("/proc/self/task").unwrap().flatten() {
        let name = fs::read_to_string(task.path().join("comm")).unwrap();
        if name.starts_with("tkm-") {
            masks.push((name.trim().to_owned(), blocked(&format!("self/task/{}", task.file_name().display()))));
        }
    }
    masks.sort();
    let names = ["tkm-events", "tkm-flight", "tkm-fresh", "tkm-pool-0", "tkm-source"];
    assert_eq!(masks, names.map(|name| (name.to_owned(), !SYNCHRONOUS & !NEVER_BLOCKED)));
    assert_eq!(blocked("thread-self"), before);
    script.release();
    drop(guard);
    assert!(manager.quiesce(testbed::LONG));
    assert_eq!(threads_named("tkm-s"), 0);
}
