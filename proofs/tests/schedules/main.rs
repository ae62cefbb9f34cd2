//! The library's `flight/single.rs`, `cache.rs` and `slot.rs` under a schedule explorer, and broken twins that it must see through. The
//! explorer interleaves threads at every lock and atomic; it takes all memory orders for sequentially consistent.
#![allow(dead_code)] // the files bring all that the library uses of them

mod flights;
mod slots;
mod sync;

#[path = "../../../src/cache.rs"]
mod cache;
#[path = "../../../src/flight/single.rs"]
mod single;
#[path = "../../../src/slot.rs"]
mod slot;
#[path = "../../../src/token.rs"]
mod token;

mod clock {
    pub use token_manager::internals::Moment;
}
mod decide {
    pub use token_manager::internals::decide::*;
}
mod policy {
    pub use token_manager::internals::policy::*;
}

use flights::scenarios;
use shuttle::scheduler::{DfsScheduler, PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, FailurePersistence, Runner};
use slots::slot_scenarios;
use std::panic::catch_unwind;

/// Makes a module of a file that the build broke, with scenarios for it.
macro_rules! twin {
    ($scenarios:ident, $of:ident, $twin:ident) => {
        mod $twin {
            #![allow(unused)] // what was broken leaves the rest of the file without a use
            use crate::sync::far;
            include!(concat!(env!("OUT_DIR"), "/", stringify!($twin), ".rs"));
        }
        $scenarios!($of, $twin);
    };
}
scenarios!(real, single);
twin!(scenarios, one_woken, wakes_one);
twin!(scenarios, none_woken, wakes_none);
twin!(scenarios, silent_drop, drops_silently);
twin!(scenarios, two_flights, flies_twice);
twin!(scenarios, late_time, times_out_late);
slot_scenarios!(real_slot, slot);
twin!(slot_scenarios, unseen_rejection, rejects_unseen);
twin!(slot_scenarios, older_token, goes_back);

const SCHEDULES: usize = 20_000;

fn explore(scheduler: impl Scheduler + 'static, scenario: fn()) -> usize {
    let mut config = Config::new();
    config.failure_persistence = FailurePersistence::None;
    Runner::new(scheduler, config).run(scenario)
}

/// Runs the scenario under random schedules, under those that few preemptions make, and under the first of all in order.
fn holds(title: &str, scenario: fn()) {
    let random = explore(RandomScheduler::new_from_seed(1, SCHEDULES), scenario);
    let few_preemptions = explore(PctScheduler::new_from_seed(2, 3, SCHEDULES), scenario);
    let in_order = explore(DfsScheduler::new(Some(SCHEDULES), false), scenario);
    println!("{title}: {} schedules, {in_order} of them in order", random + few_preemptions + in_order);
    assert_eq!((random, few_preemptions), (SCHEDULES, SCHEDULES));
}

/// Asserts that the explorer finds what is broken, and that it is this.
fn breaks(what: &str, scenario: fn()) {
    let found = catch_unwind(|| explore(RandomScheduler::new_from_seed(1, SCHEDULES), scenario)).unwrap_err();
    let words = found.downcast_ref::<String>().map_or("no words", |words| words);
    assert!(words.contains(what), "found {words}, not {what}");
}

#[test]
fn no_wake_up_is_lost_and_no_two_flights_run() {
    holds("all learn the outcome", real::all_learn_the_outcome);
}

#[test]
fn a_leader_that_panics_or_is_dropped_wakes_all() {
    holds("a vanished leader", real::a_vanished_leader_wakes_all);
}

#[test]
fn a_deadline_holds_whatever_the_leader_does() {
    holds("a hanging leader", real::a_deadline_holds_while_the_leader_hangs);
    holds("a finish and a deadline", real::a_finish_races_a_deadline);
}

#[test]
fn no_hit_after_a_rejection_returns_what_was_rejected() {
    holds("rejections", real_slot::what_was_rejected_is_not_returned);
}

#[test]
fn no_thread_goes_back_to_an_older_token() {
    holds("adoptions", real_slot::generations_never_go_back);
}

#[test]
fn the_explorer_finds_that_one_is_woken_where_all_should_be() {
    breaks("deadlock", one_woken::all_learn_the_outcome);
    breaks("deadlock", one_woken::a_vanished_leader_wakes_all);
    breaks("deadlock", none_woken::all_learn_the_outcome);
}

#[test]
fn the_explorer_finds_that_a_dropped_leader_tells_nobody() {
    breaks("deadlock", silent_drop::a_vanished_leader_wakes_all);
}

#[test]
fn the_explorer_finds_that_two_flights_run() {
    breaks("two flights at a time", two_flights::all_learn_the_outcome);
}

#[test]
fn the_explorer_finds_that_a_deadline_is_not_kept() {
    breaks("deadlock", late_time::a_deadline_holds_while_the_leader_hangs);
}

#[test]
fn the_explorer_finds_that_a_rejection_is_not_seen() {
    breaks("was rejected", unseen_rejection::what_was_rejected_is_not_returned);
}

#[test]
fn the_explorer_finds_that_a_thread_goes_back() {
    breaks("after", older_token::generations_never_go_back);
}
