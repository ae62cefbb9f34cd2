//! Connections with a limit on every wait. One that saw any trouble is broken for good: its late reply could otherwise
//! be taken for the answer to another command.

use crate::locks::Mutex;
use crate::store::{StoreError, StoreErrorKind};
use crate::threads;
use r2d2::{HandleError, ManageConnection, NopErrorHandler};
use redis::{Client, Connection, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};
use scheduled_thread_pool::{OnPoolDropBehavior, ScheduledThreadPool};
use std::panic::catch_unwind;
use std::sync::Arc;
use std::time::Duration;

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
        self.query(redis::cmd(verb).arg(script).arg(keys.len()).arg(keys).arg(args))
    }

    /// Returns whether the key is there.
    pub fn exists(&mut self, key: &str) -> RedisResult<bool> {
        self.query(redis::cmd("EXISTS").arg(key)).map(|answer| answer == Value::Int(1))
    }

    fn query(&mut self, command: &redis::Cmd) -> RedisResult<Value> {
        let answer = command.query(&mut self.connection);
        self.broken |= answer.as_ref().is_err_and(|error| breaks(code(error)));
        answer
    }

    /// Returns whether anything but an orderly answer came: a wait that timed out, a cut line, a reply not of the
    /// protocol; or the answer of a server that is not, or no longer, the primary.
    pub fn broken(&self) -> bool {
        self.broken
    }
}

/// Connections in stock.
pub enum Pool {
    /// A thread of the pool makes the connections.
    Pooled { links: r2d2::Pool<Stock>, refusal: Refusal },
    /// Whoever needs a connection makes it: where no thread is wanted or left, and in a forked child, where r2d2 would park
    /// threads in a table that the parent's threads still stand in.
    Listed { connector: Box<Connector>, size: usize, spare: Mutex<Vec<Link>> },
}

/// Why the last connection could not be made: r2d2 itself passes on no more than a text.
type Refusal = Arc<Mutex<Option<(StoreErrorKind, String)>>>;

/// Makes the connections of a pool.
pub struct Stock {
    connector: Connector,
    refusal: Refusal,
}

impl ManageConnection for Stock {
    type Connection = Link;
    type Error = StoreError;

    fn connect(&self) -> Result<Link, StoreError> {
        let link = self.connector.open().map_err(failure);
        *self.refusal.lock() = link.as_ref().err().map(|error| (error.kind(), error.to_string()));
        link
    }

    fn is_valid(&self, _: &mut Link) -> Result<(), StoreError> {
        Ok(()) // Never asked: a PING on each check-out would double the round trips.
    }

    fn has_broken(&self, link: &mut Link) -> bool {
        link.broken()
    }
}

impl Pool {
    /// Makes a pool that opens no connection before one is needed, so that a program starts while Redis is down.
    pub fn new(connector: Connector, size: u32, timeout: Duration) -> Pool {
        // One worker thread instead of r2d2's three, ended with the pool instead of half a minute later.
        let workers = ScheduledThreadPool::builder()
            .num_threads(1)
            .thread_name_pattern("tkm-pool-{}")
            .on_drop_behavior(OnPoolDropBehavior::DiscardPendingScheduled);
        // It panics where the system has no thread left.
        let Ok(workers) = catch_unwind(|| threads::without_signals(|| workers.build())) else {
            return Pool::listed(connector, size);
        };
        let refusal = Refusal::default();
        let links = r2d2::Pool::builder()
            .max_size(size)
            .min_idle(Some(0))
            .test_on_check_out(false)
            .connection_timeout(timeout)
            .error_handler(Box::new(NopErrorHandler) as Box<dyn HandleError<StoreError>>)
            .thread_pool(Arc::new(workers))
            .build_unchecked(Stock { connector, refusal: refusal.clone() });
        Pool::Pooled { links, refusal }
    }

    /// Makes a pool without a thread of its own, which keeps so many connections.
    pub fn listed(connector: Connector, size: u32) -> Pool {
        Pool::Listed { connector: Box::new(connector), size: size as usize, spare: Mutex::default() }
    }

    /// Uses a connection from stock or a new one.
    pub fn with<T>(&self, exchange: impl FnOnce(&mut Link) -> T) -> Result<T, StoreError> {
        match self {
            Pool::Pooled { links, refusal } => match links.get() {
                Ok(mut link) => Ok(exchange(&mut link)),
                Err(error) => Err(refused(refusal.lock().clone(), error)),
            },
            Pool::Listed { connector, size, spare } => {
                let idle = spare.lock().pop();
                let mut link = idle.map_or_else(|| connector.open().map_err(failure), Ok)?;
                let answer = exchange(&mut link);
                let mut spare = spare.lock();
                if !link.broken() && spare.len() < *size {
                    spare.push(link);
                }
                Ok(answer)
            }
        }
    }
}

/// Says why no connection could be had.
fn refused(refusal: Option<(StoreErrorKind, String)>, error: r2d2::Error) -> StoreError {
    match refusal {
        Some((kind, message)) if kind != StoreErrorKind::Unreachable => StoreError::new(kind, message),
        _ => {
            let message = "no connection to Redis could be had in time";
            StoreError::new(StoreErrorKind::Unreachable, message).because(error)
        }
    }
}

/// Returns the code that an error begins with, or ought to: what stops a script in its course is `ERR` to some versions
/// of Redis, and so is a request of more than ten words from somebody who has not logged in.
fn code(error: &RedisError) -> Option<&str> {
    const TELLING: [(&str, &str); 8] = [
        ("unauthenticated", "NOAUTH"),
        ("can't run this command", "NOPERM"),
        ("can't access", "NOPERM"),
        ("READONLY", "READONLY"),
        ("OOM command", "OOM"),
        ("MISCONF", "MISCONF"),
        ("WRONGTYPE", "WRONGTYPE"),
        ("MASTERDOWN", "MASTERDOWN"),
    ];
    match (error.code(), error.detail()) {
        (Some("ERR"), Some(text)) => {
            let telling = TELLING.into_iter().find(|(part, _)| text.contains(part));
            Some(telling.map_or("ERR", |(_, code)| code))
        }
        (code, _) => code,
    }
}

/// Returns whether a connection that gave this answer is to be given up. One to a primary that has become a replica
/// would stay open, and useless, for ever.
fn breaks(code: Option<&str>) -> bool {
    matches!(code, None | Some("READONLY" | "MASTERDOWN" | "NOAUTH"))
}

/// Says what is wrong, in words of our own: Redis's text may quote a command's arguments, and so a secret.
pub fn failure(error: RedisError) -> StoreError {
    let code = code(&error).unwrap_or_default().to_owned();
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
        "MASTERDOWN" => (StoreErrorKind::NotWritable, "this Redis is a replica that has lost its primary"),
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
