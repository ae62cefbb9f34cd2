//! The seam to a store's events for many tokens at once: one half reads, the other says what is wanted, from any thread.

use super::{Change, StoreError, TokenName};
use std::sync::Arc;
use std::time::Duration;

/// What a feed tells. Names are those of [grants](TokenName::of_grant).
#[derive(Debug)]
#[non_exhaustive]
pub enum Heard {
    /// What happens to the grant's tokens is told from now on.
    Following(TokenName),
    /// The store refuses to tell of this grant.
    Refused(TokenName, StoreError),
    /// Something happened to a token of this grant.
    Changed(TokenName, Change),
    /// The answer to one [`ping`](Tuner::ping): all that happened before has been told.
    Pong,
}

/// The reading half of a subscription to the changes of many tokens. Dropping it ends the subscription.
pub trait Feed: Send {
    /// Waits for the next thing to hear, at most so long; `None` when none came. Called by the one thread that holds it.
    ///
    /// # Errors
    /// [`StoreError`] when the subscription is lost; the feed is then dropped and another is made.
    fn wait(&mut self, at_most: Duration) -> Result<Option<Heard>, StoreError>;

    /// Returns the other half.
    fn tuner(&self) -> Arc<dyn Tuner>;
}

/// Says what a feed is to tell, while its thread waits. Each may block as long as one exchange.
pub trait Tuner: Send + Sync {
    /// Asks to be told of a grant's tokens; the feed confirms or refuses it. Called from any thread.
    ///
    /// # Errors
    /// [`StoreError`] when the subscription is lost.
    fn follow(&self, grant: &TokenName) -> Result<(), StoreError>;

    /// Asks to be told of them no more. Called from any thread.
    ///
    /// # Errors
    /// [`StoreError`] when the subscription is lost.
    fn unfollow(&self, grant: &TokenName) -> Result<(), StoreError>;

    /// Asks for a [`Pong`](Heard::Pong). Called from any thread.
    ///
    /// # Errors
    /// [`StoreError`] when the subscription is lost.
    fn ping(&self) -> Result<(), StoreError>;
}
