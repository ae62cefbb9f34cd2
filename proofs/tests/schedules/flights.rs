//! The scenarios of a flight, written once for the library's file and for each broken twin.

/// Makes the module `$name` of scenarios that use the flights of that path.
macro_rules! scenarios {
    ($name:ident, $($flight:ident)::+) => {
        pub mod $name {
            use crate::sync::{advance, far, now, tick};
            use shuttle::sync::atomic::{AtomicUsize, Ordering::SeqCst};
            use shuttle::thread;
            use std::panic::{AssertUnwindSafe, catch_unwind};
            use std::sync::Arc;
            use crate::$($flight)::+::{Joined, SingleFlight};

            const LOST: u64 = u64::MAX;

            /// Four threads want an outcome; whoever leads finishes with the flight's number.
            pub fn all_learn_the_outcome() {
                let flights = SingleFlight::new(LOST);
                let running = Arc::new(AtomicUsize::new(0));
                let threads = [(); 4].map(|()| {
                    let (flights, running) = (flights.clone(), running.clone());
                    thread::spawn(move || match flights.join(far()) {
                        Joined::Lead(leader) => {
                            assert_eq!(running.fetch_add(1, SeqCst), 0, "two flights at a time");
                            let number = leader.number();
                            assert_eq!(running.fetch_sub(1, SeqCst), 1, "two flights at a time");
                            leader.finish(number);
                        }
                        Joined::Follow(number) => {
                            let outcome = flights.wait(number, far()).expect("the deadline is far");
                            assert!(outcome != LOST && outcome >= number, "told of flight {outcome}, not {number}");
                        }
                    })
                });
                threads.into_iter().for_each(|thread| thread.join().unwrap());
            }

            /// The leader vanishes, by a panic or without a word, while two wait.
            pub fn a_vanished_leader_wakes_all() {
                let flights = SingleFlight::new(LOST);
                let Joined::Lead(leader) = flights.join(far()) else { panic!("nobody else flies") };
                let followers = [(); 2].map(|()| {
                    let flights = flights.clone();
                    thread::spawn(move || assert_eq!(flights.wait(1, far()), Some(LOST)))
                });
                thread::spawn(move || {
                    let flight = AssertUnwindSafe(move || {
                        let _leader = leader;
                        std::panic::resume_unwind(Box::new("the flight panicked"));
                    });
                    assert!(catch_unwind(flight).is_err());
                });
                followers.into_iter().for_each(|thread| thread.join().unwrap());
                assert!(matches!(flights.join(far()), Joined::Lead(_)), "the next flight may start");
            }

            /// The time passes a follower's deadline at any point, and the leader finishes only after the follower left.
            pub fn a_deadline_holds_while_the_leader_hangs() {
                let flights = SingleFlight::new(LOST);
                let Joined::Lead(leader) = flights.join(tick(5)) else { panic!("nobody else flies") };
                let follower = {
                    let flights = flights.clone();
                    thread::spawn(move || {
                        let Joined::Follow(number) = flights.join(tick(10)) else { panic!("somebody else flies") };
                        assert_eq!(flights.wait(number, tick(10)), None);
                        assert!(now() >= 10, "gave up before its deadline");
                    })
                };
                let time = thread::spawn(|| [5, 10].into_iter().for_each(advance));
                follower.join().unwrap();
                assert_eq!(leader.deadline(), Some(tick(10)), "the latest deadline counts");
                leader.finish(1);
                time.join().unwrap();
            }

            /// A finish and a deadline race: the follower is told one of the two, and the truth.
            pub fn a_finish_races_a_deadline() {
                let flights = SingleFlight::new(LOST);
                let Joined::Lead(leader) = flights.join(far()) else { panic!("nobody else flies") };
                let finished = Arc::new(AtomicUsize::new(0));
                let (told, seen) = (flights.clone(), finished.clone());
                let follower = thread::spawn(move || {
                    let before = seen.load(SeqCst);
                    match told.wait(1, tick(10)) {
                        Some(outcome) => assert_eq!(outcome, 1),
                        None => assert!(now() >= 10 && before == 0, "finished before the wait began"),
                    }
                });
                let time = thread::spawn(|| advance(10));
                leader.finish(1);
                finished.store(1, SeqCst);
                follower.join().unwrap();
                time.join().unwrap();
                assert_eq!(flights.wait(1, tick(0)), Some(1), "what has finished is told at once");
            }
        }
    };
}
pub(crate) use scenarios;
