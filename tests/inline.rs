//! With flights on the caller's thread the library starts no thread. Alone in its process, so that threads can be counted.

use std::time::Duration;
use testbed::{Backing, Script, threads_named};
use token_manager::Execution;

#[test]
fn a_host_that_forbids_foreign_threads_gets_none() {
    let backing = Backing::redis();
    let script = Script::new(Duration::from_secs(3600));
    let builder = || backing.builder("t").source(script.source());
    let inline = builder().execution(Execution::Inline).build().unwrap();
    assert_eq!(inline.get().unwrap().secret(), "token-1");
    inline.invalidate(&inline.get().unwrap());
    assert_eq!((inline.get().unwrap().secret(), threads_named("tkm-")), ("token-2", 0));

    let own = builder().build().unwrap();
    assert_eq!((own.get().unwrap().secret(), threads_named("tkm-pool")), ("token-2", 1));
    assert_eq!(script.fetches(), 2);
}
