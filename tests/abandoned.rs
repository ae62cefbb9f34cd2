//! What a source does after it overran its limit still counts.

use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;
use token_manager::{Attempt, Event, FailureClass, FetchError, Fetched, MemoryStore, TokenManager};

#[test]
fn an_abandoned_source_that_fails_late_casts_doubt_on_what_was_granted_since() {
    let (release, held) = channel::<()>();
    let (ended, end) = channel();
    let held = Mutex::new(Some(held));
    let (told, doubts) = channel();
    let store = MemoryStore::new();
    let first = TokenManager::builder("abandoned")
        .store(store.clone())
        .fetch_limit(Duration::from_millis(20))
        .source(move |_: &Attempt| -> Result<Fetched, FetchError> {
            let held = held.lock().unwrap().take().expect("it is asked once");
            let _ = held.recv();
            ended.send(()).unwrap();
            Err(FetchError::unknown_outcome("the answer was lost"))
        })
        .observer(move |event| {
            if let Event::Failed { class: FailureClass::UnknownOutcome, .. } = event {
                let _ = told.send(());
            }
        })
        .build()
        .unwrap();
    assert!(first.get_within(Duration::from_secs(5)).is_err());
    doubts.recv().unwrap();

    let second = TokenManager::builder("abandoned")
        .store(store)
        .source(|_: &Attempt| Ok(Fetched::new("second", Duration::from_secs(60))))
        .build()
        .unwrap();
    let token = loop {
        match second.get_within(Duration::from_secs(5)) {
            Ok(token) => break token,
            // The fleet pauses after the first failure.
            Err(error) => std::thread::sleep(error.retry_after().expect("a cool-down stands")),
        }
    };
    assert!(second.inspect().unwrap().doubted < token.generation());
    release.send(()).unwrap();
    end.recv().unwrap();
    while first.stats().abandoned > 0 {
        std::thread::yield_now();
    }
    assert!(second.inspect().unwrap().doubted >= token.generation());
}
