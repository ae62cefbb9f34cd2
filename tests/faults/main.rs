//! Faults on real processes, a real Redis and a real issuer: a test for each row of the fault table and for each point at
//! which an updater can die. Every one counts the issuer's own requests exactly, and every caller's time and order.

#[path = "../../examples/support/crew.rs"]
mod crew;
#[path = "../../examples/support/issuer.rs"]
mod issuer;
#[path = "../../examples/support/proxy.rs"]
mod proxy;
#[path = "../../examples/support/redis_server.rs"]
mod redis_server;
#[path = "../../examples/support/soak.rs"]
mod soak;
#[path = "../../examples/support/worker.rs"]
mod worker;

mod bench;
mod bystanders;
mod issuers;
mod outages;
mod refusals;
mod soaking;
mod updaters;
mod wire;

/// Where this test binary turns into a worker, when it is started as one.
#[test]
fn a_worker_without_orders_does_nothing() {
    worker::work_if_ordered();
}
