//! The scenarios of the slot, written once for the library's file and for each broken twin.

/// Makes the module `$name` of scenarios that use the slot of that path.
macro_rules! slot_scenarios {
    ($name:ident, $slot:ident) => {
        pub mod $name {
            use crate::cache::SlotHeader;
            use crate::clock::Moment;
            use crate::token::{Secret, Token};
            use crate::$slot::Slot;
            use shuttle::sync::atomic::{AtomicU64, Ordering::SeqCst};
            use shuttle::thread;
            use std::sync::Arc;
            use std::time::Duration;

            fn token(generation: u64) -> Token {
                let far = Moment::now().after(Duration::from_secs(3600));
                Token::new(Secret::new(generation.to_string()), 0, generation, far, far)
            }

            /// What a caller gets: a hit, or else a look at the slot.
            fn get(header: &SlotHeader, slot: &Slot) -> Option<u64> {
                let token = header.get_cached().or_else(|| slot.checkout().map(|(token, _)| token))?;
                assert_eq!(token.secret(), token.generation().to_string());
                Some(token.generation())
            }

            /// One thread rejects 1 and then 2 while others adopt 2 and 3 and read.
            pub fn what_was_rejected_is_not_returned() {
                let header = SlotHeader::new();
                let slot = Arc::new(Slot::new(header.clone()));
                let rejected = Arc::new(AtomicU64::new(0));
                slot.adopt(token(1));
                let reader = {
                    let (slot, rejected) = (slot.clone(), rejected.clone());
                    thread::spawn(move || {
                        for _ in 0..4 {
                            let before = rejected.load(SeqCst);
                            if let Some(got) = get(&header, &slot) {
                                assert!(got > before, "got {got} after {before} was rejected");
                            }
                        }
                    })
                };
                let adopter = {
                    let slot = slot.clone();
                    thread::spawn(move || [2, 3].map(|generation| slot.adopt(token(generation))))
                };
                for generation in [1, 2] {
                    assert!(slot.invalidate(generation));
                    rejected.store(generation, SeqCst);
                }
                adopter.join().unwrap();
                reader.join().unwrap();
                assert_eq!((slot.peek().map(|(token, _)| token.generation()), slot.seen()), (Some(3), 3));
            }

            /// Two threads adopt in opposite orders while two read and doubt.
            pub fn generations_never_go_back() {
                let header = SlotHeader::new();
                let slot = Arc::new(Slot::new(header.clone()));
                let adopters = [[1, 3], [2, 1]].map(|generations| {
                    let slot = slot.clone();
                    thread::spawn(move || generations.map(|generation| slot.adopt(token(generation))))
                });
                let readers = [(); 2].map(|()| {
                    let (slot, header) = (slot.clone(), header.clone());
                    thread::spawn(move || {
                        let mut last = 0;
                        for _ in 0..3 {
                            let got = get(&header, &slot).unwrap_or(last);
                            assert!(got >= last, "got {got} after {last}");
                            last = got;
                        }
                    })
                });
                slot.doubt(2);
                for thread in adopters {
                    thread.join().unwrap();
                }
                readers.into_iter().for_each(|thread| thread.join().unwrap());
                assert_eq!(get(&header, &slot), Some(3));
            }
        }
    };
}
pub(crate) use slot_scenarios;
