//! PoolManager for connections. Who uses a place first makes its connection, so the pool itself never talks to Redis.

use super::connect::Connector;
use super::connection::Connection;
use crate::locks::Mutex;
use crate::store::{StoreError, StoreErrorKind};
use crate::threads;
use r2d2::ManageConnection;
use scheduled_thread_pool::{OnPoolDropBehavior, ScheduledThreadPool};
use std::convert::Infallible;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::time::Duration;

/// How long a connection may stay unused.
const IDLE: Duration = Duration::from_secs(60);

pub enum Pool {
    /// As many as it has; a thread of the pool's adds them and ends idle ones.
    Pooled(r2d2::Pool<PoolManager>),
    /// As many as are wanted: where no thread is wanted or left, and in a forked child, where r2d2 would park threads in a
    /// table that the parent's threads still stand in.
    FreeList { connector: Arc<Connector>, size: usize, free: Mutex<Vec<Connection>> },
}

/// Makes connections that connect when they are used.
pub struct PoolManager(Arc<Connector>);

impl ManageConnection for PoolManager {
    type Connection = Connection;
    type Error = Infallible;

    fn connect(&self) -> Result<Connection, Infallible> {
        Ok(Connection::new(self.0.clone()))
    }

    fn is_valid(&self, _: &mut Connection) -> Result<(), Infallible> {
        Ok(()) // Never asked: a PING on each check-out would double the round trips.
    }

    fn has_broken(&self, _: &mut Connection) -> bool {
        false // A connection connects anew by itself; giving its place up would wake nobody who waits for one.
    }
}

impl Pool {
    pub fn new(connector: Arc<Connector>, size: u32, timeout: Duration) -> Pool {
        // One worker thread instead of r2d2's three, ended with the pool instead of half a minute later.
        let workers = ScheduledThreadPool::builder()
            .num_threads(1)
            .thread_name_pattern("tkm-pool-{}")
            .on_drop_behavior(OnPoolDropBehavior::DiscardPendingScheduled);
        // It panics where the system has no thread left.
        let Ok(workers) = catch_unwind(|| threads::without_signals(|| workers.build())) else {
            return Pool::free_list(connector, size);
        };
        let connections = r2d2::Pool::builder()
            .max_size(size)
            .min_idle(Some(0))
            .idle_timeout(Some(IDLE))
            .test_on_check_out(false)
            .connection_timeout(timeout)
            .thread_pool(Arc::new(workers))
            .build_unchecked(PoolManager(connector));
        Pool::Pooled(connections)
    }

    /// Makes a pool without a thread of its own, which keeps so many connections.
    pub fn free_list(connector: Arc<Connector>, size: u32) -> Pool {
        Pool::FreeList { connector, size: size as usize, free: Mutex::default() }
    }

    /// Uses a connection from stock or a new one. Where all are in use it waits in line for the pool's timeout, or twice as
    /// long to go first: whoever is before it in the line has been served by then, or is gone.
    pub fn with<T>(&self, goes_first: bool, exchange: impl FnOnce(&mut Connection) -> T) -> Result<T, StoreError> {
        match self {
            Pool::Pooled(connections) => {
                match connections.get_timeout(connections.connection_timeout() * if goes_first { 2 } else { 1 }) {
                    Ok(mut connection) => Ok(exchange(&mut connection)),
                    Err(_) => {
                        let message = "all connections to Redis are in use; if that is no rare peak, raise pool_size";
                        Err(StoreError::new(StoreErrorKind::Exhausted, message))
                    }
                }
            }
            Pool::FreeList { connector, size, free } => {
                let idle = free.lock().pop();
                let mut connection = idle.unwrap_or_else(|| Connection::new(connector.clone()));
                let answer = exchange(&mut connection);
                let mut free = free.lock();
                if free.len() < *size {
                    free.push(connection);
                }
                Ok(answer)
            }
        }
    }
}
