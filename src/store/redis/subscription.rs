//! The subscription to a token's changes, on a connection of its own.

use super::connect::Connector;
use super::failure::failure;
use super::stream::Stream;
use super::target::Target;
use crate::clock;
use crate::error::FailureClass;
use crate::store::{Change, StoreError, Subscription};
use redis::{Cmd, Msg, RedisResult, cmd};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub struct RedisSubscription {
    connector: Arc<Connector>,
    channel: String,
    target: Target,
    stream: Stream,
    /// Changes that came and have not been told.
    received: VecDeque<Change>,
}

impl RedisSubscription {
    /// Subscribes; Redis has confirmed it when this returns.
    pub fn subscribe(connector: Arc<Connector>, channel: String) -> RedisResult<RedisSubscription> {
        let (target, stream) = connector.open(&channel)?;
        let mut subscription = RedisSubscription { connector, channel, target, stream, received: VecDeque::new() };
        subscription.ask(cmd("SUBSCRIBE").arg(&subscription.channel))?;
        Ok(subscription)
    }

    /// Goes over to a new connection, once that is subscribed, with all that the old one has brought. Stays with the old one as
    /// long as there is no new one.
    fn renew(&mut self) {
        match RedisSubscription::subscribe(self.connector.clone(), self.channel.clone()) {
            Ok(renewed) => {
                // Its answer comes behind all that was published before.
                let _ = self.ask(&cmd("PING"));
                (self.target, self.stream) = (renewed.target, renewed.stream);
                self.received.extend(renewed.received);
            }
            Err(error) => {
                log::debug!(target: "token_manager::redis", "a subscription could not be renewed: {}", failure(error));
                self.stream.renew_later();
            }
        }
    }

    /// Sends a command and waits until it is answered.
    fn ask(&mut self, command: &Cmd) -> RedisResult<()> {
        let deadline = clock::deadline(self.connector.io_timeout);
        self.stream.send(&command.get_packed_command(), deadline)?;
        while !self.receive_one(deadline)? {}
        Ok(())
    }

    /// Takes in what Redis says next; returns whether it was an answer, and no message.
    fn receive_one(&mut self, deadline: Instant) -> RedisResult<bool> {
        let value = self.stream.receive(deadline)?;
        match Msg::from_value(&value) {
            Some(message) => self.received.extend(message.get_payload::<String>().ok().as_deref().and_then(parse)),
            None => return value.extract_error().map(|_| true),
        }
        Ok(false)
    }
}

impl Subscription for RedisSubscription {
    fn wait(&mut self, at_most: Duration) -> Result<Option<Change>, StoreError> {
        if self.stream.is_old() {
            self.renew();
        }
        let deadline = clock::deadline(at_most.max(Duration::from_millis(1)));
        while self.received.is_empty() {
            self.connector.must_still_lead_to(&self.target)?;
            let confirmed = self.connector.route.confirmed_for().map(clock::deadline);
            match self.receive_one(confirmed.map_or(deadline, |confirmed| confirmed.min(deadline))) {
                Err(error) if error.is_timeout() && clock::left(deadline).is_zero() => break,
                Err(error) if !error.is_timeout() => return Err(failure(error)),
                _ => {}
            }
        }
        Ok(self.received.pop_front())
    }

    fn check(&mut self) -> Result<(), StoreError> {
        self.connector.must_still_lead_to(&self.target)?;
        match self.ask(&cmd("PING")) {
            // Whoever refuses a PING is there.
            Err(error) if error.code().is_none() => Err(failure(error)),
            _ => Ok(()),
        }
    }
}

/// Reads what the scripts publish: `committed 7`, `doubted 7`, `invalid 7` or `failed throttled`.
pub fn parse(event: &str) -> Option<Change> {
    let (what, of) = event.split_once(' ')?;
    match what {
        "committed" => of.parse().ok().map(Change::Committed),
        "doubted" => of.parse().ok().map(Change::Doubted),
        "invalidated" => of.parse().ok().map(Change::Invalidated),
        "failed" => Some(Change::Failed(FailureClass::parse(of))),
        _ => None,
    }
}
