//! A short soak: a fleet under random faults, and the same seed gives the same faults.

use std::time::Duration;
use testbed::soak::{Plan, run, schedule};

fn plan(seed: u64) -> Plan {
    Plan::new(seed, Duration::from_secs(20))
}

#[test]
fn a_fleet_under_random_faults_breaks_no_promise() {
    let seed = 20;
    let report = run(&plan(seed), &["a_worker_without_orders_does_nothing", "--exact", "--nocapture"]);
    assert!(report.violations.is_empty() && report.calls > 0 && report.lives > 0, "\n{report}");
    assert_eq!(report.faults.values().sum::<u64>(), schedule(&plan(seed)).len() as u64);
}

#[test]
fn a_seed_reproduces_the_schedule_of_faults() {
    assert_eq!(schedule(&plan(7)), schedule(&plan(7)));
    assert_ne!(schedule(&plan(7)), schedule(&plan(8)));
}
