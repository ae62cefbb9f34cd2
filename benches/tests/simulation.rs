//! The simulated fleet behaves as the protocol promises, and the same each time.

use std::time::Duration;
use token_manager_benches::simulation::{Settings, many, run};

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

#[test]
fn each_of_many_tokens_costs_one_fetch_a_life_and_each_process_one_look_and_one_claim() {
    let settings = many::Settings { processes: 20, tokens: 500, ..many::Settings::default() };
    let report = many::run(&settings);
    assert_eq!(report, many::run(&settings));
    assert_eq!((report.fetches, report.events), (500, 10_000));
    // A commit, a claim of the updater and one of each other process; now and then one more is due before the commit.
    assert!((500 * 21..500 * 22).contains(&report.scripts), "{report:?}");
    // A token is looked at once in what is left of its life, which mostly ends earlier: by its refresh.
    assert!((5_000..=10_000).contains(&report.looks), "{report:?}");
    let twice = many::run(&many::Settings { processes: 40, ..settings });
    assert!((1.9..2.1).contains(&(twice.busy / report.busy)), "{} and {}", report.busy, twice.busy);
}

#[test]
fn groups_lie_in_the_slots_of_the_specification_and_spread_over_the_nodes() {
    assert_eq!([many::slot("123456789"), many::slot("foo"), many::slot("")], [12_739, 12_182, 0]);
    for nodes in [3, 6, 12] {
        assert!((1.0..1.1).contains(&many::busiest_node(10_000, nodes)), "{nodes} nodes");
    }
}
