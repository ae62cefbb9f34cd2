//! Sources that ask other managers: one that would wait for itself, through however many, is told so at once.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use testbed::{Backing, LONG, Script, on_threads, wait_until};
use token_manager::{Attempt, ErrorKind, Execution, Fetched, TokenManager};

const HOUR: Duration = Duration::from_secs(3600);
const AT_ONCE: Duration = Duration::from_secs(5);

/// Managers in a ring: the source of each asks the next one, and says what it heard.
struct Ring {
    managers: Vec<TokenManager>,
    errors: Arc<Mutex<Vec<ErrorKind>>>,
}

impl Ring {
    fn new(flights: &[Execution]) -> Ring {
        let ring: Arc<OnceLock<Vec<TokenManager>>> = Arc::default();
        let errors: Arc<Mutex<Vec<ErrorKind>>> = Arc::default();
        let managers: Vec<TokenManager> = (0..flights.len())
            .map(|number| {
                let (ring, errors, next) = (ring.clone(), errors.clone(), (number + 1) % flights.len());
                let source = move |_: &Attempt| {
                    let heard = match ring.wait()[next].get() {
                        Ok(token) => token.secret().to_owned(),
                        Err(error) => {
                            errors.lock().unwrap_or_else(PoisonError::into_inner).push(error.kind());
                            "nobody".to_owned()
                        }
                    };
                    Ok(Fetched::new(format!("{number} on {heard}"), HOUR))
                };
                let builder = Backing::memory().builder(&number.to_string()).execution(flights[number]);
                builder.fetch_limit(LONG).deadline(2 * LONG).source(source).build().unwrap()
            })
            .collect();
        ring.set(managers.clone()).unwrap();
        Ring { managers, errors }
    }

    fn errors(&self) -> Vec<ErrorKind> {
        self.errors.lock().unwrap().clone()
    }
}

#[test]
fn two_managers_that_ask_each_other_are_told_at_once() {
    use Execution::{Background, Inline};
    for flights in [[Background, Background], [Background, Inline], [Inline, Background], [Inline, Inline]] {
        let (ring, start) = (Ring::new(&flights), Instant::now());
        assert_eq!(ring.managers[0].get().unwrap().secret(), "0 on 1 on nobody");
        assert_eq!(ring.managers[1].get().unwrap().secret(), "1 on nobody");
        assert_eq!(ring.errors(), [ErrorKind::Reentrant]);
        assert!(start.elapsed() < AT_ONCE, "{flights:?}");
    }
}

#[test]
fn three_managers_in_a_ring_are_told_at_once() {
    let (ring, start) = (Ring::new(&[Execution::Background; 3]), Instant::now());
    assert_eq!(ring.managers[0].get().unwrap().secret(), "0 on 1 on 2 on nobody");
    assert_eq!(ring.errors(), [ErrorKind::Reentrant]);
    assert!(start.elapsed() < AT_ONCE);
}

#[test]
fn whichever_is_asked_first_one_of_a_ring_is_told() {
    for flights in [Execution::Background, Execution::Inline] {
        for _ in 0..100 {
            let (ring, start) = (Ring::new(&[flights; 3]), Instant::now());
            let managers = ring.managers.clone();
            let answers = on_threads(6, move |number| managers[number % 3].get().map(|_| ()).map_err(|e| e.kind()));
            assert_eq!(answers, vec![Ok(()); 6]);
            assert_eq!(ring.errors(), [ErrorKind::Reentrant]);
            assert!(start.elapsed() < AT_ONCE);
        }
    }
}

#[test]
fn sources_that_ask_one_manager_all_get_its_token() {
    for flights in [Execution::Background, Execution::Inline] {
        let script = Script::held(HOUR);
        let base = Backing::memory().builder("base").source(script.source()).build().unwrap();
        let askers: Vec<TokenManager> = (0..4)
            .map(|number| {
                let base = base.clone();
                let source = move |_: &Attempt| Ok(Fetched::new(base.get().unwrap().secret(), HOUR));
                Backing::memory().builder(&number.to_string()).execution(flights).source(source).build().unwrap()
            })
            .collect();
        let watched = base.clone();
        let releaser = thread::spawn(move || {
            wait_until("each source waits", || watched.stats().waits == 4);
            script.wait_for(1);
            script.release();
            script
        });
        let secrets = on_threads(16, move |number| {
            let (asker, other) = (&askers[number % 4], &askers[(number + 1) % 4]);
            [asker, other].map(|manager| manager.get().unwrap().secret().to_owned())
        });
        assert_eq!(secrets, vec![["token-1"; 2]; 16]);
        assert_eq!(releaser.join().unwrap().fetches(), 1);
    }
}
