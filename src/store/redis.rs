//! The store of a fleet: each verb is one Lua script, atomic in Redis. This file and its folder alone name `redis`.

use super::{
    Claim, Claimed, Committed, Cooling, Grant, Inspection, Lease, Listener, Store, StoreError, StoreErrorKind,
    TokenName,
};
use crate::error::FailureClass;
use crate::fork::PerProcess;
use crate::policy::LONGEST_PAUSE;
use ::redis::{Client, Value};
use connection::{Connector, Script, failure};
use listener::RedisListener;
use reply::Reply;
use std::sync::Arc;
use std::time::Duration;

mod connection;
mod listener;
mod reply;

/// The numbers of a Redis store. Made by [`RedisStore::options`].
#[derive(Clone, Debug)]
pub struct RedisOptions {
    url: String,
    connect_timeout: Duration,
    io_timeout: Duration,
    pool_timeout: Duration,
    pool_size: u32,
}

impl RedisOptions {
    /// Limits the making of a connection, name lookup excepted. Defaults to 300 ms.
    pub fn connect_timeout(mut self, limit: Duration) -> RedisOptions {
        self.connect_timeout = limit;
        self
    }

    /// Limits each wait for Redis to take a command and to answer it. Defaults to 500 ms.
    pub fn io_timeout(mut self, limit: Duration) -> RedisOptions {
        self.io_timeout = limit;
        self
    }

    /// Limits the wait for a pooled connection. Defaults to 500 ms.
    pub fn pool_timeout(mut self, limit: Duration) -> RedisOptions {
        self.pool_timeout = limit;
        self
    }

    /// Limits the number of pooled connections; waiting threads hold none. Defaults to 4.
    pub fn pool_size(mut self, size: u32) -> RedisOptions {
        self.pool_size = size;
        self
    }

    /// Makes the store; never talks to Redis.
    ///
    /// # Errors
    /// [`StoreErrorKind::Malformed`] if the URL cannot be read, a limit is not between 1 ms and 1 minute, or the pool
    /// has no place.
    pub fn open(self) -> Result<RedisStore, StoreError> {
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
        let Ok(client) = Client::open(self.url.as_str()) else {
            // The parser's own message could quote the password.
            return refuse("malformed Redis URL; write redis://[user:password@]host[:port][/database]".into());
        };
        let connector = Connector { client, connect_timeout: self.connect_timeout, io_timeout: self.io_timeout };
        let links = Links { connector, pool_size: self.pool_size, pool_timeout: self.pool_timeout };
        let pool = PerProcess::new(links.pool());
        Ok(RedisStore(Arc::new(Shared { scripts: Scripts::new(), links, pool })))
    }
}

/// Keeps tokens in Redis 5 or newer, or in Valkey. Clones share the connections; a forked child makes its own.
#[derive(Clone)]
pub struct RedisStore(Arc<Shared>);

struct Shared {
    scripts: Scripts,
    links: Links,
    pool: PerProcess<connection::Pool>,
}

struct Links {
    connector: Connector,
    pool_size: u32,
    pool_timeout: Duration,
}

impl Links {
    fn pool(&self) -> connection::Pool {
        connection::Pool::new(self.connector.clone(), self.pool_size, self.pool_timeout)
    }

    fn forked(&self) -> connection::Pool {
        connection::Pool::forked(self.connector.clone(), self.pool_size)
    }
}

/// One script a verb. Made with the store, not at first use: a fork must not meet them half made.
struct Scripts {
    claim: Script,
    renew: Script,
    commit: Script,
    fail: Script,
    invalidate: Script,
    inspect: Script,
}

impl Scripts {
    fn new() -> Scripts {
        Scripts {
            claim: Script::new(include_str!("lua/claim.lua")),
            renew: Script::new(include_str!("lua/renew.lua")),
            commit: Script::new(include_str!("lua/commit.lua")),
            fail: Script::new(include_str!("lua/fail.lua")),
            invalidate: Script::new(include_str!("lua/invalidate.lua")),
            inspect: Script::new(include_str!("lua/inspect.lua")),
        }
    }
}

impl RedisStore {
    /// Makes a store with the default numbers for a URL `redis://[user:password@]host[:port][/database]`; never talks
    /// to Redis.
    ///
    /// # Errors
    /// [`StoreErrorKind::Malformed`] if the URL cannot be read.
    pub fn open(url: &str) -> Result<RedisStore, StoreError> {
        RedisStore::options(url).open()
    }

    /// Returns the default numbers for a URL, to be changed and then [opened](RedisOptions::open).
    pub fn options(url: &str) -> RedisOptions {
        RedisOptions {
            url: url.to_owned(),
            connect_timeout: Duration::from_millis(300),
            io_timeout: Duration::from_millis(500),
            pool_timeout: Duration::from_millis(500),
            pool_size: 4,
        }
    }

    /// Runs a script on a pooled connection, and once more on a fresh one if the first broke: a verb answers the same
    /// to a repetition, so a lost reply does no harm.
    fn run(&self, script: &Script, keys: &[&str], args: &[&[u8]]) -> Result<Reply, StoreError> {
        let Shared { links, pool, .. } = &*self.0;
        let exchange = |link: &mut connection::Link| (link.run(script, keys, args), link.broken());
        let value = match pool.get(|| links.forked()).with(exchange)? {
            (Err(error), true) => {
                log::debug!(target: "token_manager::redis", "a connection broke, trying a fresh one: {}", failure(error));
                links.connector.open().and_then(|mut fresh| fresh.run(script, keys, args))
            }
            (answer, _) => answer,
        };
        value.map(Reply).map_err(failure)
    }
}

/// The keys of a token, as text: `namespace:{group}:name:part`.
fn key(name: &TokenName, part: &str) -> String {
    format!("{name}:{part}")
}

fn budget_key(name: &TokenName, egress: &str) -> String {
    format!("{}:{{{}}}:budget:{egress}", name.namespace, name.group)
}

fn millis(span: Duration) -> String {
    span.as_millis().max(1).to_string()
}

impl Store for RedisStore {
    fn claim(&self, name: &TokenName, claim: &Claim<'_>) -> Result<Claimed, StoreError> {
        let [token, updater, meta, carry] = ["token", "updater", "meta", "carry"].map(|part| key(name, part));
        let budget = budget_key(name, claim.egress);
        let (emission, burst) =
            claim.budget.map_or((1_000_000, 0), |budget| (budget.emission_micros(), budget.burst_size()));
        let args = [
            claim.attempt.to_string(),
            claim.newer_than.to_string(),
            millis(claim.lease),
            emission.to_string(),
            burst.to_string(),
        ];
        let [attempt, newer_than, lease, emission, burst] = args.each_ref().map(|arg| arg.as_bytes());
        self.run(
            &self.0.scripts.claim,
            &[&token, &updater, &meta, &carry, &budget],
            &[claim.owner.as_bytes(), attempt, newer_than, lease, emission, burst],
        )?
        .claimed()
    }

    fn renew(&self, name: &TokenName, lease: &Lease, length: Duration) -> Result<bool, StoreError> {
        let (attempt, generation, length) = (lease.attempt.to_string(), lease.generation.to_string(), millis(length));
        let args = [lease.owner.as_bytes(), attempt.as_bytes(), generation.as_bytes(), length.as_bytes()];
        self.run(&self.0.scripts.renew, &[&key(name, "updater")], &args)?.flag()
    }

    fn commit(&self, name: &TokenName, lease: &Lease, grant: &Grant) -> Result<Committed, StoreError> {
        let [token, updater, meta, carry] = ["token", "updater", "meta", "carry"].map(|part| key(name, part));
        let channel = key(name, "events");
        let (attempt, generation) = (lease.attempt.to_string(), lease.generation.to_string());
        let (left, life) = (millis(grant.left), millis(grant.life));
        let age = grant.age.map_or("-1".into(), |age| age.as_millis().to_string());
        let carry_lifetime = grant.carry_lifetime.map(millis);
        let mut args = vec![
            channel.as_bytes(),
            lease.owner.as_bytes(),
            attempt.as_bytes(),
            generation.as_bytes(),
            grant.value.reveal().as_bytes(),
            left.as_bytes(),
            life.as_bytes(),
            age.as_bytes(),
        ];
        if let Some(secret) = &grant.carry {
            args.push(secret.reveal().as_bytes());
            args.extend(carry_lifetime.as_ref().map(|lifetime| lifetime.as_bytes()));
        }
        self.run(&self.0.scripts.commit, &[&token, &updater, &meta, &carry], &args)?.committed()
    }

    fn fail(
        &self,
        name: &TokenName,
        lease: &Lease,
        class: FailureClass,
        retry_after: Option<Duration>,
    ) -> Result<Option<Cooling>, StoreError> {
        let (attempt, generation) = (lease.attempt.to_string(), lease.generation.to_string());
        let pause = retry_after.map_or("-1".into(), |pause| millis(pause.min(LONGEST_PAUSE)));
        let channel = key(name, "events");
        let args = [
            channel.as_bytes(),
            lease.owner.as_bytes(),
            attempt.as_bytes(),
            generation.as_bytes(),
            class.as_str().as_bytes(),
            pause.as_bytes(),
        ];
        self.run(&self.0.scripts.fail, &[&key(name, "updater"), &key(name, "meta")], &args)?.cooling()
    }

    fn invalidate(&self, name: &TokenName, generation: u64) -> Result<(), StoreError> {
        let (channel, generation) = (key(name, "events"), generation.to_string());
        let keys = [key(name, "token"), key(name, "meta")];
        self.run(&self.0.scripts.invalidate, &[&keys[0], &keys[1]], &[channel.as_bytes(), generation.as_bytes()])?;
        Ok(())
    }

    fn inspect(&self, name: &TokenName, egress: &str) -> Result<Inspection, StoreError> {
        let [token, updater, meta, carry] = ["token", "updater", "meta", "carry"].map(|part| key(name, part));
        let budget = budget_key(name, egress);
        self.run(&self.0.scripts.inspect, &[&token, &updater, &meta, &carry, &budget], &[])?.inspection()
    }

    fn listen(&self, name: &TokenName) -> Result<Box<dyn Listener>, StoreError> {
        let connection = self.0.links.connector.open().map_err(failure)?;
        Ok(Box::new(RedisListener::subscribe(connection, &key(name, "events"), self.timeout()).map_err(failure)?))
    }

    fn busy(&self, name: &TokenName) -> Result<bool, StoreError> {
        let Shared { links, pool, .. } = &*self.0;
        let updater = key(name, "updater");
        pool.get(|| links.forked()).with(|link| link.exists(&updater))?.map_err(failure)
    }

    fn timeout(&self) -> Duration {
        self.0.links.connector.io_timeout.max(self.0.links.connector.connect_timeout)
    }
}

/// Returns a reply that Redis cannot have sent to one of the scripts as an error.
fn malformed(value: &Value) -> StoreError {
    // The value itself could hold a secret: only its form is told.
    let form = match value {
        Value::Nil => "nothing",
        Value::Int(_) => "a number",
        Value::BulkString(_) | Value::SimpleString(_) => "a text",
        Value::Array(_) => "a list of another form",
        _ => "something else",
    };
    StoreError::new(StoreErrorKind::Malformed, format!("the store answered {form} where a script's reply was expected"))
}
