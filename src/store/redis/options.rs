//! The numbers of a Redis store, their defaults and limits, and its making.

use super::address::Address;
use super::cluster::Cluster;
use super::connect::Connector;
use super::dial::Dialer;
use super::route::Route;
use super::sentinel::Sentinels;
use super::url::{Url, Urls};
use crate::store::{StoreError, StoreErrorKind};
use std::fmt;
use std::time::Duration;

/// The numbers of a Redis store. Made by [`RedisStore::options`](crate::RedisStore::options).
#[derive(Clone)]
pub struct RedisOptions {
    pub(super) urls: Urls,
    pub(super) connect_timeout: Duration,
    pub(super) io_timeout: Duration,
    pub(super) pool_timeout: Duration,
    pub(super) pool_size: u32,
    pub(super) threadless: bool,
}

impl RedisOptions {
    pub(super) fn new(urls: Urls) -> RedisOptions {
        RedisOptions {
            urls,
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
        let Self { connect_timeout, io_timeout, .. } = *self;
        let (route, url) = match &self.urls {
            Urls::One(url) => {
                let url = parse(url)?;
                (Route::Direct(url.address.clone()), url)
            }
            Urls::Sentinel { primary, sentinels } => {
                let (url, (sentinel, addresses)) = (parse(primary)?, parse_all(sentinels)?);
                let Address::Tcp { host: name, .. } = &url.address else { return Err(malformed()) };
                let dialer = Dialer { resp3: false, database: 0 };
                let sentinels = Sentinels::new(name.clone(), addresses, dialer, sentinel.login, connect_timeout);
                (Route::Sentinel(sentinels), url)
            }
            Urls::Cluster(seeds) => {
                let (url, addresses) = parse_all(seeds)?;
                if url.database != 0 {
                    return refuse("a Redis Cluster has no database but 0; leave it out of the URL".into());
                }
                (Route::Cluster(Cluster::new(addresses)), url)
            }
        };
        let dialer = Dialer { resp3: url.resp3, database: url.database };
        Ok(Connector { route, dialer, login: url.login, connect_timeout, io_timeout })
    }
}

fn parse(url: &str) -> Result<Url, StoreError> {
    Url::parse(url).ok_or_else(malformed)
}

/// Reads the URLs of servers that differ in their addresses alone; returns the first with the addresses of all.
fn parse_all(urls: &[String]) -> Result<(Url, Vec<Address>), StoreError> {
    let mut all = urls.iter().map(|url| parse(url)).collect::<Result<Vec<_>, _>>()?;
    let addresses = all.iter().map(|url| url.address.clone()).collect();
    if all.iter().any(|url| (&url.login, url.database) != (&all[0].login, all[0].database)) {
        let message = "the URLs of one Redis's servers must agree in all but host and port";
        return Err(StoreError::new(StoreErrorKind::Malformed, message));
    }
    match all.is_empty() {
        true => Err(StoreError::new(StoreErrorKind::Malformed, "no URL; at least one server must be named")),
        false => Ok((all.swap_remove(0), addresses)),
    }
}

/// The parser's own message could quote the password.
fn malformed() -> StoreError {
    let message = "malformed Redis URL, or one that needs TLS; write redis://[user:password@]host[:port][/database], \
        redis+sentinel://[user:password@]host[:port],.../primary[/database] or \
        redis+cluster://[user:password@]host[:port],...";
    StoreError::new(StoreErrorKind::Malformed, message)
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
