//! Connections of a pool that the program has anyway: they have the program's limits, and tell of no changes.

use super::connections::Connections;
use super::failure::{breaks, failure};
use super::script::Script;
use crate::store::{Feed, StoreError, StoreErrorKind, Subscription, Topic};
use r2d2::ManageConnection;
use redis::{Cmd, ConnectionLike, RedisResult, Value, cmd};
use std::process;
use std::sync::OnceLock;
use std::time::Duration;

/// How long a free connection is waited for; twice as long by an updater, whose lease is running out.
const POOL_TIMEOUT: Duration = Duration::from_millis(500);

/// A pool of the program's.
pub struct Lent {
    pool: Box<dyn AnyPool>,
    pid: u32,
    database: OnceLock<i64>,
}

/// A pool, whatever makes its connections.
trait AnyPool: Send + Sync {
    /// Uses a free connection.
    fn with(&self, limit: Duration, exchange: &mut dyn FnMut(&mut dyn ConnectionLike)) -> Result<(), StoreError>;
}

impl<M> AnyPool for r2d2::Pool<M>
where
    M: ManageConnection,
    M::Connection: ConnectionLike,
{
    fn with(&self, limit: Duration, exchange: &mut dyn FnMut(&mut dyn ConnectionLike)) -> Result<(), StoreError> {
        match self.get_timeout(limit) {
            Ok(mut connection) => {
                exchange(&mut *connection);
                Ok(())
            }
            Err(_) if self.state().connections >= self.max_size() => {
                let message =
                    "all connections of the program's pool are in use; if that is no rare peak, make it larger";
                Err(StoreError::new(StoreErrorKind::Exhausted, message))
            }
            Err(_) => {
                let message = "the program's pool has no connection to Redis, and made none in time";
                Err(StoreError::new(StoreErrorKind::Unreachable, message))
            }
        }
    }
}

impl Lent {
    pub fn new<M>(pool: r2d2::Pool<M>) -> Lent
    where
        M: ManageConnection,
        M::Connection: ConnectionLike,
    {
        Lent { pool: Box::new(pool), pid: process::id(), database: OnceLock::new() }
    }

    fn with<T>(
        &self,
        goes_first: bool,
        mut exchange: impl FnMut(&mut dyn ConnectionLike) -> T,
    ) -> Result<T, StoreError> {
        if process::id() != self.pid {
            // Its connections are the parent's, and so are the threads that would make others.
            let message = "a forked child cannot use the pool of its parent; make a pool and a store in the child";
            return Err(StoreError::new(StoreErrorKind::Other, message));
        }
        let mut answer = None;
        let limit = POOL_TIMEOUT * if goes_first { 2 } else { 1 };
        self.pool.with(limit, &mut |connection| answer = Some(exchange(connection)))?;
        answer.ok_or_else(|| StoreError::new(StoreErrorKind::Other, "the pool did not use its connection"))
    }
}

fn silent() -> StoreError {
    StoreError::new(StoreErrorKind::Other, "a pool of the program's tells of no changes")
}

impl Connections for Lent {
    /// Runs it once more, on another connection, if the first broke: a verb answers the same to a repetition.
    fn run(&self, goes_first: bool, script: &Script, keys: &[&str], args: &[&[u8]]) -> Result<Value, StoreError> {
        let evaluate = |connection: &mut dyn ConnectionLike| -> RedisResult<Value> {
            script.evaluate(keys, args, |command: &Cmd| connection.req_command(command)?.extract_error())
        };
        let answer = match self.with(goes_first, evaluate)? {
            Err(error) if breaks(&error) => self.with(goes_first, evaluate)?,
            answer => answer,
        };
        answer.map_err(failure)
    }

    fn exists(&self, key: &str) -> Result<bool, StoreError> {
        let answer = self.with(false, |connection| connection.req_command(cmd("EXISTS").arg(key)))?;
        Ok(answer.and_then(Value::extract_error).map_err(failure)? == Value::Int(1))
    }

    fn subscribe(&self, _: String) -> Result<Box<dyn Subscription>, StoreError> {
        Err(silent())
    }

    fn has_feed(&self) -> bool {
        false
    }

    fn feed(&self, _: Box<dyn Fn(&Topic) -> String + Send>) -> Result<Box<dyn Feed>, StoreError> {
        Err(silent())
    }

    fn is_one_server(&self) -> bool {
        false // its connections may be to a cluster
    }

    fn database(&self) -> Result<i64, StoreError> {
        match self.database.get() {
            Some(database) => Ok(*database),
            None => self.with(false, |connection| *self.database.get_or_init(|| connection.get_db())),
        }
    }

    fn place(&self) -> String {
        "redis, by a pool of the program's".into()
    }

    fn timeout(&self) -> Duration {
        POOL_TIMEOUT
    }
}
