//! What of the program's a manager may call, and the news that nothing calls it any more.

use crate::source::Callback;
use std::any::Any;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
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

    /// Drops a holder; the last of them waits until nothing can call the program any more. False if that took longer than this.
    pub fn wait(self, holder: impl Sized, within: Duration) -> bool {
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
