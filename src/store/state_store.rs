//! A whole store, made of any place that can change two values in one atomic step.

use super::rules::{EgressState, GrantState, TokenState};
use super::{
    Change, Claim, Claimed, Committed, Failure, Grant, Inspection, Lease, Pause, Store, StoreError, StoreErrorKind,
    Stored, Subscription, TokenName,
};
use std::time::Duration;

/// What [`StateBackend::update`] is to do to the states at a time, in microseconds since 1970; returns the changes to announce.
pub type Step<'a> = dyn FnMut(u64, &mut GrantState, &mut EgressState) -> Vec<Change> + 'a;

/// A place that keeps states: a file, a table, a service. [`StateStore`] makes a [`Store`] of it by the
/// [`rules`](super::rules), and the contract's checks, behind the feature `contract`, tell whether it is right.
pub trait StateBackend: Send + Sync + 'static {
    /// Reads what is kept of the token's [grant](TokenName::of_grant) and of this egress of its group, the default where nothing
    /// is; calls `step` with it and with the time, by one clock for all processes; keeps what it leaves; then tells the
    /// subscribers of the grant's tokens what it returns.
    /// All that is one atomic step: where another one came between, `step` may be called anew with what is kept then.
    /// Without an egress only the grant's state is read and kept.
    ///
    /// Called from any thread, several at a time; may block as long as [`timeout`](StateBackend::timeout) says.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read or written; `step` may have been called all the same.
    fn update(&self, name: &TokenName, egress: Option<&str>, step: &mut Step<'_>) -> Result<(), StoreError>;

    /// Subscribes to the token's changes, as [`Store::subscribe`]. Defaults to an error: flights and `keep_fresh` then poll.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot subscribe.
    fn subscribe(&self, name: &TokenName) -> Result<Box<dyn Subscription>, StoreError> {
        let _ = name;
        Err(StoreError::new(StoreErrorKind::Other, "this store tells of no changes"))
    }

    /// Names the place, as [`Store::place`]. Defaults to an empty name.
    fn place(&self) -> String {
        String::new()
    }

    /// Returns the longest single update, as [`Store::timeout`].
    fn timeout(&self) -> Duration;
}

/// The store that a backend makes, by the same rules as the scripts in Redis.
#[derive(Clone, Debug, Default)]
pub struct StateStore<B>(pub B);

impl<B: StateBackend> StateStore<B> {
    fn run<T>(
        &self,
        name: &TokenName,
        egress: Option<&str>,
        mut verb: impl FnMut(u64, &mut TokenState, &mut EgressState, &mut Vec<Change>) -> T,
    ) -> Result<T, StoreError> {
        let mut answer = None;
        self.0.update(name, egress, &mut |now, grant, egress| {
            let mut changes = Vec::new();
            answer = Some(grant.token(name, |token| verb(now, token, egress, &mut changes)));
            changes
        })?;
        answer.ok_or_else(|| StoreError::new(StoreErrorKind::Malformed, "the store's backend made no step"))
    }
}

impl<B: StateBackend> Store for StateStore<B> {
    fn claim(&self, name: &TokenName, claim: &Claim<'_>) -> Result<Claimed, StoreError> {
        self.run(name, Some(claim.egress), |now, token, egress, _| token.claim(now, claim, egress))
    }

    fn renew(&self, name: &TokenName, lease: &Lease, length: Duration) -> Result<bool, StoreError> {
        self.run(name, None, |now, token, _, _| token.renew(now, lease, length))
    }

    fn commit(&self, name: &TokenName, lease: &Lease, grant: &Grant) -> Result<Committed, StoreError> {
        self.run(name, None, |now, token, _, changes| token.commit(now, lease, grant, changes))
    }

    fn record_failure(
        &self,
        name: &TokenName,
        lease: &Lease,
        failure: &Failure<'_>,
    ) -> Result<Option<Pause>, StoreError> {
        self.run(name, Some(failure.egress), |now, token, egress, changes| {
            token.record_failure(now, lease, failure, egress, changes)
        })
    }

    fn invalidate(&self, name: &TokenName, generation: u64) -> Result<(), StoreError> {
        self.run(name, None, |now, token, _, changes| token.invalidate(now, generation, changes))
    }

    fn offer(&self, name: &TokenName, lost: &Stored) -> Result<bool, StoreError> {
        self.run(name, None, |now, token, _, changes| token.offer(now, lost, changes))
    }

    fn lift_pause(&self, name: &TokenName, egress: &str) -> Result<(), StoreError> {
        self.run(name, Some(egress), |_, token, egress, _| token.lift_pause(egress))
    }

    fn inspect(&self, name: &TokenName, egress: &str) -> Result<Inspection, StoreError> {
        self.run(name, Some(egress), |now, token, egress, _| token.inspect(now, egress))
    }

    fn subscribe(&self, name: &TokenName) -> Result<Box<dyn Subscription>, StoreError> {
        self.0.subscribe(name)
    }

    fn has_updater(&self, name: &TokenName) -> Result<bool, StoreError> {
        self.run(name, None, |now, token, _, _| token.has_updater(now))
    }

    fn place(&self) -> String {
        self.0.place()
    }

    fn timeout(&self) -> Duration {
        self.0.timeout()
    }
}
