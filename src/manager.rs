//! The blocking shell: what a caller does to get a token, and the rest of the public face.

use crate::builder::Builder;
use crate::clock;
use crate::core::{Core, Counters, Outcome, Settings};
use crate::decide::{self, AtHand};
use crate::error::Error;
use crate::event::Event;
use crate::fork::PerProcess;
use crate::fresh::{self, FreshGuard};
use crate::policy::Execution;
use crate::reentrancy::{self, ReentrancyGuard, Waiting};
use crate::refresh;
use crate::settle;
use crate::slot::{Face, Slot};
use crate::store::Inspection;
use crate::token::Token;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Hands out the fleet's token. Clones share everything; any thread may use any clone.
#[derive(Clone)]
pub struct TokenManager {
    /// What a hit reads, one step away.
    face: Arc<Face>,
    shared: Arc<Shared>,
}

struct Shared {
    settings: Arc<Settings>,
    core: PerProcess<Arc<Core>>,
}

/// The API's answer to a call made with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<T> {
    /// The API took the token, whatever else it answered.
    Accepted(T),
    /// The API refused the token (HTTP 401).
    Unauthorized(T),
}

/// What this process has done so far. Hits are not counted: counting them would cost more than they do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Execution started.
    pub flights: u64,
    /// Calls of the source.
    pub fetches: u64,
    /// Calls of the source that failed.
    pub failures: u64,
    /// Tokens taken into use, fetched here or elsewhere.
    pub adopted: u64,
    /// Callers that had to wait.
    pub waits: u64,
    /// Callers whose deadline passed.
    pub timeouts: u64,
    /// Sources that overran their limit and are still running.
    pub abandoned: u64,
}

impl TokenManager {
    /// Starts the settings of a manager for the token of this name, the same in every process of the fleet.
    pub fn builder(name: &str) -> Builder {
        Builder::new(name)
    }

    pub(crate) fn new(settings: Settings) -> TokenManager {
        let (face, settings) = (Face::new(), Arc::new(settings));
        reentrancy::waits(); // made here, so that no fork meets it half made
        let core = PerProcess::new(Core::new(settings.clone(), Slot::new(face.clone())));
        TokenManager { face, shared: Arc::new(Shared { settings, core }) }
    }

    /// Returns a token that is valid now, waiting for one no longer than the deadline of the settings (15 seconds by
    /// default).
    ///
    /// # Errors
    /// As [`get_within`](TokenManager::get_within).
    #[inline]
    pub fn get(&self) -> Result<Token, Error> {
        match self.face.hit() {
            Some(token) => Ok(token),
            None => self.get_slowly(self.shared.settings.policy.deadline),
        }
    }

    /// Returns a token that is valid now, waiting for one no longer than this. With zero it never blocks: it returns
    /// the token at hand or an error, and has one fetched for later calls (not with [`Execution::Inline`]).
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`](crate::ErrorKind::Timeout) when the deadline passes;
    /// [`Source`](crate::ErrorKind::Source), [`Store`](crate::ErrorKind::Store) or
    /// [`Limited`](crate::ErrorKind::Limited) when no token can be had and none is valid;
    /// [`Reentrant`](crate::ErrorKind::Reentrant) when called by the manager's own source.
    #[inline]
    pub fn get_within(&self, within: Duration) -> Result<Token, Error> {
        match self.face.hit() {
            Some(token) => Ok(token),
            None => self.get_slowly(within),
        }
    }

    #[cold]
    fn get_slowly(&self, within: Duration) -> Result<Token, Error> {
        let core = self.core();
        match core.slot.look() {
            Some((_, AtHand::Due)) => {
                let deadline = clock::deadline(within);
                refresh_due(core, deadline);
                // A refresh on this very thread may have brought a newer one, or outlived the old one.
                core.slot.look().map_or_else(|| wait_for_token(core, deadline), |(token, _)| Ok(token))
            }
            Some((token, _)) => Ok(token),
            None => wait_for_token(core, clock::deadline(within)),
        }
    }

    /// Tells the fleet that the API refused this token; a newer one stays. If the store cannot be told, which is logged, it
    /// counts in this process alone. Blocks only the first thread of the process that rejects this generation, for one
    /// exchange with the store, or no longer than the deadline of the settings while all connections are in use. A token of
    /// another name, which can only be a mistake, is ignored, and that is logged.
    pub fn invalidate(&self, token: &Token) {
        let core = self.core();
        if !core.knows(token) {
            let name = &core.settings.name;
            log::warn!(target: "token_manager", "{name}: told to invalidate a token of another name; nothing was done");
            return;
        }
        let generation = token.generation();
        if !core.slot.reject(generation) {
            return;
        }
        core.emit(Event::Invalidated { generation });
        let until = clock::deadline(core.settings.policy.deadline);
        let Settings { store, name, .. } = &*core.settings;
        if let Err(error) = settle::patiently(until, || store.invalidate(name, generation)) {
            // This process asks for a newer one all the same; the others find out by themselves.
            drop(core.store_failed("invalidate", error));
        }
    }

    /// Calls an API with the token; if the API refuses it, invalidates it and calls once more with a new one, whose refusal
    /// is returned as the answer.
    ///
    /// # Errors
    /// As [`get`](TokenManager::get), for the first token and for the second.
    pub fn with_token<T>(&self, mut call: impl FnMut(&Token) -> Verdict<T>) -> Result<T, Error> {
        let token = self.get()?;
        if let Verdict::Accepted(answer) = call(&token) {
            return Ok(answer);
        }
        self.invalidate(&token);
        match call(&self.get()?) {
            Verdict::Accepted(answer) | Verdict::Unauthorized(answer) => Ok(answer),
        }
    }

    /// Starts a thread that keeps this process's token fresh until the guard is dropped: it takes over a token as soon
    /// as any process commits it, and refreshes an idle process's token before it expires. After a fork the child has
    /// to call it again.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) when the system has no thread left.
    pub fn keep_fresh(&self) -> Result<FreshGuard, Error> {
        fresh::keep(self.core().clone())
    }

    /// Returns what this process has done so far.
    pub fn stats(&self) -> Stats {
        let core = self.core();
        let Counters { flights, fetches, failures, adopted, waits, timeouts } = &core.counters;
        let [flights, fetches, failures, adopted, waits, timeouts] =
            [flights, fetches, failures, adopted, waits, timeouts].map(|counter| counter.load(Ordering::Relaxed));
        Stats { flights, fetches, failures, adopted, waits, timeouts, abandoned: core.abandoned() as u64 }
    }

    /// Returns what the store knows of the token, in one exchange that changes nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Store`](crate::ErrorKind::Store) when the store cannot be asked.
    pub fn inspect(&self) -> Result<Inspection, Error> {
        let Settings { store, name, egress, .. } = &*self.shared.settings;
        store.inspect(name, egress).map_err(Error::store)
    }

    /// Ends the pauses after failures: that of the fleet, that of this process's egress, and this process's own. For operators,
    /// when what was wrong has been put right.
    ///
    /// # Errors
    /// [`ErrorKind::Store`](crate::ErrorKind::Store) when the store cannot be told; this process's own pause ends all the same.
    pub fn lift_pause(&self) -> Result<(), Error> {
        let Settings { store, name, egress, .. } = &*self.shared.settings;
        let lifted = store.lift_pause(name, egress).map_err(Error::store);
        // Last, so that no flight brings the fleet's pause back meanwhile.
        self.core().forgive();
        lifted
    }

    /// Waits until this process has neither a flight nor a thread of this manager's, abandoned sources included; false if
    /// that took longer than this. After true no thread of the library holds the source, so the source is dropped with the
    /// last clone of the manager. Call it before unloading what the source needs, when no thread asks for tokens any more
    /// and no guard of [`keep_fresh`](TokenManager::keep_fresh) is left: while one lives, so does its thread.
    pub fn quiesce(&self, within: Duration) -> bool {
        let (core, deadline) = (self.core(), clock::deadline(within));
        // In this order: a thread may start a flight, but a flight on a caller's thread starts no thread.
        core.running.none(deadline) && core.flights.idle(deadline)
    }

    /// Returns this process's name in the store: a UUID, another one after a fork.
    pub fn owner(&self) -> String {
        self.core().owner.to_string()
    }

    fn core(&self) -> &Arc<Core> {
        let Shared { settings, core } = &*self.shared;
        core.get_or_inherit(|parent| Core::new(settings.clone(), parent.slot.forked()))
    }
}

impl fmt::Debug for TokenManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenManager").field("name", &self.shared.settings.name.to_string()).finish_non_exhaustive()
    }
}

/// Has a due token refreshed; nobody waits, except for a caller whose thread must fly.
fn refresh_due(core: &Arc<Core>, deadline: Instant) {
    let inline = core.settings.policy.execution == Execution::Inline;
    if core.refreshing() || ReentrancyGuard::is_inside(core) || (inline && clock::left(deadline).is_zero()) {
        return;
    }
    // Should no thread be left, a valid token is no reason to hold its caller up.
    let (patience, deadline) =
        if inline { (deadline, deadline) } else { (refresh::unhurried(core), clock::deadline(Duration::ZERO)) };
    refresh::join(core, patience, deadline, |slot| matches!(slot.look(), Some((_, AtHand::Due))));
}

/// Joins the flight, or starts it, until there is a valid token or the deadline has passed.
fn wait_for_token(core: &Arc<Core>, deadline: Instant) -> Result<Token, Error> {
    Counters::count(&core.counters.waits);
    loop {
        if ReentrancyGuard::is_inside(core) {
            return Err(Error::reentrant());
        }
        if let Some((token, _)) = core.slot.look() {
            return Ok(token);
        }
        let failed = match core.failure() {
            Some(error) => Some(error),
            None => fly_or_follow(core, deadline)?.err(),
        };
        if let Some(error) = failed {
            let landed = core.flights.landed();
            // The flight that failed may be a later one than that which brought this caller's token.
            if let Some((token, _)) = core.slot.look() {
                return Ok(token);
            }
            match decide::rest(error.kind(), error.retry_after(), clock::left(deadline)) {
                Some(pause) => core.flights.rest(landed, clock::deadline(pause)),
                None => return Err(error),
            }
        }
        if clock::left(deadline).is_zero() && core.slot.look().is_none() {
            return Err(timed_out(core));
        }
    }
}

fn fly_or_follow(core: &Arc<Core>, deadline: Instant) -> Result<Outcome, Error> {
    let patience = match core.settings.policy.execution {
        // A hurried caller's flight goes on, or each of its calls would ask the store again.
        Execution::Background => deadline.max(refresh::unhurried(core)),
        Execution::Inline if clock::left(deadline).is_zero() => return Err(timed_out(core)),
        Execution::Inline => deadline,
    };
    // A deadline of zero waits for nothing.
    let _waiting = (!clock::left(deadline).is_zero()).then(|| Waiting::begin(core)).transpose()?;
    let number = refresh::join(core, patience, deadline, |slot| slot.look().is_none());
    core.flights.wait(number, deadline).ok_or_else(|| timed_out(core))
}

fn timed_out(core: &Core) -> Error {
    Counters::count(&core.counters.timeouts);
    Error::timeout()
}
