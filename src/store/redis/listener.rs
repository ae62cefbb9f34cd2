//! The subscription to a token's changes, on a connection of its own.

use super::connection::{Link, failure};
use crate::error::FailureClass;
use crate::store::{Change, Listener, StoreError};
use redis::{Connection, RedisResult};
use std::mem;
use std::time::Duration;

pub struct RedisListener {
    connection: Connection,
}

impl RedisListener {
    /// Subscribes; Redis has confirmed it when this returns.
    pub fn subscribe(link: Link, channel: &str, timeout: Duration) -> RedisResult<RedisListener> {
        let mut connection = link.connection;
        connection.set_read_timeout(Some(timeout))?;
        let mut subscription = connection.as_pubsub();
        let confirmed = subscription.subscribe(channel);
        mem::forget(subscription); // Its drop would unsubscribe; the end of the connection does that for us.
        confirmed.map(|()| RedisListener { connection })
    }
}

impl Listener for RedisListener {
    fn wait(&mut self, at_most: Duration) -> Result<Option<Change>, StoreError> {
        // A socket takes a limit of zero for none at all.
        self.connection.set_read_timeout(Some(at_most.max(Duration::from_millis(1)))).map_err(failure)?;
        let mut subscription = self.connection.as_pubsub();
        let message = subscription.get_message();
        mem::forget(subscription);
        match message {
            Ok(message) => Ok(message.get_payload::<String>().ok().as_deref().and_then(parse)),
            Err(error) if error.is_timeout() => Ok(None),
            Err(error) => Err(failure(error)),
        }
    }
}

/// Reads what the scripts publish: `committed 7`, `doubted 7`, `void 7` or `failed throttled`.
pub fn parse(event: &str) -> Option<Change> {
    let (what, of) = event.split_once(' ')?;
    match what {
        "committed" => of.parse().ok().map(Change::Committed),
        "doubted" => of.parse().ok().map(Change::Doubted),
        "void" => of.parse().ok().map(Change::Void),
        "failed" => Some(Change::Failed(FailureClass::parse(of))),
        _ => None,
    }
}
