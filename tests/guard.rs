//! The thread of `keep_fresh` ends with its guard. Alone in its process, so that the thread can be counted by name.

use std::time::Duration;
use testbed::{Backing, Script, threads_named, wait_until};

#[test]
fn dropping_the_guard_ends_its_thread_and_leaves_no_other() {
    for backing in Backing::all() {
        let script = Script::held(Duration::from_secs(3600));
        let manager = backing.builder("t").source(script.source()).build().unwrap();
        assert_eq!(threads_named("tkm-fresh"), 0);
        let guard = manager.keep_fresh().unwrap();
        script.wait_for(1); // The thread waits for a flight now: the guard ends it all the same.
        assert_eq!(threads_named("tkm-fresh"), 1);
        drop(guard);
        wait_until("the thread has ended", || threads_named("tkm-fresh") == 0);
        script.release();
        wait_until("the flight has ended", || threads_named("tkm-flight") + threads_named("tkm-source") == 0);
        assert_eq!((manager.get().unwrap().secret(), script.fetches()), ("token-1", 1));
    }
}
