//! The public face of a token: what programs call.

use crate::acquire::acquire;
use crate::cache::{CachedToken, SlotHeader};
use crate::clock::{self, Moment};
use crate::error::Error;
use crate::event::Event;
use crate::fork::PerProcess;
use crate::identity::identity;
use crate::keep_fresh::{self, FreshGuard};
use crate::reentrancy;
use crate::settings::Settings;
use crate::slot::Slot;
use crate::state::{State, retry_while_exhausted};
use crate::stats::{Count, Stats};
use crate::store::{Inspection, Stored, TokenName};
use crate::token::Token;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Hands out the fleet's token. Clones share everything; any thread may use any clone.
#[derive(Clone)]
pub struct TokenManager {
    /// What a hit reads, one step away.
    header: Arc<SlotHeader>,
    state: Arc<PerProcess<Arc<State>>>,
}

/// The API's answer to a call made with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<T> {
    /// The API took the token, whatever else it answered.
    Accepted(T),
    /// The API refused the token (HTTP 401).
    Unauthorized(T),
}

/// Calls an API with a token; if the API refuses it, invalidates it and calls once more with a new one.
pub(crate) fn call_with_token<T>(
    get: impl Fn() -> Result<Token, Error>,
    invalidate: impl FnOnce(&Token) -> Result<(), Error>,
    mut call: impl FnMut(&Token) -> Verdict<T>,
) -> Result<T, Error> {
    let token = get()?;
    if let Verdict::Accepted(answer) = call(&token) {
        return Ok(answer);
    }
    invalidate(&token)?;
    match call(&get()?) {
        Verdict::Accepted(answer) | Verdict::Unauthorized(answer) => Ok(answer),
    }
}

impl TokenManager {
    pub(crate) fn new(settings: Settings) -> TokenManager {
        let header = SlotHeader::new();
        // Made here, so that no fork meets them half made.
        identity();
        reentrancy::waits();
        let state = Arc::new(PerProcess::new(State::new(settings, Slot::new(header.clone()))));
        TokenManager { header, state }
    }

    /// Returns a token that is valid now, waiting for one no longer than the deadline of the settings (15 seconds by
    /// default).
    ///
    /// # Errors
    /// As [`get_within`](TokenManager::get_within).
    #[inline]
    pub fn get(&self) -> Result<Token, Error> {
        match self.header.get_cached() {
            Some(token) => Ok(token),
            None => self.acquire(self.settings().policy.deadline),
        }
    }

    /// Returns a token that is valid now, waiting for one no longer than this. With zero it never blocks: it returns
    /// the token at hand or an error, and has one fetched for later calls (not with
    /// [`Execution::Inline`](crate::Execution::Inline)).
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`](crate::ErrorKind::Timeout) when the deadline passes;
    /// [`Source`](crate::ErrorKind::Source), [`Store`](crate::ErrorKind::Store) or
    /// [`Limited`](crate::ErrorKind::Limited) when no token can be had and none is valid;
    /// [`Reentrant`](crate::ErrorKind::Reentrant) when called by the manager's own source.
    #[inline]
    pub fn get_within(&self, within: Duration) -> Result<Token, Error> {
        match self.header.get_cached() {
            Some(token) => Ok(token),
            None => self.acquire(within),
        }
    }

    #[cold]
    fn acquire(&self, within: Duration) -> Result<Token, Error> {
        if let Some(token) = self.header.get_displaced() {
            return Ok(token);
        }
        let state = self.state();
        let token = acquire(state, within)?;
        state.slot.checkout();
        Ok(token)
    }

    /// Tells the fleet that the API refused this token; a newer one stays. If the store cannot be told, which is logged, it
    /// counts in this process alone. Blocks only the first thread of the process that invalidates this generation, for one
    /// exchange with the store, or no longer than the deadline of the settings while all connections are in use. A token of
    /// another name, which can only be a mistake, is ignored, and that is logged.
    pub fn invalidate(&self, token: &Token) {
        let state = self.state();
        let (store, name, policy) = (&state.settings.store, &state.settings.name, &state.settings.policy);
        if !state.is_of_name(token) {
            log::warn!(target: "token_manager", "{name}: told to invalidate a token of another name; nothing was done");
            return;
        }
        let generation = token.generation();
        if !state.slot.invalidate(generation) {
            return;
        }
        state.count(Count::Invalidated);
        state.settings.emit(Event::Invalidated { generation });
        let until = clock::deadline(policy.deadline);
        if let Err(error) = retry_while_exhausted(until, || store.invalidate(name, generation)) {
            // This process asks for a newer one all the same; the others find out by themselves.
            drop(state.store_failed("invalidate", error));
        }
    }

    /// Calls an API with the token; if the API refuses it, invalidates it and calls once more with a new one, whose refusal
    /// is returned as the answer.
    ///
    /// # Errors
    /// As [`get`](TokenManager::get), for the first token and for the second.
    pub fn with_token<T>(&self, call: impl FnMut(&Token) -> Verdict<T>) -> Result<T, Error> {
        let invalidate = |token: &Token| {
            self.invalidate(token);
            Ok(())
        };
        call_with_token(|| self.get(), invalidate, call)
    }

    /// Keeps this process's token fresh until the guard is dropped: takes over a token as soon as any process commits it, and
    /// refreshes an idle process's token before it expires. One thread does so for all tokens of a store. After a fork the child
    /// has to call it again.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) when the system has no thread left.
    pub fn keep_fresh(&self) -> Result<FreshGuard, Error> {
        keep_fresh::keep(self.state().clone())
    }

    /// Returns what this process has done so far.
    pub fn stats(&self) -> Stats {
        let state = self.state();
        let expires_in = state.slot.peek().map(|(token, _)| token.expires_in());
        Stats { abandoned: self.abandoned() as u64, expires_in, ..state.counters().stats() }
    }

    /// Returns what the store knows of the token, in one exchange that changes nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Store`](crate::ErrorKind::Store) when the store cannot be asked.
    pub fn inspect(&self) -> Result<Inspection, Error> {
        self.settings().inspect_store().map_err(Error::store)
    }

    /// Ends the pauses after failures: that of the fleet, that of this process's egress, and this process's own. For operators,
    /// when what was wrong has been put right.
    ///
    /// # Errors
    /// [`ErrorKind::Store`](crate::ErrorKind::Store) when the store cannot be told; this process's own pause ends all the same.
    pub fn lift_pause(&self) -> Result<(), Error> {
        let settings = self.settings();
        let lifted = settings.store.lift_pause(&settings.name, &settings.egress).map_err(Error::store);
        // Last, so that no flight brings the fleet's pause back meanwhile.
        self.state().clear_failures();
        lifted
    }

    /// Waits until this process has neither a flight nor a thread of this manager's, abandoned sources and an unused subscription of
    /// its store included; false if that took longer than this. After true no thread of the library holds the source, so the source is dropped with the
    /// last clone of the manager. Call it before unloading what the source needs, when no thread asks for tokens any more
    /// and no guard of [`keep_fresh`](TokenManager::keep_fresh) is left: while one lives, so does its thread.
    pub fn quiesce(&self, within: Duration) -> bool {
        let (state, deadline) = (self.state(), clock::deadline(within));
        // In this order: a thread may start a flight, but a flight on a caller's thread starts no thread.
        state.threads.wait_until_none(deadline)
            && state.flights.wait_until_idle(deadline)
            && state.settings.events().rest(deadline)
    }

    /// Returns this process's name in the store: a UUID, another one after a fork.
    pub fn owner(&self) -> String {
        identity().owner().to_string()
    }

    /// Returns the token's name with its namespace, group and grant.
    pub fn name(&self) -> &TokenName {
        &self.settings().name
    }

    /// As [`get_within`](TokenManager::get_within), without a clone of the token for the calling thread's next hits.
    pub(crate) fn get_uncached(&self, within: Option<Duration>) -> Result<Token, Error> {
        acquire(self.state(), within.unwrap_or(self.settings().policy.deadline))
    }

    /// Keeps this process's token fresh while the guard lives and anybody has the manager.
    pub(crate) fn keep_while(&self, lives: Weak<()>) -> Result<(), Error> {
        keep_fresh::keep_while(self.state(), lives)
    }

    /// Takes over what the store had when it was asked then.
    pub(crate) fn adopt(&self, stored: Stored, asked_at: Moment) {
        self.state().adopt(stored, asked_at);
    }

    /// Returns how many sources overran their limit and still run.
    pub(crate) fn abandoned(&self) -> usize {
        self.state().abandoned()
    }

    /// Returns whether there is a valid token.
    pub(crate) fn has_token(&self) -> bool {
        self.state().slot.peek().is_some()
    }

    /// Returns what the manager was built with.
    pub(crate) fn settings(&self) -> &Settings {
        &self.state.latest().settings
    }

    /// Returns the present token as a cache keeps it that threads share.
    pub(crate) fn snapshot(&self) -> Option<CachedToken> {
        self.state().slot.snapshot()
    }

    pub(crate) fn header(&self) -> &SlotHeader {
        &self.header
    }

    /// Returns whether both are of one state.
    pub(crate) fn is(&self, other: &TokenManager) -> bool {
        Arc::ptr_eq(&self.state, &other.state)
    }

    /// Returns how many clones there are.
    pub(crate) fn handles(&self) -> usize {
        Arc::strong_count(&self.state)
    }

    /// Returns whether nothing is under way, and nothing would be lost with it.
    pub(crate) fn is_idle(&self) -> bool {
        self.state().is_idle()
    }

    fn state(&self) -> &Arc<State> {
        self.state.get_or_inherit(|parent| State::new(parent.settings.clone(), parent.slot.forked()))
    }
}

impl fmt::Debug for TokenManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenManager").field("name", &self.settings().name.to_string()).finish_non_exhaustive()
    }
}
