//! Every decision as a table, row by row.

use std::time::Duration;
use token_manager::internals::Moment;
use token_manager::internals::decide::{self, AtHand, Step, Usable};
use token_manager::{Claimed, Cooling, ErrorKind, FailureClass, Secret, Stored};

const S: Duration = Duration::from_secs(1);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn at(mono: u64, wall: u64) -> Moment {
    Moment { mono, wall }
}

#[test]
fn a_token_is_fresh_due_or_gone_by_either_clock() {
    let (refresh, expiry) = (at(80, 1080), at(95, 1095));
    let rows = [
        // now, next attempt not before, at hand
        (at(79, 1079), 0, AtHand::Fresh),
        (at(80, 1079), 0, AtHand::Due),
        (at(79, 1080), 0, AtHand::Due), // the machine slept: only the wall clock went on
        (at(94, 1094), 0, AtHand::Due),
        (at(90, 1090), 91, AtHand::Fresh), // the last refresh failed
        (at(91, 1090), 91, AtHand::Due),
        (at(90, 1090), u64::MAX, AtHand::Fresh), // a flight is running
        (at(95, 1094), u64::MAX, AtHand::Gone),
        (at(94, 1095), 0, AtHand::Gone),
        (at(95, 500), 0, AtHand::Gone),  // the wall clock was set back
        (at(10, 5000), 0, AtHand::Gone), // the wall clock was set forward: asking again sets it right
    ];
    for (now, not_before, expected) in rows {
        assert_eq!(decide::at_hand(now, refresh, expiry, not_before), expected, "{now:?}, {not_before}");
    }
}

#[test]
fn a_claim_asks_for_what_is_newer_than_the_token_in_use_or_rejected() {
    let rows = [
        // usable, seen, void, newer than
        (None, 0, 0, 0),
        (Some(7), 7, 0, 7),
        (None, 7, 0, 6), // out of time: the same generation is welcome again
        (None, 7, 7, 7), // rejected: it is not
        (None, 5, 9, 9),
        (Some(9), 9, 5, 9),
    ];
    for (usable, seen, void, expected) in rows {
        assert_eq!(decide::newer_than(usable, seen, void), expected);
    }
}

#[test]
fn the_margin_is_a_twentieth_of_the_life_and_five_seconds_at_most() {
    for (life, margin) in [(S, ms(50)), (5 * S, ms(250)), (100 * S, 5 * S), (7200 * S, 5 * S)] {
        assert_eq!(decide::margin(life), margin);
    }
}

#[test]
fn a_life_counts_from_the_request_unless_that_took_half_of_it() {
    let rows = [
        (100 * S, Duration::ZERO, 95 * S, false),
        (100 * S, 10 * S, 85 * S, false),
        (100 * S, 50 * S, 45 * S, false),
        (100 * S, 51 * S, 95 * S, true),
        (5 * S, 8 * S, ms(4750), true), // an issuer slower than the token's life
    ];
    for (life, took, left, slow) in rows {
        assert_eq!(decide::usable(life, took), Usable { left, slow });
    }
}

#[test]
fn a_refresh_comes_at_seventy_to_eighty_percent_of_the_life() {
    let now = at(1_000, 5_000);
    let rows = [
        // left, life, doubted, fraction, refresh in, expires in
        (95 * S, 100 * S, false, 0.0, 80 * S, 95 * S),
        (95 * S, 100 * S, false, 1.0, 70 * S, 95 * S),
        (45 * S, 100 * S, false, 0.0, 30 * S, 45 * S), // half of it spent already
        (10 * S, 100 * S, false, 0.0, Duration::ZERO, 10 * S),
        (95 * S, 100 * S, true, 0.0, Duration::ZERO, 95 * S),
        (ms(4750), 5 * S, false, 0.0, 4 * S, ms(4750)),
    ];
    for (left, life, doubted, fraction, refresh_in, expires_in) in rows {
        let times = decide::times(now, left, life, doubted, fraction);
        assert_eq!(times, (now.after(refresh_in), now.after(expires_in)), "{left:?} of {life:?}");
    }
}

#[test]
fn each_answer_to_a_claim_has_its_step() {
    let stored = Stored { generation: 7, value: Secret::new("v"), left: S, life: S, doubted: false };
    let cooling = Cooling { retry_after: S, class: FailureClass::Throttled };
    let rows = [
        (Claimed::Token(stored.clone()), Step::Adopt(stored.clone()), Step::Adopt(stored)),
        (Claimed::Granted { generation: 7, carry: None }, Step::Fetch { generation: 7, carry: None }, Step::Stuck),
        (Claimed::Busy { lease_left: S }, Step::Watch { lease_left: S }, Step::Watch { lease_left: S }),
        (Claimed::Cooling(cooling), Step::Cool(cooling), Step::Cool(cooling)),
        (Claimed::Limited { retry_after: S }, Step::Limit { retry_after: S }, Step::Stuck),
    ];
    for (claimed, step, when_stuck) in rows {
        assert_eq!(decide::after_claim(claimed.clone(), false), step);
        assert_eq!(decide::after_claim(claimed, true), when_stuck);
    }
}

#[test]
fn a_subscribed_flight_waits_until_just_after_the_lease_and_never_over_a_second() {
    let rows = [
        // lease left, patience left, fraction, wait
        (ms(100), 15 * S, 0.0, ms(102)),
        (ms(100), 15 * S, 1.0, ms(120)),
        (3 * S, 15 * S, 0.5, S),
        (3 * S, ms(30), 0.5, ms(30)),
    ];
    for (lease_left, patience, fraction, wait) in rows {
        assert_eq!(decide::watch(lease_left, patience, fraction), wait);
    }
}

#[test]
fn a_flight_without_events_polls_at_twenty_milliseconds_doubling_to_half_a_second() {
    for (round, wait) in [(0, 20), (1, 40), (4, 320), (5, 500), (99, 500)] {
        assert_eq!(decide::poll(round, 15 * S), ms(wait));
    }
    assert_eq!(decide::poll(9, ms(7)), ms(7));
}

#[test]
fn only_a_used_up_budget_is_waited_for_and_only_within_the_deadline() {
    let rows = [
        // kind, retry after, deadline left; rest, remembered for, next refresh after
        (ErrorKind::Limited, Some(3 * S), 4 * S, Some(3 * S), S, 3 * S),
        (ErrorKind::Limited, Some(3 * S), 3 * S, None, S, 3 * S),
        (ErrorKind::Source(FailureClass::Throttled), Some(ms(300)), 9 * S, None, ms(300), ms(300)),
        (ErrorKind::Store, None, 9 * S, None, Duration::ZERO, S),
    ];
    for (kind, retry_after, deadline_left, rest, remembered, pause) in rows {
        assert_eq!(decide::rest(kind, retry_after, deadline_left), rest);
        assert_eq!((decide::remembered(retry_after), decide::refresh_pause(retry_after)), (remembered, pause));
    }
}

#[test]
fn the_store_is_checked_ten_times_a_life_each_second_to_ten_seconds() {
    for (life, every) in [(None, S), (Some(5 * S), S), (Some(50 * S), 5 * S), (Some(7200 * S), 10 * S)] {
        assert_eq!(decide::store_check(life), every);
    }
}
