//! The store in files: what is in the folder, who dies when, who forks and who is stopped, on real processes.
#![cfg(unix)]

mod children;
mod faults;
mod fleet;
mod folder;
mod kills;
mod steps;

/// Where this test binary turns into a worker, when it is started as one.
#[test]
fn a_worker_without_orders_does_nothing() {
    testbed::worker::work_if_ordered();
}
