//! The seam to a store's events for many tokens at once: one half reads, the other says what is wanted, from any thread.

use super::{Change, StoreError, TokenName};
use std::sync::Arc;
use std::time::Duration;

/// What a feed can follow. Names are those of [grants](TokenName::of_grant).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// The changes of a grant's tokens.
    Changes(TokenName),
    /// That this owner is an updater of the grant: it tells nothing, but lets the others [see](super::Store::presence) that the process
    /// is there for as long as it follows.
    Presence(TokenName, String),
}

/// What a feed tells.
#[derive(Debug)]
#[non_exhaustive]
pub enum Heard {
    /// What happens there is told from now on.
    Following(Topic),
    /// The store refuses to tell of this.
    Refused(Topic, StoreError),
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

/// Says what a feed is to tell, from any thread and while its own waits. None of it blocks.
pub trait Tuner: Send + Sync {
    /// Asks to be told of this; the feed confirms or refuses it.
    fn follow(&self, topic: &Topic);

    /// Asks to be told of it no more.
    fn unfollow(&self, topic: &Topic);

    /// Asks for a [`Pong`](Heard::Pong).
    fn ping(&self);
}

/// Has the process's feed follow something, until what is returned is dropped; it is followed when this returns.
pub type Follow<'a> = &'a dyn Fn(&Topic) -> Result<Box<dyn Send>, StoreError>;
