//! The simulated fleet behaves as the protocol promises, and the same each time.

use std::time::Duration;
use token_manager_benches::simulation::{Settings, run};

fn small(seed: u64) -> Settings {
    Settings { processes: 1000, seed, ..Settings::default() }
}

#[test]
fn the_same_seed_gives_the_same_report() {
    assert_eq!(run(&small(7)), run(&small(7)));
    assert_ne!(run(&small(7)), run(&small(8)));
}

#[test]
fn a_healthy_fleet_fetches_once_a_life_and_waits_only_for_the_first_token() {
    for life in [5, 60, 7200] {
        let report = run(&Settings { life: Duration::from_secs(life), ..small(1) });
        assert_eq!((report.cold.fetches, report.steady.waits), (1, 0), "life of {life} s");
        // A life ends for the fleet when its first process finds the token due, at 70 to 80 % of it, queueing apart.
        assert!(report.shortest_gap >= Duration::from_secs(life).mul_f64(0.69), "life of {life} s");
        assert!((4..=5).contains(&report.steady.fetches), "life of {life} s");
    }
}

#[test]
fn an_issuer_slower_than_the_lease_is_asked_once() {
    let report = run(&Settings { issuer: Duration::from_secs(8), ..small(1) });
    assert_eq!((report.cold.fetches, report.steady.waits), (1, 0));
}
