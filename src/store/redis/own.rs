//! Connections that the store makes itself.

use super::connect::Connector;
use super::connection::Connection;
use super::connections::Connections;
use super::durability::Durability;
use super::failure::failure;
use super::feed::RedisFeed;
use super::pool::Pool;
use super::route::Route;
use super::script::Script;
use super::subscription::RedisSubscription;
use crate::fork::PerProcess;
use crate::store::{Feed, StoreError, Subscription, Topic};
use redis::Value;
use std::sync::Arc;
use std::time::Duration;

/// A pool, of which each process has its own, and what makes its connections.
pub struct Own {
    pub connector: Arc<Connector>,
    pub pool_size: u32,
    pub durability: Option<Durability>,
    pub pool: PerProcess<Pool>,
}

impl Own {
    /// Returns this process's pool.
    fn pool(&self) -> &Pool {
        self.pool.get(|| Pool::free_list(self.connector.clone(), self.pool_size))
    }
}

impl Connections for Own {
    fn run(&self, goes_first: bool, script: &Script, keys: &[&str], args: &[&[u8]]) -> Result<Value, StoreError> {
        self.pool().with(goes_first, |connection| connection.run(script, keys, args))?.map_err(failure)
    }

    fn commit(&self, script: &Script, keys: &[&str], args: &[&[u8]]) -> Result<Value, StoreError> {
        let Some(durability) = &self.durability else { return self.run(true, script, keys, args) };
        let commit = |connection: &mut Connection| {
            let reply = connection.run(script, keys, args).map_err(failure)?;
            let answer = connection.wait(&durability.command(), durability.limit).map_err(failure)?;
            durability.check(&answer).map(|()| reply)
        };
        self.pool().with(true, commit)?
    }

    fn exists(&self, key: &str) -> Result<bool, StoreError> {
        self.pool().with(false, |connection| connection.exists(key))?.map_err(failure)
    }

    fn subscribe(&self, channel: String) -> Result<Box<dyn Subscription>, StoreError> {
        let subscribed = RedisSubscription::subscribe(self.connector.clone(), channel);
        Ok(Box::new(subscribed.map_err(failure)?))
    }

    fn has_feed(&self) -> bool {
        true
    }

    fn feed(&self, channel: Box<dyn Fn(&Topic) -> String + Send>) -> Result<Box<dyn Feed>, StoreError> {
        Ok(Box::new(RedisFeed::open(self.connector.clone(), channel).map_err(failure)?))
    }

    fn is_one_server(&self) -> bool {
        !matches!(self.connector.route, Route::Cluster(_))
    }

    fn database(&self) -> Result<i64, StoreError> {
        Ok(self.connector.dialer.database)
    }

    fn place(&self) -> String {
        let Connector { route, dialer, .. } = &*self.connector;
        format!("redis {route}/{}", dialer.database)
    }

    fn timeout(&self) -> Duration {
        let waits = self.durability.map_or(Duration::ZERO, |durability| durability.limit);
        (self.connector.io_timeout + waits).max(self.connector.connect_timeout)
    }
}
