//! The protocol under a model checker: the library's own rules, driven through every order of steps and faults within
//! the bounds that each test states.

mod fleet;
mod properties;
mod state;
mod steps;
mod variants;
mod verbs;

use fleet::Fleet;
use properties::*;
use state::Left;
use stateright::{Checker, HasDiscoveries, Model};
use std::time::Instant;
use variants::Rules;

fn fleet(processes: usize, burst: u32, left: Left) -> Fleet {
    Fleet { rules: Rules::Real, processes, revokes: true, burst, left, faults: true, keeps: false, closes: false }
}

/// Explores everything and asserts that every promise holds and everything that must be reached is.
fn holds(title: &str, fleet: Fleet) {
    let started = Instant::now();
    let checker = fleet.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_dfs().join();
    println!(
        "{title}: {} states explored, depth {}, {:.1} s",
        checker.unique_state_count(),
        checker.max_depth(),
        started.elapsed().as_secs_f64()
    );
    checker.assert_properties();
}

/// Explores until the promise is broken and asserts that it is.
fn breaks(title: &str, fleet: Fleet, promise: &'static str) {
    let checker = fleet.checker().threads(2).finish_when(HasDiscoveries::AnyOf([promise].into())).spawn_bfs().join();
    let path = checker.assert_any_discovery(promise);
    println!(
        "{title}: broken in {} steps, {} states explored",
        path.into_actions().len(),
        checker.unique_state_count()
    );
}

const NONE: Left = Left { requests: 0, crashes: 0, late: 0, losses: 0, failovers: 0, abandons: 0, alarms: 0 };

#[test]
fn a_healthy_redis_sees_one_flight_at_a_time_and_one_fetch_a_life() {
    let healthy = Fleet { faults: false, ..fleet(3, 4, Left { requests: 7, ..NONE }) };
    holds("no faults", healthy);
}

#[test]
fn forged_events_bring_no_fetch_and_no_doubt() {
    holds("forged events", Fleet { faults: false, keeps: true, ..fleet(2, 4, Left { requests: 5, ..NONE }) });
}

#[test]
fn who_trusts_events_fetches_for_forged_ones() {
    let trusting = Fleet { faults: false, keeps: true, ..fleet(2, 4, Left { requests: 3, ..NONE }) };
    breaks("trusted events", Fleet { rules: Rules::TrustedEvents, ..trusting }, ONE_FETCH);
}

#[test]
fn what_a_redis_lost_is_offered_back_by_those_who_followed_every_change() {
    let keeping = fleet(2, 2, Left { requests: 3, crashes: 1, losses: 1, ..NONE });
    holds("offers after a loss", Fleet { keeps: true, ..keeping });
    let failing = fleet(2, 2, Left { requests: 3, crashes: 1, failovers: 1, ..NONE });
    holds("offers after a failover", Fleet { keeps: true, ..failing });
}

#[test]
fn offers_of_those_who_have_not_followed_leave_the_fleet_on_a_dead_token() {
    let keeping = Fleet { keeps: true, ..fleet(2, 3, Left { requests: 4, losses: 1, ..NONE }) };
    breaks("blind offers", Fleet { rules: Rules::BlindOffers, ..keeping }, SOUND);
}

#[test]
fn leases_end_replies_are_lost_and_updaters_crash_at_any_step() {
    holds("crashes", fleet(3, 3, Left { requests: 4, crashes: 2, ..NONE }));
}

#[test]
fn an_issuer_that_does_not_revoke_is_asked_no_more_often() {
    let lenient = Fleet { revokes: false, ..fleet(3, 3, Left { requests: 3, crashes: 1, abandons: 1, ..NONE }) };
    holds("an issuer that does not revoke", lenient);
}

#[test]
fn a_request_is_executed_after_its_sender_gave_it_up() {
    holds("late requests", fleet(3, 3, Left { requests: 3, late: 1, crashes: 1, ..NONE }));
}

#[test]
fn an_abandoned_source_brings_its_token_late_or_never() {
    holds("abandoned sources", fleet(3, 3, Left { requests: 3, abandons: 1, ..NONE }));
}

#[test]
fn redis_loses_all_data_at_any_step() {
    holds("data loss", fleet(3, 2, Left { requests: 3, crashes: 1, losses: 1, ..NONE }));
}

#[test]
fn a_failover_goes_back_to_a_replica_that_stopped_at_any_step() {
    holds("failover", fleet(3, 2, Left { requests: 3, crashes: 1, failovers: 1, ..NONE }));
}

#[test]
fn two_processes_survive_crashes_late_requests_data_loss_and_failover_together() {
    let all = Left { requests: 2, crashes: 1, late: 1, losses: 1, failovers: 1, abandons: 0, alarms: 0 };
    holds("all faults", fleet(2, 2, all));
}

#[test]
fn a_dead_updater_that_is_missed_costs_nothing_but_its_own_fetch() {
    let missing = Fleet { faults: false, ..fleet(3, 4, Left { requests: 5, crashes: 2, ..NONE }) };
    holds("missed updaters", missing);
}

#[test]
fn a_living_updater_that_is_missed_costs_two_fetches_more_or_three_where_the_issuer_revokes() {
    for (alarms, revokes) in [(1, false), (1, true), (2, false), (2, true)] {
        let lying = Fleet { faults: false, revokes, ..fleet(3, 8, Left { requests: 5, alarms, ..NONE }) };
        holds(&format!("{alarms} false alarms, revokes: {revokes}"), lying);
    }
}

#[test]
fn presence_that_lies_beside_crashes_late_requests_and_a_failover_breaks_no_promise() {
    let all = Left { requests: 2, crashes: 1, late: 1, failovers: 1, alarms: 1, ..NONE };
    holds("presence that lies, beside other faults", fleet(2, 2, all));
    holds("presence that lies in a fleet of three", fleet(3, 3, Left { requests: 3, crashes: 1, alarms: 1, ..NONE }));
}

#[test]
fn every_waiter_returns() {
    let closing = fleet(3, 2, Left { requests: 3, crashes: 2, ..NONE });
    holds("waiters", Fleet { closes: true, ..closing });
}

#[test]
fn waiters_that_wait_for_events_alone_wait_for_ever() {
    let deaf = fleet(2, 2, Left { requests: 2, crashes: 1, ..NONE });
    breaks("events alone", Fleet { rules: Rules::EventsAlone, closes: true, ..deaf }, RETURNS);
}

#[test]
fn the_last_writer_leaves_the_fleet_on_a_dead_token() {
    breaks("last writer wins", broken(Rules::LastWriterWins), SOUND);
    breaks("last writer wins", broken(Rules::LastWriterWins), NEVER_OLDER);
}

#[test]
fn an_owner_check_leaves_the_fleet_on_a_dead_token() {
    breaks("owner check", broken(Rules::OwnerCheck), SOUND);
}

#[test]
fn the_highest_generation_without_doubt_leaves_the_fleet_on_a_dead_token() {
    breaks("highest generation", broken(Rules::HighestGeneration), SOUND);
}

#[test]
fn a_generation_by_counting_repeats_after_data_loss() {
    let losing = fleet(2, 2, Left { requests: 2, losses: 1, ..NONE });
    breaks("counted generation", Fleet { rules: Rules::CountedGeneration, ..losing }, GROWS);
}

#[test]
fn an_abandoned_source_that_fails_in_silence_leaves_the_fleet_on_a_dead_token() {
    let silent = fleet(2, 2, Left { requests: 3, abandons: 1, ..NONE });
    breaks("silent abandoned source", Fleet { rules: Rules::SilentAbandoned, ..silent }, SOUND);
}

fn broken(rules: Rules) -> Fleet {
    Fleet { rules, ..fleet(3, 3, Left { requests: 3, ..NONE }) }
}
