//! Every decision as a table, row by row.

use std::time::Duration;
use token_manager::internals::Moment;
use token_manager::internals::decide::{self, NoFetch, Serve, Step, Usable};
use token_manager::internals::policy::{self, Window};
use token_manager::store::{Claimed, Pause, Secret, Stored};
use token_manager::{ErrorKind, FailureClass, Portion};

use Portion::{Share, Span};

const S: Duration = Duration::from_secs(1);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const DEFAULT: Window = Window { refresh_before: Share(0.2), margin: None };

fn at(mono: u64, wall: u64) -> Moment {
    Moment { mono, wall }
}

#[test]
fn a_token_is_fresh_due_or_gone_by_either_clock() {
    let (refresh, expiry) = (at(80, 1080), at(95, 1095));
    let rows = [
        // now, next attempt not before, at hand
        (at(79, 1079), 0, Serve::Now),
        (at(80, 1079), 0, Serve::NowAndRefresh),
        (at(79, 1080), 0, Serve::NowAndRefresh), // the machine slept: only the wall clock went on
        (at(94, 1094), 0, Serve::NowAndRefresh),
        (at(90, 1090), 91, Serve::Now), // the last refresh failed
        (at(91, 1090), 91, Serve::NowAndRefresh),
        (at(90, 1090), u64::MAX, Serve::Now), // a flight is running
        (at(95, 1094), u64::MAX, Serve::Wait),
        (at(94, 1095), 0, Serve::Wait),
        (at(95, 500), 0, Serve::Wait),  // the wall clock was set back
        (at(10, 5000), 0, Serve::Wait), // the wall clock was set forward: asking again sets it right
    ];
    for (now, not_before, expected) in rows {
        assert_eq!(decide::serve(now, refresh, expiry, not_before), expected, "{now:?}, {not_before}");
    }
}

#[test]
fn a_claim_asks_for_what_is_newer_than_the_token_in_use_or_rejected() {
    let rows = [
        // usable, seen, invalid, newer than
        (None, 0, 0, 0),
        (Some(7), 7, 0, 7),
        (None, 7, 0, 6), // out of time: the same generation is welcome again
        (None, 7, 7, 7), // rejected: it is not
        (None, 5, 9, 9),
        (Some(9), 9, 5, 9),
    ];
    for (usable, seen, invalidated, expected) in rows {
        assert_eq!(decide::newer_than(usable, seen, invalidated), expected);
    }
}

#[test]
fn the_margin_is_a_twentieth_of_the_life_and_five_seconds_at_most() {
    for (life, margin) in [(S, ms(50)), (5 * S, ms(250)), (100 * S, 5 * S), (7200 * S, 5 * S)] {
        assert_eq!(decide::margin(&Window::default(), life), margin);
    }
}

#[test]
fn a_window_is_a_share_of_the_life_or_a_span_that_is_cut_where_the_life_is_short() {
    let window = |refresh_before, margin| Window { refresh_before, margin };
    let rows = [
        // window, life, lead, margin
        (DEFAULT, 100 * S, 20 * S, 5 * S),
        (DEFAULT, 7200 * S, 1440 * S, 5 * S),
        (window(Share(0.04), Some(Share(0.01))), 10 * S, ms(400), ms(100)),
        (window(Share(0.04), None), 10 * S, ms(400), ms(200)), // half of the lead, not 5 % of the life
        (window(Span(300 * S), None), 3600 * S, 300 * S, 5 * S),
        (window(Span(300 * S), None), 600 * S, 150 * S, 5 * S), // a quarter of the life
        (window(Span(300 * S), Some(Span(60 * S))), 3600 * S, 300 * S, 60 * S),
        (window(Span(300 * S), Some(Span(60 * S))), 200 * S, 50 * S, 25 * S),
        (window(Span(4 * S), Some(Share(0.05))), 7200 * S, 4 * S, 2 * S),
        (window(Share(0.1), Some(Span(30 * S))), 100 * S, 10 * S, 5 * S),
        (window(Span(S), Some(Span(ms(1)))), ms(1), ms(1) / 4, ms(1) / 8),
    ];
    for (window, life, lead, margin) in rows {
        assert_eq!(
            (decide::lead(&window, life), decide::margin(&window, life)),
            (lead, margin),
            "{window:?}, {life:?}"
        );
    }
}

/// Windows that `build` accepts: at both ends of what it does, and between.
fn windows() -> Vec<Window> {
    const YEARS: Duration = Duration::from_secs(10 * 365 * 86_400);
    let refreshes = [0.0001, 0.001, 0.04, 0.2, 0.25].map(Share).into_iter().chain([ms(1), S, 300 * S, YEARS].map(Span));
    let margins = [0.0001, 0.01, 0.05, 0.125].map(Share).into_iter().chain([ms(1), 5 * S, YEARS].map(Span));
    let margins: Vec<_> = margins.map(Some).chain([None]).collect();
    refreshes.flat_map(|refresh_before| margins.iter().map(move |&margin| Window { refresh_before, margin })).collect()
}

/// From 1 ms to 10 years.
fn lives() -> impl Iterator<Item = Duration> {
    let ten_years = 10 * 365 * 86_400 * 1_000;
    std::iter::successors(Some(1), |millis| Some(millis * 3 + 1))
        .take_while(move |millis| *millis < ten_years)
        .chain([ten_years])
        .map(ms)
}

#[test]
fn no_window_makes_a_fetched_token_due_at_once_or_never() {
    let now = at(1_000, 5_000);
    for (window, life) in windows().into_iter().flat_map(|window| lives().map(move |life| (window, life))) {
        for took in [Duration::ZERO, life / 10, life / 2, life / 2 + ms(1), 3 * life] {
            let Usable { left, slow } = decide::usable(&window, life, took);
            let ends_in = if slow { life } else { life - took };
            for fraction in [0.0, 0.5, 1.0] {
                let case = format!("{window:?}, life {life:?}, took {took:?}, fraction {fraction}");
                let (refresh_at, expires_at) = decide::times(&window, now, left, life, false, fraction);
                assert!(now.until(refresh_at) >= left / 4, "{case}: due too soon");
                assert!(now.until(refresh_at) < now.until(expires_at), "{case}: never due");
                assert!(now.until(expires_at) < ends_in, "{case}: used to its very end");
                let before = ends_in - now.until(refresh_at);
                let (least, most) = (decide::lead(&window, life), decide::lead(&window, life).mul_f64(1.5));
                let nearly = Duration::from_nanos(2);
                assert!(before + nearly >= least && before <= most + nearly, "{case}: refreshed {before:?} before");
            }
        }
    }
}

#[test]
fn a_token_that_the_store_had_is_due_before_it_expires_whatever_is_left_of_it() {
    let now = at(1_000, 5_000);
    for (window, life) in windows().into_iter().flat_map(|window| lives().map(move |life| (window, life))) {
        let usable = decide::usable(&window, life, Duration::ZERO).left;
        for left in [usable, usable / 2, usable / 10, usable / 1000, Duration::ZERO] {
            for doubted in [false, true] {
                let (refresh_at, expires_at) = decide::times(&window, now, left, life, doubted, 0.0);
                assert_eq!(expires_at, now.after(left));
                assert!(expires_at.reached(refresh_at), "{window:?}, {left:?} of {life:?}");
                assert!(!doubted || now.reached(refresh_at));
            }
        }
    }
}

#[test]
fn a_token_given_once_more_is_refreshed_after_a_second_or_at_its_end_and_no_sooner() {
    let now = at(1_000, 5_000);
    let rows = [
        // refresh in and expires in by the life; refresh in
        (75 * S, 95 * S, 75 * S),
        (ms(1001), ms(1300), ms(1001)),
        (ms(750), ms(1300), S),
        (ms(75), ms(95), ms(95)),
        (Duration::ZERO, Duration::ZERO, Duration::ZERO),
    ];
    for (refresh_in, expires_in, again_in) in rows {
        let again = decide::refresh_of_same(now, now.after(refresh_in), now.after(expires_in));
        assert_eq!(again, now.after(again_in), "{refresh_in:?}");
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
        assert_eq!(decide::usable(&DEFAULT, life, took), Usable { left, slow });
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
        let times = decide::times(&DEFAULT, now, left, life, doubted, fraction);
        assert_eq!(times, (now.after(refresh_in), now.after(expires_in)), "{left:?} of {life:?}");
    }
}

#[test]
fn each_answer_to_a_claim_has_its_step() {
    let stored = Stored { generation: 7, value: Secret::new("v"), left: S, life: S, doubted: false };
    let cooling = Pause { retry_after: S, class: FailureClass::Throttled };
    let rows = [
        (Claimed::Token(stored.clone()), Step::Adopt(stored.clone()), Step::Adopt(stored)),
        (
            Claimed::Granted { generation: 7, carry: None },
            Step::Fetch { generation: 7, carry: None },
            Step::NoFetch(NoFetch::TooManyAbandoned),
        ),
        (
            Claimed::Busy { lease_left: S },
            Step::WaitForUpdater { lease_left: S },
            Step::WaitForUpdater { lease_left: S },
        ),
        (Claimed::Paused(cooling), Step::Pause(cooling), Step::Pause(cooling)),
        (
            Claimed::Limited { retry_after: S },
            Step::Limited { retry_after: S },
            Step::NoFetch(NoFetch::TooManyAbandoned),
        ),
    ];
    for (claimed, step, when_stuck) in rows {
        assert_eq!(decide::after_claim(claimed.clone(), None), step);
        assert_eq!(decide::after_claim(claimed, Some(NoFetch::TooManyAbandoned)), when_stuck);
    }
    let cooling = Claimed::Paused(Pause { retry_after: S, class: FailureClass::Throttled });
    assert_eq!(decide::after_claim(cooling, Some(NoFetch::OwnPause)), Step::NoFetch(NoFetch::OwnPause));
}

#[test]
fn a_flight_is_barred_from_the_issuer_by_stuck_sources_a_pause_or_a_caller_in_a_hurry() {
    let rows = [
        // stuck, paused, what is left to a caller; barred
        (false, false, None, None),
        (false, false, Some(10 * S), None),
        (false, false, Some(10 * S - ms(1)), Some(NoFetch::TooLittleTime)),
        (false, true, Some(S), Some(NoFetch::OwnPause)),
        (true, true, None, Some(NoFetch::TooManyAbandoned)),
    ];
    for (stuck, paused, left, barred) in rows {
        assert_eq!(decide::no_fetch(stuck, paused, left, 10 * S), barred);
    }
}

#[test]
fn the_pause_after_a_failure_is_the_store_s_and_the_process_s_own_where_the_fleet_keeps_none() {
    let told = |seconds: u32, class| Ok(Some(Pause { retry_after: seconds * S, class }));
    let rows = [
        // class, retry after, the store's answer; pause, own
        (FailureClass::Unavailable, None, told(3, FailureClass::Unavailable), 3, false),
        (FailureClass::Throttled, Some(9), Ok(None), 9, false),
        (FailureClass::CredentialsRejected, None, told(61, FailureClass::CredentialsRejected), 61, true),
        (FailureClass::CredentialsRejected, None, Ok(None), 60, true),
        (FailureClass::Throttled, Some(9), Err(()), 9, true),
        (FailureClass::Unavailable, Some(0), Err(()), 1, true),
        (FailureClass::UnknownOutcome, None, Err(()), 1, true),
    ];
    for (class, retry_after, told, length, own) in rows {
        let pause = decide::pause_after(class, retry_after.map(|seconds: u32| seconds * S), told);
        assert_eq!((pause.length, pause.own), (length * S, own), "{class}");
    }
}

#[test]
fn who_failed_tries_again_later_and_later_and_not_with_all_others_at_once() {
    for (round, wait) in [(0, 20), (1, 40), (8, 5000), (u32::MAX, 5000)] {
        assert_eq!(decide::backoff(round, 5 * S, 0.0), ms(wait));
        assert_eq!(decide::backoff(round, 5 * S, 1.0), ms(wait) / 2);
    }
}

#[test]
fn a_token_that_only_the_wall_clock_calls_expired_is_welcome_again() {
    let end = Moment { mono: 100, wall: 100 };
    for (mono, wall, newer) in [(99, 99, true), (99, 100, false), (100, 99, true), (100, 100, true)] {
        assert_eq!(decide::wants_a_newer_one(Moment { mono, wall }, end), newer);
    }
}

#[test]
fn a_subscribed_flight_waits_until_just_after_the_lease_and_never_over_a_second() {
    let rows = [
        // lease left, longest wait, fraction, wait
        (ms(100), 15 * S, 0.0, ms(102)),
        (ms(100), 15 * S, 1.0, ms(120)),
        (3 * S, 15 * S, 0.5, S),
        (3 * S, ms(30), 0.5, ms(30)),
    ];
    for (lease_left, at_most, fraction, wait) in rows {
        assert_eq!(decide::watch(lease_left, at_most, fraction), wait);
    }
}

#[test]
fn a_waiter_looks_for_the_updater_each_fifth_of_a_second_and_more_seldom_the_more_wait() {
    let rows = [
        // listeners, fraction, pause
        (0, 0.0, ms(200)),
        (2, 0.0, ms(200)),
        (2, 1.0, ms(100)),
        (100, 0.0, ms(300)),
        (100, 0.5, ms(225)),
        (10_000, 0.0, S),
        (u64::MAX, 1.0, ms(500)),
    ];
    for (listeners, fraction, pause) in rows {
        assert_eq!(decide::look(listeners, fraction), pause);
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
        assert_eq!(decide::retry_pause(kind, retry_after, deadline_left), rest);
        assert_eq!((decide::remembered(retry_after), decide::refresh_pause(retry_after)), (remembered, pause));
    }
}

#[test]
fn the_store_is_checked_ten_times_a_life_each_second_to_ten_seconds() {
    for (life, every) in [(None, S), (Some(5 * S), S), (Some(50 * S), 5 * S), (Some(7200 * S), 10 * S)] {
        assert_eq!(decide::store_check(life, 1), every);
    }
    // Of many tokens each is looked at more seldom, down to once in what is left of its life.
    for (life, tokens, every) in [
        (Some(7200 * S), 5, 50 * S),
        (Some(7200 * S), 100_000, 7200 * S),
        (Some(5 * S), 3, 3 * S),
        (Some(S / 2), 100, S),
        (None, 3, 3 * S),
        (None, 100_000, 10 * S),
    ] {
        assert_eq!(decide::store_check(life, tokens), every, "{life:?} {tokens}");
    }
}

#[test]
fn tokens_that_were_fetched_at_once_are_not_refreshed_at_once_by_a_large_fleet() {
    // The earliest of a thousand processes for each of a thousand tokens.
    let earliest = |token: u64| {
        let of_process = |process: u64| policy::fraction(token << 32 ^ process << 8);
        let fractions =
            (1..=1_000).map(|process| decide::refresh_fraction(policy::fraction(token), of_process(process)));
        fractions.fold(0.0, f64::max)
    };
    let firsts: Vec<f64> = (0..1_000).map(earliest).collect();
    let (least, most) = firsts.iter().fold((1.0_f64, 0.0_f64), |(least, most), of| (least.min(*of), most.max(*of)));
    assert!(least < 0.51 && most > 0.99, "{least} to {most}");
    assert!((0.0..=1.0).contains(&least) && (0.0..=1.0).contains(&most));
}
