//! The numbers of a Redis store, their defaults and limits, and its making.

use super::address::Address;
use super::connect::Connector;
use super::dial::Dialer;
use super::login::Login;
use super::route::Route;
use crate::store::{StoreError, StoreErrorKind};
use redis::{IntoConnectionInfo, ProtocolVersion};
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

    /// Refuses what cannot be opened.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        self.connector().map(drop)
    }

    /// Returns what makes the connections.
    pub(super) fn connector(&self) -> Result<Connector, StoreError> {
        let refuse = |message: String| Err(StoreError::new(StoreErrorKind::Malformed, message));
        for (setting, limit) in [
            ("connect_timeout", self.connect_timeout),
            ("io_timeout", self.io_timeout),
            ("pool_timeout", self.pool_timeout),
        ] {
            if !(Duration::from_millis(1)..=Duration::from_secs(60)).contains(&limit) {
                return refuse(format!("{setting} is {limit:?}; it must be between 1 ms and 1 minute"));
            }
        }
        if !(1..=10_000).contains(&self.pool_size) {
            return refuse(format!("pool_size is {}; it must be between 1 and 10,000", self.pool_size));
        }
        let info = self.url.as_str().into_connection_info();
        // The parser's own message could quote the password.
        let (Some(address), Ok(info)) = (info.as_ref().ok().and_then(|info| Address::from_url(info.addr())), &info)
        else {
            return refuse(
                "malformed Redis URL, or one that needs TLS; write redis://[user:password@]host[:port][/database]"
                    .into(),
            );
        };
        let settings = info.redis_settings();
        let Self { connect_timeout, io_timeout, .. } = *self;
        Ok(Connector {
            route: Route::Direct(address),
            dialer: Dialer { resp3: settings.protocol() == ProtocolVersion::RESP3, database: settings.db() },
            login: Login::from_url(settings.username(), settings.password()),
            connect_timeout,
            io_timeout,
        })
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
            .finish_non_exhaustive()
    }
}
