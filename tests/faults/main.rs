//! Faults on real processes, a real Redis and a real issuer: a test for each row of the fault table and for each point at
//! which an updater can die. Every one counts the issuer's own requests exactly, and every caller's time and order.

mod bench;
mod cluster_refusals;
mod issuers;
mod outages;
mod presence;
mod process_faults;
mod refusals;
mod soaking;
mod updaters;
mod wire;

/// Where this test binary turns into a worker, when it is started as one.
#[test]
fn a_worker_without_orders_does_nothing() {
    testbed::worker::work_if_ordered();
}
