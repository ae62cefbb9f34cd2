//! The caller's slow path: what `get` does when the calling thread has no token at hand that is fresh.

use crate::clock::{self, Moment};
use crate::decide::{self, Serve};
use crate::error::Error;
use crate::flight::run::{self, CallingThread, Need};
use crate::policy::Execution;
use crate::reentrancy::{ReentrancyGuard, Waiting};
use crate::state::{Outcome, State};
use crate::stats::Count;
use crate::token::Token;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Returns a token that may be served now, and waits for one no longer than this; if there is none, the last one, where that is
/// allowed.
pub fn acquire(state: &Arc<State>, within: Duration) -> Result<Token, Error> {
    valid_token(state, within).or_else(|error| {
        let limit = state.settings.policy.serve_stale.filter(|_| decide::may_serve_stale(error.kind()));
        let stale = limit.and_then(|limit| state.slot.stale(limit)).ok_or_else(|| error.clone())?;
        let name = &state.settings.name;
        log::debug!(target: "token_manager", "{name}: generation {} is served past its end: {error}", stale.generation());
        Ok(stale)
    })
}

fn valid_token(state: &Arc<State>, within: Duration) -> Result<Token, Error> {
    match state.slot.peek() {
        Some((token, Serve::Now)) => Ok(token),
        Some(_) => {
            let deadline = clock::deadline(within);
            refresh_due(state, deadline);
            // A refresh on this very thread may have brought a newer one, or outlived the old one.
            state.slot.peek().map_or_else(|| wait_for_token(state, deadline), |(token, _)| Ok(token))
        }
        None => wait_for_token(state, clock::deadline(within)),
    }
}

/// Has a due token refreshed; nobody waits, except for a caller on whose thread flights run.
fn refresh_due(state: &Arc<State>, deadline: Instant) {
    let is_refreshing = state.slot.postpone_while(|| state.flights.is_running());
    if is_refreshing || ReentrancyGuard::is_inside(state.id) {
        return;
    }
    match state.settings.policy.execution {
        Execution::Background => {
            // Should no thread be left, a valid token is no reason to hold its caller up.
            run::join(state, Need::Refresh, run::default_flight_deadline(state), CallingThread::Spared);
        }
        Execution::Inline if clock::left(deadline).is_zero() => {}
        Execution::Inline => {
            run::join(state, Need::Refresh, deadline, CallingThread::LentUntil(deadline));
        }
    }
}

/// Joins the flight, or starts it, until there is a valid token or the deadline has passed.
fn wait_for_token(state: &Arc<State>, deadline: Instant) -> Result<Token, Error> {
    let began = Moment::now();
    state.count(Count::Wait);
    let outcome = wait_until(state, deadline);
    state.waited(Moment::now().since(began));
    outcome
}

fn wait_until(state: &Arc<State>, deadline: Instant) -> Result<Token, Error> {
    loop {
        if ReentrancyGuard::is_inside(state.id) {
            return Err(Error::reentrant());
        }
        if let Some((token, _)) = state.slot.peek() {
            return Ok(token);
        }
        let failure = match state.failures.last() {
            Some(error) => Some(error),
            None => wait_for_flight(state, deadline)?.err(),
        };
        if let Some(error) = failure {
            let finished = state.flights.finished();
            // The flight that failed may be a later one than that which brought this caller's token.
            if let Some((token, _)) = state.slot.peek() {
                return Ok(token);
            }
            match decide::retry_pause(error.kind(), error.retry_after(), clock::left(deadline)) {
                Some(pause) => state.flights.wait_for_next(finished, clock::deadline(pause)),
                None => return Err(error),
            }
        }
        if clock::left(deadline).is_zero() {
            // A token that came at the last moment is still an answer.
            return state.slot.peek().map(|(token, _)| token).ok_or_else(|| timed_out(state));
        }
    }
}

fn wait_for_flight(state: &Arc<State>, deadline: Instant) -> Result<Outcome, Error> {
    let flight_deadline = match state.settings.policy.execution {
        // A hurried caller's flight goes on, or each of its calls would ask the store again.
        Execution::Background => deadline.max(run::default_flight_deadline(state)),
        Execution::Inline if clock::left(deadline).is_zero() => return Err(timed_out(state)),
        Execution::Inline => deadline,
    };
    // A deadline of zero waits for nothing.
    let waiting = (!clock::left(deadline).is_zero()).then(|| Waiting::begin(state.id)).transpose()?;
    let number = run::join(state, Need::Token, flight_deadline, CallingThread::LentUntil(deadline));
    if waiting.is_some() {
        run::hurry(state);
    }
    state.flights.wait(number, deadline).ok_or_else(|| timed_out(state))
}

fn timed_out(state: &State) -> Error {
    state.count(Count::Timeout);
    Error::timeout()
}
