//! The numbers of a Redis store, their defaults and limits, and its making.

use super::durability::Durability;
use crate::store::{StoreError, StoreErrorKind};
use redis::{ConnectionInfo, IntoConnectionInfo};
use std::fmt;
use std::time::Duration;

/// The numbers of a Redis store. Made by [`RedisStore::options`](crate::RedisStore::options).
#[derive(Clone)]
pub struct RedisOptions {
    pub(super) url: String,
    pub(super) connect_timeout: Duration,
    pub(super) io_timeout: Duration,
    pub(super) pool_timeout: Duration,
    pub(super) pool_size: u32,
    pub(super) threadless: bool,
    pub(super) durability: Option<Durability>,
}

impl RedisOptions {
    pub(super) fn new(url: &str) -> RedisOptions {
        RedisOptions {
            url: url.to_owned(),
            connect_timeout: Duration::from_millis(300),
            io_timeout: Duration::from_millis(500),
            pool_timeout: Duration::from_millis(500),
            pool_size: 32,
            threadless: false,
            durability: None,
        }
    }

    /// Limits the making of a connection, login included and name lookup excepted. Defaults to 300 ms.
    pub fn connect_timeout(mut self, limit: Duration) -> RedisOptions {
        self.connect_timeout = limit;
        self
    }

    /// Limits each exchange: the way of a command to Redis and of its answer back. Defaults to 500 ms.
    pub fn io_timeout(mut self, limit: Duration) -> RedisOptions {
        self.io_timeout = limit;
        self
    }

    /// Limits the wait for a connection when all are in use; twice as long for an updater, whose lease is running out.
    /// Defaults to 500 ms.
    pub fn pool_timeout(mut self, limit: Duration) -> RedisOptions {
        self.pool_timeout = limit;
        self
    }

    /// Limits the number of pooled connections, which are made when they are needed and closed when none has needed them for a
    /// minute; waiting threads hold none. Defaults to 32.
    pub fn pool_size(mut self, size: u32) -> RedisOptions {
        self.pool_size = size;
        self
    }

    /// Does without the pool's thread: the pool's size then limits how many connections are kept, however long, and not
    /// how many are in use. Defaults to a thread, named `tkm-pool-0`.
    pub fn without_thread(mut self) -> RedisOptions {
        self.threadless = true;
        self
    }

    /// Has a commit count as taken once so many replicas have it too, which they must within this limit (the command WAIT):
    /// a failover to one of them then loses neither the token nor a carried secret. Until then the process goes on with the
    /// token, repeats the commit, and leaves its [journal](crate::Builder::journal) as it is. Costs each fetch a round trip to the
    /// replicas, and the lease must be three times as long as the limit and `io_timeout` together. Defaults to none.
    pub fn wait_replicas(mut self, replicas: u32, limit: Duration) -> RedisOptions {
        self.durability = Some(Durability { replicas, synced: false, limit });
        self
    }

    /// As [`wait_replicas`](RedisOptions::wait_replicas), on the disk of the primary and on those of so many replicas, which
    /// need `appendonly yes` (the command WAITAOF, Redis 7.2 or newer). Defaults to none.
    pub fn wait_aof(mut self, replicas: u32, limit: Duration) -> RedisOptions {
        self.durability = Some(Durability { replicas, synced: true, limit });
        self
    }

    /// Refuses what cannot be opened.
    pub(crate) fn check(&self) -> Result<ConnectionInfo, StoreError> {
        let refuse = |message: String| Err(StoreError::new(StoreErrorKind::Malformed, message));
        for (setting, limit) in [
            ("connect_timeout", self.connect_timeout),
            ("io_timeout", self.io_timeout),
            ("pool_timeout", self.pool_timeout),
            ("the limit of wait_replicas", self.durability.map_or(self.io_timeout, |durability| durability.limit)),
        ] {
            if !(Duration::from_millis(1)..=Duration::from_secs(60)).contains(&limit) {
                return refuse(format!("{setting} is {limit:?}; it must be between 1 ms and 1 minute"));
            }
        }
        if !(1..=10_000).contains(&self.pool_size) {
            return refuse(format!("pool_size is {}; it must be between 1 and 10,000", self.pool_size));
        }
        // The parser's own message could quote the password.
        let malformed =
            "malformed Redis URL, or one that needs TLS; write redis://[user:password@]host[:port][/database]";
        self.url.as_str().into_connection_info().or_else(|_| refuse(malformed.into()))
    }
}

impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the URL, which may hold a password.
        f.debug_struct("RedisOptions")
            .field("connect_timeout", &self.connect_timeout)
            .field("io_timeout", &self.io_timeout)
            .field("pool_timeout", &self.pool_timeout)
            .field("pool_size", &self.pool_size)
            .field("threadless", &self.threadless)
            .field("durability", &self.durability)
            .finish_non_exhaustive()
    }
}
