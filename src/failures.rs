//! What this process remembers of failures: the last flight's, which callers are told of without another flight, and the pause
//! that the process keeps by itself, whatever the fleet does.

use crate::clock;
use crate::decide;
use crate::error::Error;
use crate::locks::Mutex;
use std::time::{Duration, Instant};

/// Boxed, because most managers have none to remember.
#[derive(Default)]
pub struct Failures(Mutex<Option<Box<Known>>>);

#[derive(Default)]
struct Known {
    last: Option<Remembered>,
    own_pause: Option<Remembered>,
}

struct Remembered {
    error: Error,
    until: Instant,
    /// When its pause is over, if it has one.
    retry_at: Option<Instant>,
}

impl Remembered {
    /// Returns the error with what is left of its pause, as long as it is remembered.
    fn recall(&self) -> Option<Error> {
        let retry_after = self.retry_at.map(clock::left);
        (!clock::left(self.until).is_zero()).then(|| self.error.with_retry_after(retry_after))
    }
}

impl Failures {
    /// Remembers how the last flight ended.
    pub fn note(&self, outcome: &Result<(), Error>) {
        let last = outcome.as_ref().err().map(|error| {
            let pause = error.retry_after();
            let until = clock::deadline(decide::remembered(pause));
            Remembered { error: error.clone(), until, retry_at: pause.map(clock::deadline) }
        });
        let mut known = self.0.lock();
        match (&mut *known, last) {
            (None, None) => {}
            (Some(known), last) => known.last = last,
            (known, last) => *known = Some(Box::new(Known { last, own_pause: None })),
        }
        known.take_if(|known| known.last.is_none() && known.own_pause.is_none());
    }

    /// Returns the last flight's failure while it is remembered, with what is left of its pause.
    pub fn last(&self) -> Option<Error> {
        self.0.lock().as_ref()?.last.as_ref()?.recall()
    }

    /// Lets no flight of this process fetch for so long, for this reason; a longer pause stays.
    pub fn pause(&self, error: Error, length: Duration) {
        let until = clock::deadline(length);
        let mut known = self.0.lock();
        let Known { own_pause, .. } = &mut **known.get_or_insert_default();
        if own_pause.as_ref().is_none_or(|pause| pause.until < until) {
            *own_pause = Some(Remembered { error, until, retry_at: Some(until) });
        }
    }

    /// Returns why no flight of this process may fetch now, with what is left of the pause.
    pub fn own_pause(&self) -> Option<Error> {
        self.0.lock().as_ref()?.own_pause.as_ref()?.recall()
    }

    /// Forgets the last failure and ends the pause.
    pub fn clear(&self) {
        *self.0.lock() = None;
    }
}
