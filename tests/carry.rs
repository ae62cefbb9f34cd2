//! The secret for the next fetch: what becomes of it, and who is told that it has been presented before.

use std::time::Duration;
use testbed::{Backing, LONG, Script};
use token_manager::{Attempt, FetchError, Fetched};

const HOUR: Duration = Duration::from_secs(3600);

/// A token that tells what the source was told.
fn told(attempt: &Attempt) -> String {
    let presented = attempt.presented().is_some_and(|age| age < LONG);
    format!("{} {}", attempt.carry().unwrap_or("nothing"), if presented { "again" } else { "once" })
}

#[test]
fn a_source_is_told_of_a_presentation_whose_outcome_nobody_knows() {
    for backing in Backing::both() {
        let script = Script::new(HOUR);
        script.answer(|attempt| Ok(Fetched::new(told(attempt), HOUR).carry("refresh-1")));
        script.answer(|attempt| Err(FetchError::unknown_outcome(told(attempt))));
        script.answer(|attempt| Ok(Fetched::new(told(attempt), HOUR).carry("refresh-2")));
        script.answer(|attempt| Err(FetchError::unavailable(told(attempt))));
        script.answer(|attempt| Ok(Fetched::new(told(attempt), HOUR)));
        let manager = backing.builder("t").source(script.source()).build().unwrap();
        let next = || {
            let outcome = manager.get();
            let told = match &outcome {
                Ok(token) => token.secret().to_owned(),
                Err(error) => std::error::Error::source(error).map(ToString::to_string).unwrap_or_default(),
            };
            outcome.iter().for_each(|token| manager.invalidate(token));
            manager.lift_pause().unwrap();
            told
        };
        let all: Vec<String> = (0..5).map(|_| next()).collect();
        assert_eq!(all, ["nothing once", "refresh-1 once", "refresh-1 again", "refresh-2 once", "refresh-2 once"]);
        assert_eq!(script.fetches(), 5);
    }
}

#[test]
fn a_source_is_told_how_long_it_is_surely_alone_whatever_becomes_of_the_renewals() {
    let script = Script::new(HOUR);
    let (lease, store) = (Duration::from_secs(2), Backing::memory());
    script.answer(move |attempt| {
        assert!(attempt.exclusive() < lease && attempt.exclusive() > lease / 2);
        std::thread::sleep(lease); // what is measured is the passing of time itself
        assert!(attempt.exclusive().is_zero() && attempt.age() >= lease && !attempt.remaining().is_zero());
        Ok(Fetched::new("after a while", HOUR))
    });
    let manager = store.builder("t").lease(lease).source(script.source()).build().unwrap();
    assert_eq!(manager.get().unwrap().secret(), "after a while");
}
