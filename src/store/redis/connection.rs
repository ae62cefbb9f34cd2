//! Connections with a limit on every wait. One that saw any trouble is broken for good: its late reply could otherwise
//! be taken for the answer to another command.

use crate::store::{StoreError, StoreErrorKind};
use r2d2::{HandleError, ManageConnection, NopErrorHandler};
use redis::{Client, Connection, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};
use scheduled_thread_pool::{OnPoolDropBehavior, ScheduledThreadPool};
use std::sync::Arc;
use std::time::Duration;

pub type Pool = r2d2::Pool<Connector>;

/// Makes connections.
#[derive(Clone)]
pub struct Connector {
    pub client: Client,
    pub connect_timeout: Duration,
    pub io_timeout: Duration,
}

impl Connector {
    pub fn open(&self) -> RedisResult<Link> {
        let connection = self.client.get_connection_with_timeout(self.connect_timeout)?;
        // The client's setup clears the limits, so they are set last.
        connection.set_read_timeout(Some(self.io_timeout))?;
        connection.set_write_timeout(Some(self.io_timeout))?;
        Ok(Link { connection, broken: false })
    }
}

/// A Lua script and the digest by which Redis knows it.
pub struct Script {
    text: &'static str,
    digest: redis::Script,
}

impl Script {
    pub fn new(text: &'static str) -> Script {
        Script { text, digest: redis::Script::new(text) }
    }
}

/// One connection, and whether it can be trusted.
pub struct Link {
    pub connection: Connection,
    broken: bool,
}

impl Link {
    /// Runs a script by its digest, or by its text where Redis does not know it yet.
    pub fn run(&mut self, script: &Script, keys: &[&str], args: &[&[u8]]) -> RedisResult<Value> {
        let mut answer = self.ask("EVALSHA", script.digest.get_hash(), keys, args);
        if answer.as_ref().is_err_and(|error| error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)) {
            answer = self.ask("EVAL", script.text, keys, args);
        }
        answer
    }

    fn ask(&mut self, verb: &str, script: &str, keys: &[&str], args: &[&[u8]]) -> RedisResult<Value> {
        let answer = redis::cmd(verb).arg(script).arg(keys.len()).arg(keys).arg(args).query(&mut self.connection);
        self.broken |= answer.as_ref().is_err_and(|error: &RedisError| error.code().is_none());
        answer
    }

    /// Returns whether anything but an orderly answer came: a wait that timed out, a cut line, a reply not of the
    /// protocol.
    pub fn broken(&self) -> bool {
        self.broken
    }
}

impl ManageConnection for Connector {
    type Connection = Link;
    type Error = RedisError;

    fn connect(&self) -> RedisResult<Link> {
        self.open()
    }

    fn is_valid(&self, _: &mut Link) -> RedisResult<()> {
        Ok(()) // Never asked: a PING on each check-out would double the round trips.
    }

    fn has_broken(&self, link: &mut Link) -> bool {
        link.broken()
    }
}

/// Makes a pool that opens no connection before one is needed, so that a program starts while Redis is down.
pub fn pool(connector: Connector, size: u32, timeout: Duration) -> Pool {
    // One worker thread instead of r2d2's three, ended with the pool instead of half a minute later.
    let workers = ScheduledThreadPool::builder()
        .num_threads(1)
        .thread_name_pattern("tkm-pool-{}")
        .on_drop_behavior(OnPoolDropBehavior::DiscardPendingScheduled)
        .build();
    r2d2::Pool::builder()
        .max_size(size)
        .min_idle(Some(0))
        .test_on_check_out(false)
        .connection_timeout(timeout)
        .error_handler(Box::new(NopErrorHandler) as Box<dyn HandleError<RedisError>>)
        .thread_pool(Arc::new(workers))
        .build_unchecked(connector)
}

/// Says what is wrong when no connection could be had.
pub fn no_connection(error: r2d2::Error) -> StoreError {
    StoreError::new(StoreErrorKind::Unreachable, "no connection to Redis could be had in time").because(error)
}

/// Says what is wrong, in words of our own: Redis's text may quote a command's arguments, and so a secret.
pub fn failure(error: RedisError) -> StoreError {
    let code = error.code().unwrap_or_default().to_owned();
    let (kind, advice) = match code.as_str() {
        "" if error.kind() == ErrorKind::AuthenticationFailed => {
            (StoreErrorKind::Denied, "Redis refused the credentials; check the user and the password in the URL")
        }
        "" if error.is_io_error() => {
            let message = if error.is_timeout() { "Redis did not answer in time" } else { "Redis cannot be reached" };
            return StoreError::new(StoreErrorKind::Unreachable, message).because(error);
        }
        "" => (StoreErrorKind::Malformed, "Redis answered something that is not of its protocol"),
        "NOAUTH" | "WRONGPASS" => (StoreErrorKind::Denied, "check the user and the password in the URL"),
        "NOPERM" => {
            (StoreErrorKind::Denied, "the user needs EVAL, EVALSHA, SUBSCRIBE, the scripts' commands and the keys")
        }
        "READONLY" => (StoreErrorKind::NotWritable, "this Redis is a replica; connect to the primary"),
        "LOADING" => (StoreErrorKind::NotWritable, "Redis is still loading its data"),
        "OOM" => (StoreErrorKind::NotWritable, "Redis is at its maxmemory"),
        "MISCONF" => (StoreErrorKind::NotWritable, "Redis refuses writes because it cannot save to disk"),
        "WRONGTYPE" => {
            (StoreErrorKind::Malformed, "a key of the token holds another type; delete it or choose another namespace")
        }
        _ => (StoreErrorKind::Other, "see the Redis documentation on this error code"),
    };
    match code.as_str() {
        "" => StoreError::new(kind, advice),
        code => StoreError::new(kind, format!("Redis answered {code}: {advice}")),
    }
}
