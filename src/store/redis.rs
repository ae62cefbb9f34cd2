//! The store of a fleet: each verb is one Lua script, atomic in Redis. This file and its folder alone name `redis`.

use super::rules::emission_and_burst;
use super::{
    Claim, Claimed, Committed, Failure, Feed, Follow, Grant, Inspection, Lease, Pause, Presence, Store, StoreError,
    Stored, Subscription, TokenName, Topic, next_number,
};
use crate::fork::PerProcess;
use crate::policy::{FIRST_PAUSE, MAX_PAUSE};
use connections::Connections;
use own::Own;
use pool::Pool;
use reply::Reply;
use script::{Script, Scripts};
use std::sync::Arc;
use std::time::Duration;
use url::Urls;

mod address;
mod cluster;
mod connect;
mod connection;
mod connections;
mod dial;
mod durability;
mod failure;
mod feed;
#[cfg(feature = "pool")]
mod lent;
mod log;
mod login;
mod lookup;
mod options;
mod own;
mod pool;
mod reply;
mod route;
mod script;
mod sentinel;
mod socket;
mod stream;
mod subscription;
mod target;
mod tls;
#[cfg(feature = "tls")]
mod tls_client;
#[cfg(not(feature = "tls"))]
#[path = "redis/no_tls_client.rs"]
mod tls_client;
mod url;
mod waker;

pub use log::LogEntry;
pub use login::Login;
pub use options::RedisOptions;
pub use tls::Tls;

/// Keeps tokens in Redis 5 or newer, or in Valkey. Clones share the connections; a forked child makes its own.
///
/// # The user's rights
///
/// A user of an access control list needs this and no more, where `tm` is the [namespace](crate::Builder::namespace). In Redis 6.2 and
/// newer, and in Valkey:
///
/// ```text
/// ACL SETUSER fleet reset on >PASSWORD ~tm:* resetchannels &tm:* +eval +evalsha +exists +subscribe +unsubscribe +ping +time +get +set +del +pttl +pexpire +hget +hmget +hset +hdel +publish +pubsub
/// ```
///
/// In Redis 6.0, whose lists have no channels:
///
/// ```text
/// ACL SETUSER fleet reset on >PASSWORD ~tm:* +eval +evalsha +exists +subscribe +unsubscribe +ping +time +get +set +del +pttl +pexpire +hget +hmget +hset +hdel +publish +pubsub
/// ```
///
/// Without `+pubsub` a killed updater is replaced after its lease instead of within half a second.
/// Without `+unsubscribe`, which versions before this one did not need, a process hears on of tokens that it does not follow any more.
/// Add `+xadd +xrange +xrevrange` for [`append_log`](RedisStore::append_log) and `read_log`.
/// Add `+role` behind sentinels, `+select` for a database other than 0, `+wait` or `+waitaof` for [`wait_replicas`](RedisOptions::wait_replicas) or
/// [`wait_aof`](RedisOptions::wait_aof).
#[derive(Clone)]
pub struct RedisStore(Arc<Shared>);

struct Shared {
    number: u64,
    scripts: Scripts,
    connections: Box<dyn Connections>,
}

impl RedisOptions {
    /// Makes the store; never talks to Redis.
    ///
    /// # Errors
    /// [`StoreErrorKind::Malformed`](crate::store::StoreErrorKind::Malformed) if the URL cannot be read, a limit is not between 1 ms and 1 minute, or the pool
    /// has no place.
    pub fn open(self) -> Result<RedisStore, StoreError> {
        let connector = Arc::new(self.connector()?);
        let pool = if self.threadless {
            Pool::free_list(connector.clone(), self.pool_size)
        } else {
            Pool::new(connector.clone(), self.pool_size, self.pool_timeout)
        };
        Ok(RedisStore::on(Own {
            connector,
            pool_size: self.pool_size,
            durability: self.durability,
            pool: PerProcess::new(pool),
        }))
    }
}

impl RedisStore {
    /// Makes a store with the default numbers for a URL; never talks to Redis. It has one of these forms:
    /// - `redis://[user:password@]host[:port][/database]`, `rediss://` with TLS;
    /// - `unix:///path[?db=database&user=user&pass=password]`;
    /// - `redis+sentinel://[user:password@]sentinel[:port],…/primary[/database]`, see [`sentinel`](RedisStore::sentinel);
    /// - `redis+cluster://[user:password@]node[:port],…`, see [`cluster`](RedisStore::cluster).
    ///
    /// # Errors
    /// [`StoreErrorKind::Malformed`](crate::store::StoreErrorKind::Malformed) if the URL cannot be read.
    pub fn open(url: &str) -> Result<RedisStore, StoreError> {
        RedisStore::options(url).open()
    }

    /// Returns the default numbers for a URL, to be changed and then [opened](RedisOptions::open).
    pub fn options(url: &str) -> RedisOptions {
        RedisOptions::new(Urls::read(url))
    }

    /// Returns the default numbers for the primary that Redis Sentinels name. Its URL has the name that the sentinels know it by in
    /// the place of the host, as in `redis://user:password@tokens/0`; each sentinel has a URL of its own, with a login of its
    /// own if it needs one, as in `redis://:password@10.0.0.1:26379`, and with `rediss://` if it speaks TLS. The same as one URL:
    /// `redis+sentinel://user:password@10.0.0.1:26379,10.0.0.2:26379/tokens/0?sentinel_password=password`, and
    /// `rediss+sentinel://` where all speak TLS, or `sentinel_tls=false` where the sentinels do not.
    ///
    /// The store asks the sentinels when it connects, each second while it is used, and at once when the primary fails, and
    /// goes where the newest of their configurations says; no connection or subscription to an earlier primary is used on.
    pub fn sentinel(primary: &str, sentinels: &[&str]) -> RedisOptions {
        let sentinels = sentinels.iter().map(|url| url.to_string()).collect();
        RedisOptions::new(Urls::Sentinel { primary: primary.to_owned(), sentinels })
    }

    /// Returns the default numbers for a Redis Cluster of which these nodes are known, as in
    /// `["redis://10.0.0.1:6379", "redis://10.0.0.2:6379"]`. The same as one URL:
    /// `redis+cluster://user:password@10.0.0.1:6379,10.0.0.2:6379`, or `rediss+cluster://` with TLS.
    ///
    /// All keys of a [group](crate::Builder::group) are in one slot. The store follows it to the node that has it, within the
    /// limits of every call. A connection of the pool is one to each node that it has needed. Name several nodes, or a host name
    /// that leads to several.
    pub fn cluster(seeds: &[&str]) -> RedisOptions {
        RedisOptions::new(Urls::Cluster(seeds.iter().map(|url| url.to_string()).collect()))
    }

    /// Makes a store on a pool that the program has anyway; talks to Redis when it is used. Redis knows the scripts, the keys and
    /// the rights as with connections of the store's own, and a fleet may have stores of both kinds.
    ///
    /// What is lost by it, compared with a store that is [opened](RedisStore::open) by its URL:
    /// - **Events.** Who waits for another process's fetch asks Redis after 20 ms, doubling to 500 ms, and `keep_fresh` inspects
    ///   it now and then: a new token arrives later and costs more commands.
    /// - **Limits.** A free connection is waited for 500 ms, twice as long by an updater. Everything else has the limits that
    ///   the program has set on its connections; one that has none lets a flight wait for as long as Redis is silent, though callers
    ///   keep their deadlines. Set them on each (`set_read_timeout`, `set_write_timeout`) below a third of the lease.
    /// - **Signals.** A call that one interrupts fails, and is repeated once.
    /// - **Broken connections.** One that timed out stays in the pool, for the pool does not see that.
    /// - **Logins, TLS, name lookup, greatest age:** the pool's manager does as it does.
    /// - **Forks.** A forked child needs a pool and a store of its own, and is told so.
    /// - **Sharing.** All connections in use by the program are in the way of an updater, whose lease is running out.
    ///
    /// Its types are those of `r2d2` 0.8 and `redis` 1: this function, and the feature `pool`, change with them.
    #[cfg(feature = "pool")]
    pub fn from_pool<M>(pool: r2d2::Pool<M>) -> RedisStore
    where
        M: r2d2::ManageConnection,
        M::Connection: redis::ConnectionLike,
    {
        RedisStore::on(lent::Lent::new(pool))
    }

    fn on(connections: impl Connections + 'static) -> RedisStore {
        RedisStore(Arc::new(Shared {
            number: next_number(),
            scripts: Scripts::new(),
            connections: Box::new(connections),
        }))
    }

    fn run(&self, script: &Script, keys: &[&str], args: &[&[u8]]) -> Result<Reply, StoreError> {
        self.0.connections.run(false, script, keys, args).map(Reply)
    }

    /// Runs the script of an updater, whose lease is running out.
    fn run_first(&self, script: &Script, keys: &[&str], args: &[&[u8]]) -> Result<Reply, StoreError> {
        self.0.connections.run(true, script, keys, args).map(Reply)
    }

    /// The channel of the changes of a grant's tokens.
    fn channel(&self, name: &TokenName) -> Result<String, StoreError> {
        Ok(events_channel(name, self.0.connections.database()?))
    }

    /// Extends a lease, and writes into it that its updater can be seen, if that is new.
    fn extend(&self, name: &TokenName, lease: &Lease, length: Duration, present: bool) -> Result<bool, StoreError> {
        let (attempt, generation, length) = (lease.attempt.to_string(), lease.generation.to_string(), millis(length));
        let args = [&*lease.owner, &attempt, &generation, &length, "present"].map(str::as_bytes);
        let args = if present { &args[..] } else { &args[..4] };
        self.run_first(&self.0.scripts.renew, &[&grant_key(name, "updater")], args)?.flag()
    }
}

/// How many tokens one script reads: others wait for its end, a fraction of a millisecond.
const READ_AT_ONCE: usize = 64;

/// The keys of a token, as text: `namespace:{group}:name:part`.
fn key(name: &TokenName, part: &str) -> String {
    format!("{name}:{part}")
}

/// The keys that the tokens of a grant share: `namespace:{group}:grant:part`.
fn grant_key(name: &TokenName, part: &str) -> String {
    key(&name.of_grant(), part)
}

// Channels are of one database alone: Redis itself publishes to all.

/// The channel of the changes of a grant's tokens.
fn events_channel(name: &TokenName, database: i64) -> String {
    grant_key(name, &format!("events:{database}"))
}

/// The channel that an updater of the grant holds.
fn presence_channel(name: &TokenName, database: i64, owner: &str) -> String {
    grant_key(name, &format!("present:{database}:{owner}"))
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

    fn read(&self, names: &[TokenName]) -> Result<Vec<Option<Stored>>, StoreError> {
        let mut found = Vec::with_capacity(names.len());
        // A script of a Redis Cluster may touch one group's keys alone.
        let is_together = |one: &TokenName, next: &TokenName| {
            self.0.connections.is_one_server() || (&one.namespace, &one.group) == (&next.namespace, &next.group)
        };
        for names in names.chunk_by(is_together).flat_map(|together| together.chunks(READ_AT_ONCE)) {
            let keys: Vec<String> =
                names.iter().flat_map(|name| ["token", "meta"].map(|part| key(name, part))).collect();
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            found.extend(self.run(&self.0.scripts.read, &keys, &[])?.tokens(names.len())?);
        }
        Ok(found)
    }

    fn renew(&self, name: &TokenName, lease: &Lease, length: Duration) -> Result<bool, StoreError> {
        self.extend(name, lease, length, false)
    }

    fn commit(&self, name: &TokenName, lease: &Lease, grant: &Grant) -> Result<Committed, StoreError> {
        let [token, meta] = ["token", "meta"].map(|part| key(name, part));
        let [updater, carry, shared] = ["updater", "carry", "meta"].map(|part| grant_key(name, part));
        let channel = self.channel(name)?;
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
        self.0.connections.commit(&self.0.scripts.commit, &keys, &args).map(Reply)?.committed()
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
        let channel = self.channel(name)?;
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
        let (channel, generation) = (self.channel(name)?, generation.to_string());
        let keys = [key(name, "token"), key(name, "meta")];
        self.run(&self.0.scripts.invalidate, &[&keys[0], &keys[1]], &[channel.as_bytes(), generation.as_bytes()])?;
        Ok(())
    }

    fn offer(&self, name: &TokenName, token: &Stored) -> Result<bool, StoreError> {
        let keys = [key(name, "token"), key(name, "meta"), grant_key(name, "updater")];
        let channel = self.channel(name)?;
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
        self.0.connections.subscribe(self.channel(name)?)
    }

    fn show_presence(
        &self,
        name: &TokenName,
        lease: &Lease,
        length: Duration,
        follow: Option<Follow<'_>>,
    ) -> Result<Option<Box<dyn Send>>, StoreError> {
        let connections = &self.0.connections;
        if !connections.is_one_server() {
            return Ok(None);
        }
        // The kernel closes the connection of a dead process, and of no paused or unreachable one.
        let shown: Box<dyn Send> = match follow {
            Some(follow) => follow(&Topic::Presence(name.of_grant(), lease.owner.to_string()))?,
            None => Box::new(connections.subscribe(presence_channel(name, connections.database()?, &lease.owner))?),
        };
        Ok(self.extend(name, lease, length, true)?.then_some(shown))
    }

    fn presence(&self, name: &TokenName, missed: Option<&Lease>) -> Result<Presence, StoreError> {
        let (events, present) = (self.channel(name)?, presence_channel(name, self.0.connections.database()?, ""));
        let missed = missed.map(Lease::to_string).unwrap_or_default();
        let args = [&events, &present, &missed].map(|arg| arg.as_bytes());
        self.run(&self.0.scripts.presence, &[&grant_key(name, "updater")], &args)?.presence()
    }

    fn has_feed(&self) -> bool {
        self.0.connections.has_feed()
    }

    fn feed(&self) -> Result<Box<dyn Feed>, StoreError> {
        let database = self.0.connections.database()?;
        self.0.connections.feed(Box::new(move |topic| match topic {
            Topic::Changes(grant) => events_channel(grant, database),
            Topic::Presence(grant, owner) => presence_channel(grant, database, owner),
        }))
    }

    fn number(&self) -> Option<u64> {
        Some(self.0.number)
    }

    fn has_updater(&self, name: &TokenName) -> Result<bool, StoreError> {
        self.0.connections.exists(&grant_key(name, "updater"))
    }

    fn place(&self) -> String {
        self.0.connections.place()
    }

    fn timeout(&self) -> Duration {
        self.0.connections.timeout()
    }
}
