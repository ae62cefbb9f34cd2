//! The store of a fleet: each verb is one Lua script, atomic in Redis. This file and its folder alone name `redis`.

use super::rules::emission_and_burst;
use super::{
    Claim, Claimed, Committed, Failure, Feed, Grant, Inspection, Lease, Pause, Store, StoreError, Stored, Subscription,
    TokenName, next_number,
};
use crate::fork::PerProcess;
use crate::policy::{FIRST_PAUSE, MAX_PAUSE};
use connect::Connector;
use connection::Connection;
use durability::Durability;
use failure::failure;
use feed::RedisFeed;
use pool::Pool;
use reply::Reply;
use script::{Script, Scripts};
use std::sync::Arc;
use std::time::Duration;
use subscription::RedisSubscription;

mod connect;
mod connection;
mod durability;
mod failure;
mod feed;
mod options;
mod pool;
mod reply;
mod script;
mod stream;
mod subscription;

pub use options::RedisOptions;

/// Keeps tokens in Redis 5 or newer, or in Valkey. Clones share the connections; a forked child makes its own.
#[derive(Clone)]
pub struct RedisStore(Arc<Shared>);

struct Shared {
    number: u64,
    scripts: Scripts,
    connector: Arc<Connector>,
    pool_size: u32,
    durability: Option<Durability>,
    pool: PerProcess<Pool>,
}

impl Shared {
    /// Returns this process's pool.
    fn pool(&self) -> &Pool {
        self.pool.get(|| Pool::free_list(self.connector.clone(), self.pool_size))
    }
}

impl RedisOptions {
    /// Makes the store; never talks to Redis.
    ///
    /// # Errors
    /// [`StoreErrorKind::Malformed`](crate::store::StoreErrorKind::Malformed) if the URL cannot be read, a limit is not between 1 ms and 1 minute, or the pool
    /// has no place.
    pub fn open(self) -> Result<RedisStore, StoreError> {
        let info = self.check()?;
        let Self { connect_timeout, io_timeout, .. } = self;
        let connector = Arc::new(Connector { info, connect_timeout, io_timeout });
        let pool = if self.threadless {
            Pool::free_list(connector.clone(), self.pool_size)
        } else {
            Pool::new(connector.clone(), self.pool_size, self.pool_timeout)
        };
        let (scripts, pool) = (Scripts::new(), PerProcess::new(pool));
        Ok(RedisStore(Arc::new(Shared {
            number: next_number(),
            scripts,
            connector,
            pool_size: self.pool_size,
            durability: self.durability,
            pool,
        })))
    }
}

impl RedisStore {
    /// Makes a store with the default numbers for a URL `redis://[user:password@]host[:port][/database]`; never talks
    /// to Redis.
    ///
    /// # Errors
    /// [`StoreErrorKind::Malformed`](crate::store::StoreErrorKind::Malformed) if the URL cannot be read.
    pub fn open(url: &str) -> Result<RedisStore, StoreError> {
        RedisStore::options(url).open()
    }

    /// Returns the default numbers for a URL, to be changed and then [opened](RedisOptions::open).
    pub fn options(url: &str) -> RedisOptions {
        RedisOptions::new(url)
    }

    /// Runs a script on a pooled connection.
    fn run(&self, script: &Script, keys: &[&str], args: &[&[u8]]) -> Result<Reply, StoreError> {
        self.0.pool().with(false, |connection| connection.run(script, keys, args))?.map(Reply).map_err(failure)
    }

    /// Runs the script of an updater, whose lease is running out.
    fn run_first(&self, script: &Script, keys: &[&str], args: &[&[u8]]) -> Result<Reply, StoreError> {
        self.0.pool().with(true, |connection| connection.run(script, keys, args))?.map(Reply).map_err(failure)
    }

    /// The channel of a grant's tokens, which is its database's alone: Redis itself publishes to all databases.
    fn channel(&self, name: &TokenName) -> String {
        grant_key(name, &format!("events:{}", self.0.connector.info.redis_settings().db()))
    }
}

/// The keys of a token, as text: `namespace:{group}:name:part`.
fn key(name: &TokenName, part: &str) -> String {
    format!("{name}:{part}")
}

/// The keys that the tokens of a grant share: `namespace:{group}:grant:part`.
fn grant_key(name: &TokenName, part: &str) -> String {
    key(&name.of_grant(), part)
}

/// The keys of an egress, for all tokens of the group: `namespace:{group}:part:egress`.
fn egress_key(name: &TokenName, part: &str, egress: &str) -> String {
    format!("{}:{{{}}}:{part}:{egress}", name.namespace, name.group)
}

/// Everything that is kept of a token, of its egress and of its grant.
fn keys(name: &TokenName, egress: &str) -> [String; 7] {
    let [token, meta] = ["token", "meta"].map(|part| key(name, part));
    let [budget, pause] = ["budget", "pause"].map(|part| egress_key(name, part, egress));
    let [updater, carry, shared] = ["updater", "carry", "meta"].map(|part| grant_key(name, part));
    [token, meta, budget, pause, updater, carry, shared]
}

fn millis(span: Duration) -> String {
    span.as_millis().max(1).to_string()
}

impl Store for RedisStore {
    fn claim(&self, name: &TokenName, claim: &Claim<'_>) -> Result<Claimed, StoreError> {
        let keys = keys(name, claim.egress);
        let (emission, burst) = emission_and_burst(claim);
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
            &keys.each_ref().map(|key| key.as_str()),
            &[claim.owner.as_bytes(), attempt, newer_than, lease, emission, burst],
        )?
        .claimed()
    }

    fn renew(&self, name: &TokenName, lease: &Lease, length: Duration) -> Result<bool, StoreError> {
        let (attempt, generation, length) = (lease.attempt.to_string(), lease.generation.to_string(), millis(length));
        let args = [lease.owner.as_bytes(), attempt.as_bytes(), generation.as_bytes(), length.as_bytes()];
        self.run_first(&self.0.scripts.renew, &[&grant_key(name, "updater")], &args)?.flag()
    }

    fn commit(&self, name: &TokenName, lease: &Lease, grant: &Grant) -> Result<Committed, StoreError> {
        let [token, meta] = ["token", "meta"].map(|part| key(name, part));
        let [updater, carry, shared] = ["updater", "carry", "meta"].map(|part| grant_key(name, part));
        let channel = self.channel(name);
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
        let keys = [&token, &meta, &updater, &carry, &shared].map(|key| key.as_str());
        let commit = |connection: &mut Connection| {
            let reply = connection.run(&self.0.scripts.commit, &keys, &args).map_err(failure)?;
            if let Some(durability) = &self.0.durability {
                let answer = connection.wait(&durability.command(), durability.limit).map_err(failure)?;
                durability.check(&answer)?;
            }
            Ok::<_, StoreError>(Reply(reply))
        };
        self.0.pool().with(true, commit)??.committed()
    }

    fn record_failure(
        &self,
        name: &TokenName,
        lease: &Lease,
        failure: &Failure<'_>,
    ) -> Result<Option<Pause>, StoreError> {
        let [token, meta] = ["token", "meta"].map(|part| key(name, part));
        let [updater, carry, shared] = ["updater", "carry", "meta"].map(|part| grant_key(name, part));
        let told = egress_key(name, "pause", failure.egress);
        let (attempt, generation) = (lease.attempt.to_string(), lease.generation.to_string());
        let pause = failure.retry_after.map(|pause| millis(pause.clamp(FIRST_PAUSE, MAX_PAUSE)));
        let channel = self.channel(name);
        let args = [
            channel.as_bytes(),
            lease.owner.as_bytes(),
            attempt.as_bytes(),
            generation.as_bytes(),
            failure.class.as_str().as_bytes(),
            pause.as_ref().map_or(b"-1", |pause| pause.as_bytes()),
        ];
        let keys = [&token, &meta, &told, &updater, &carry, &shared].map(|key| key.as_str());
        self.run_first(&self.0.scripts.record_failure, &keys, &args)?.paused()
    }

    fn invalidate(&self, name: &TokenName, generation: u64) -> Result<(), StoreError> {
        let (channel, generation) = (self.channel(name), generation.to_string());
        let keys = [key(name, "token"), key(name, "meta")];
        self.run(&self.0.scripts.invalidate, &[&keys[0], &keys[1]], &[channel.as_bytes(), generation.as_bytes()])?;
        Ok(())
    }

    fn offer(&self, name: &TokenName, token: &Stored) -> Result<bool, StoreError> {
        let keys = [key(name, "token"), key(name, "meta"), grant_key(name, "updater")];
        let channel = self.channel(name);
        let (generation, left, life) = (token.generation.to_string(), millis(token.left), millis(token.life));
        let value = token.value.reveal();
        let args = [&channel, &generation, value, &left, &life].map(|arg| arg.as_bytes());
        self.run(&self.0.scripts.offer, &keys.each_ref().map(|key| key.as_str()), &args)?.flag()
    }

    fn lift_pause(&self, name: &TokenName, egress: &str) -> Result<(), StoreError> {
        let keys = [&*grant_key(name, "meta"), &*egress_key(name, "pause", egress)];
        self.run(&self.0.scripts.lift_pause, &keys, &[])?.flag().map(drop)
    }

    fn inspect(&self, name: &TokenName, egress: &str) -> Result<Inspection, StoreError> {
        let keys = keys(name, egress);
        self.run(&self.0.scripts.inspect, &keys.each_ref().map(|key| key.as_str()), &[])?.inspection()
    }

    fn subscribe(&self, name: &TokenName) -> Result<Box<dyn Subscription>, StoreError> {
        let Connector { connect_timeout, io_timeout, .. } = *self.0.connector;
        let stream = self.0.connector.open(connect_timeout).map_err(failure)?;
        Ok(Box::new(RedisSubscription::subscribe(stream, &self.channel(name), io_timeout).map_err(failure)?))
    }

    fn has_feed(&self) -> bool {
        true
    }

    fn feed(&self) -> Result<Box<dyn Feed>, StoreError> {
        let Connector { connect_timeout, io_timeout, .. } = *self.0.connector;
        let stream = self.0.connector.open(connect_timeout).map_err(failure)?;
        let database = self.0.connector.info.redis_settings().db();
        let channel = move |grant: &TokenName| key(grant, &format!("events:{database}"));
        Ok(Box::new(RedisFeed::new(stream, io_timeout, channel).map_err(failure)?))
    }

    fn number(&self) -> Option<u64> {
        Some(self.0.number)
    }

    fn has_updater(&self, name: &TokenName) -> Result<bool, StoreError> {
        let updater = grant_key(name, "updater");
        self.0.pool().with(false, |connection| connection.exists(&updater))?.map_err(failure)
    }

    fn place(&self) -> String {
        let info = &self.0.connector.info;
        format!("redis {}/{}", info.addr(), info.redis_settings().db())
    }

    fn timeout(&self) -> Duration {
        let waits = self.0.durability.map_or(Duration::ZERO, |durability| durability.limit);
        (self.0.connector.io_timeout + waits).max(self.0.connector.connect_timeout)
    }
}
