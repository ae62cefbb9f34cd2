//! What of the program's a manager may call, and the news that nothing calls it any more.

use crate::call::call_or;
use crate::handle;
use crate::outcome::Code;
use crate::source::Callback;
use std::any::Any;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};
use std::{mem, process};
use token_manager::{Attempt, FetchError, Fetched, TokenSource};

/// Where tokens come from.
pub struct Source {
    origin: Origin,
    /// Disconnects after the origin is gone: fields are dropped in this order. Nobody waits for one that never calls the program.
    #[allow(dead_code, reason = "held for its drop")]
    alive: Option<Sender<()>>,
}

pub enum Origin {
    Callback(Callback),
    #[cfg(feature = "issuers")]
    Issuer(token_manager_issuers::by_name::AnySource),
}

impl Source {
    pub fn new(origin: Origin, alive: Option<Sender<()>>) -> Source {
        Source { origin, alive }
    }

    /// Asks for a token, of this key if there are many.
    pub fn ask(&self, key: Option<&str>, attempt: &Attempt) -> Result<Fetched, FetchError> {
        match &self.origin {
            Origin::Callback(callback) => callback.ask(key, attempt),
            #[cfg(feature = "issuers")]
            Origin::Issuer(issuer) => issuer.fetch(attempt),
        }
    }
}

impl TokenSource for Source {
    fn fetch(&self, attempt: &Attempt) -> Result<Fetched, FetchError> {
        self.ask(None, attempt)
    }
}

/// Tells the last of those that share it when nothing can call the program any more.
#[derive(Clone)]
pub struct Gone {
    /// Disconnects then.
    gone: Arc<Mutex<Receiver<()>>>,
    /// What is destroyed then, where a forked child could have the last of it.
    callees: Option<Weak<dyn Any + Send + Sync>>,
    pid: u32,
}

impl Gone {
    pub fn new(gone: Receiver<()>, callees: Option<Weak<dyn Any + Send + Sync>>) -> Gone {
        Gone { gone: Arc::new(Mutex::new(gone)), callees, pid: process::id() }
    }

    /// Lets a holder fall quiet and drops it; the last of them waits until nothing can call the program any more. False if that took
    /// longer than this.
    pub fn end<T>(self, holder: T, within: Duration, quiesce: impl FnOnce(&T, Duration) -> bool) -> bool {
        let started = Instant::now();
        let quiet = quiesce(&holder, within);
        // A flight has landed before its thread lets go of the callback.
        let left = if quiet { within.saturating_sub(started.elapsed()) } else { Duration::ZERO };
        self.wait(holder, left) && quiet
    }

    /// Drops a holder; the last of them waits.
    fn wait(self, holder: impl Sized, within: Duration) -> bool {
        if self.pid != process::id() {
            // What the parent's threads may call is never destroyed here: the threads, which hold it, do not exist in the child.
            mem::forget((self.callees.and_then(|callees| callees.upgrade()), self.gone));
            drop(holder);
            return true;
        }
        drop(holder);
        Arc::into_inner(self.gone).is_none_or(|gone| {
            let gone = gone.into_inner().unwrap_or_else(PoisonError::into_inner);
            gone.recv_timeout(within) == Err(RecvTimeoutError::Disconnected)
        })
    }
}

/// Takes a handle back and ends what it leads to; the code says whether that took longer than this.
///
/// # Safety
/// `handle` is NULL or was given as this type and is not used again.
pub unsafe fn free<T>(handle: *mut T, function: &str, wait_ms: u64, end: impl FnOnce(T, Duration) -> bool) -> i32 {
    // SAFETY: by the caller's promise.
    let held = || unsafe { handle::take(handle, function) };
    call_or(Code::Panic as i32, || match held() {
        None => Code::Ok as i32,
        Some(held) => match end(held, Duration::from_millis(wait_ms)) {
            true => Code::Ok as i32,
            false => Code::Busy as i32,
        },
    })
}
