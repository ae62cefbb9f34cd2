//! The numbers of a Redis store, their defaults and limits, and its making.

use super::address::Address;
use super::cluster::Cluster;
use super::connect::Connector;
use super::dial::Dialer;
use super::durability::Durability;
use super::login::{self, Credentials, Login, Logins};
use super::lookup::Lookups;
use super::route::Route;
use super::sentinel::Sentinels;
use super::tls::Tls;
use super::tls_client::TlsClient;
use super::url::{Url, Urls};
use crate::store::{StoreError, StoreErrorKind};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The numbers of a Redis store. Made by [`RedisStore::options`](crate::RedisStore::options).
#[derive(Clone)]
pub struct RedisOptions {
    urls: Urls,
    pub(super) connect_timeout: Duration,
    pub(super) io_timeout: Duration,
    pub(super) pool_timeout: Duration,
    pub(super) pool_size: u32,
    pub(super) threadless: bool,
    credentials: Option<Credentials>,
    max_connection_age: Option<Duration>,
    tls: Option<Tls>,
    pub(super) durability: Option<Durability>,
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
            credentials: None,
            max_connection_age: None,
            tls: None,
            durability: None,
        }
    }

    /// Limits the making of a connection: name lookup, TLS and login included. Defaults to 300 ms.
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

    /// Does without threads of the store's own: the pool's size then limits how many connections are kept, however long, and
    /// not how many are in use; and the name of a host is looked up on the thread that needs the connection, for as long as
    /// the system takes, unless the URL has an address instead. Defaults to a thread named `tkm-pool-0`, and one named
    /// `tkm-lookup` while a name is looked up.
    pub fn without_thread(mut self) -> RedisOptions {
        self.threadless = true;
        self
    }

    /// Asks for the user and the password each time a connection is made, for logins that expire: tokens of Entra ID or IAM,
    /// passwords of Vault. The URL then has no password; a login without a user is that of the URL's user.
    ///
    /// It is called on the thread that needs the connection, by several at a time, and what it takes comes on top of
    /// `connect_timeout`: it ought to answer from memory, which a thread of yours, or another
    /// [`TokenManager`](crate::TokenManager), keeps fresh. Where Redis refuses what it gave, it is asked once more, for the login
    /// may have changed in between. Its error is that of the store; a panic is one, too. Defaults to what the URL says.
    pub fn credentials(
        mut self,
        credentials: impl Fn() -> Result<Login, StoreError> + Send + Sync + 'static,
    ) -> RedisOptions {
        self.credentials = Some(Arc::new(credentials));
        self
    }

    /// As [`credentials`](RedisOptions::credentials), read each time from a file that holds a password, or a user and a password on
    /// a line each. Replace it by renaming another one to it. Defaults to what the URL says.
    pub fn credentials_file(self, path: impl Into<PathBuf>) -> RedisOptions {
        let path = path.into();
        self.credentials(move || login::read(&path))
    }

    /// Renews connections before they are older than this, those of subscriptions too: for servers that end a connection when
    /// its login does, and for load balancers. Each has between three quarters of it and the whole, so that not all are
    /// renewed at once; one that nobody uses is closed after a minute as ever. Defaults to no limit.
    pub fn max_connection_age(mut self, age: Duration) -> RedisOptions {
        self.max_connection_age = Some(age);
        self
    }

    /// Sets what `rediss://` needs beyond the URL. Defaults to the CAs that the system trusts, and no certificate of one's own.
    pub fn tls(mut self, tls: Tls) -> RedisOptions {
        self.tls = Some(tls);
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
            ("the limit of wait_replicas", self.durability.map_or(self.io_timeout, |durability| durability.limit)),
        ] {
            if !(Duration::from_millis(1)..=Duration::from_secs(60)).contains(&limit) {
                return refuse(format!("{setting} is {limit:?}; it must be between 1 ms and 1 minute"));
            }
        }
        if !(1..=10_000).contains(&self.pool_size) {
            return refuse(format!("pool_size is {}; it must be between 1 and 10,000", self.pool_size));
        }
        if let Some(age) = self.max_connection_age
            && !(Duration::from_millis(100)..=Duration::from_secs(366 * 86_400)).contains(&age)
        {
            return refuse(format!("max_connection_age is {age:?}; it must be between 100 ms and a year"));
        }
        let Self { connect_timeout, io_timeout, max_connection_age, .. } = *self;
        let (route, url) = self.route()?;
        if self.credentials.is_some() && url.login.password().is_some() {
            return refuse("the URL has a password, and credentials are set: leave one of them out".into());
        }
        if self.tls.is_some() && !url.tls && !matches!(&route, Route::Sentinel(sentinels) if sentinels.speak_tls()) {
            return refuse("TLS is set, and the URL is one without; write rediss://".into());
        }
        Ok(Connector {
            route,
            dialer: self.dialer(&url)?,
            logins: Logins { from_url: url.login, credentials: self.credentials.clone() },
            connect_timeout,
            io_timeout,
            max_connection_age,
        })
    }

    /// Returns the way to the servers, and the URL of one of them.
    fn route(&self) -> Result<(Route, Url), StoreError> {
        match &self.urls {
            Urls::One(url) => {
                let url = parse(url)?;
                Ok((Route::Direct(url.address.clone()), url))
            }
            Urls::Sentinel { primary, sentinels } => {
                let (url, (sentinel, addresses)) = (parse(primary)?, parse_all(sentinels)?);
                let Address::Tcp { host: name, .. } = &url.address else { return Err(malformed()) };
                let dialer = Dialer { resp3: false, database: 0, ..self.dialer(&sentinel)? };
                let sentinels = Sentinels::new(name.clone(), addresses, dialer, sentinel.login, self.connect_timeout);
                Ok((Route::Sentinel(Box::new(sentinels)), url))
            }
            Urls::Cluster(seeds) => {
                let (url, addresses) = parse_all(seeds)?;
                if url.database != 0 {
                    let message = "a Redis Cluster has no database but 0; leave it out of the URL";
                    return Err(StoreError::new(StoreErrorKind::Malformed, message));
                }
                Ok((Route::Cluster(Cluster::new(addresses)), url))
            }
        }
    }

    fn dialer(&self, url: &Url) -> Result<Dialer, StoreError> {
        let tls = if url.tls { Some(TlsClient::new(self.tls.clone().unwrap_or_default())?) } else { None };
        Ok(Dialer { lookups: Lookups::new(self.threadless), tls, resp3: url.resp3, database: url.database })
    }
}

fn parse(url: &str) -> Result<Url, StoreError> {
    let url = Url::parse(url).ok_or_else(malformed)?;
    match url.insecure {
        true => {
            let message = "certificates are always checked; leave the # of the URL out";
            Err(StoreError::new(StoreErrorKind::Malformed, message))
        }
        false => Ok(url),
    }
}

/// Reads the URLs of servers that differ in their addresses alone; returns the first with the addresses of all.
fn parse_all(urls: &[String]) -> Result<(Url, Vec<Address>), StoreError> {
    let refuse = |message: &str| Err(StoreError::new(StoreErrorKind::Malformed, message));
    let mut all = urls.iter().map(|url| parse(url)).collect::<Result<Vec<_>, _>>()?;
    let addresses = all.iter().map(|url| url.address.clone()).collect();
    let kind = |url: &Url| (url.login.clone(), url.tls, url.resp3, url.database);
    match all.iter().any(|url| kind(url) != kind(&all[0])) {
        _ if all.is_empty() => refuse("no URL of a server; name at least one"),
        true => refuse("the URLs of the servers must agree in all but host and port"),
        false => Ok((all.swap_remove(0), addresses)),
    }
}

/// The parser's own message could quote the password.
fn malformed() -> StoreError {
    let message = "malformed Redis URL; write redis://[user:password@]host[:port][/database], rediss:// for TLS, \
        unix:///path[?db=database&user=user&pass=password], \
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
            .field("asks_for_credentials", &self.credentials.is_some())
            .field("max_connection_age", &self.max_connection_age)
            .field("durability", &self.durability)
            .finish_non_exhaustive()
    }
}
