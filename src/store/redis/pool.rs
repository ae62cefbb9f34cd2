//! Places for connections. Who uses a place first makes its connection, so the pool itself never talks to Redis.

use super::connection::{Connector, Link};
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
    Pooled(r2d2::Pool<Places>),
    /// As many as are wanted: where no thread is wanted or left, and in a forked child, where r2d2 would park threads in a
    /// table that the parent's threads still stand in.
    Listed { connector: Arc<Connector>, size: usize, spare: Mutex<Vec<Link>> },
}

/// Makes the places of a pool.
pub struct Places(Arc<Connector>);

impl ManageConnection for Places {
    type Connection = Link;
    type Error = Infallible;

    fn connect(&self) -> Result<Link, Infallible> {
        Ok(Link::new(self.0.clone()))
    }

    fn is_valid(&self, _: &mut Link) -> Result<(), Infallible> {
        Ok(()) // Never asked: a PING on each check-out would double the round trips.
    }

    fn has_broken(&self, _: &mut Link) -> bool {
        false // A link connects anew by itself; giving its place up would wake nobody who waits for one.
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
            return Pool::listed(connector, size);
        };
        let links = r2d2::Pool::builder()
            .max_size(size)
            .min_idle(Some(0))
            .idle_timeout(Some(IDLE))
            .test_on_check_out(false)
            .connection_timeout(timeout)
            .thread_pool(Arc::new(workers))
            .build_unchecked(Places(connector));
        Pool::Pooled(links)
    }

    /// Makes a pool without a thread of its own, which keeps so many connections.
    pub fn listed(connector: Arc<Connector>, size: u32) -> Pool {
        Pool::Listed { connector, size: size as usize, spare: Mutex::default() }
    }

    /// Uses a connection from stock or a new one. Where all are in use it waits in line for the pool's timeout, or twice as
    /// long to go first: whoever is before it in the line has been served by then, or is gone.
    pub fn with<T>(&self, goes_first: bool, exchange: impl FnOnce(&mut Link) -> T) -> Result<T, StoreError> {
        match self {
            Pool::Pooled(links) => match links.get_timeout(links.connection_timeout() * if goes_first { 2 } else { 1 })
            {
                Ok(mut link) => Ok(exchange(&mut link)),
                Err(_) => {
                    let message = "all connections to Redis are in use; if that is no rare peak, raise pool_size";
                    Err(StoreError::new(StoreErrorKind::Exhausted, message))
                }
            },
            Pool::Listed { connector, size, spare } => {
                let idle = spare.lock().pop();
                let mut link = idle.unwrap_or_else(|| Link::new(connector.clone()));
                let answer = exchange(&mut link);
                let mut spare = spare.lock();
                if spare.len() < *size {
                    spare.push(link);
                }
                Ok(answer)
            }
        }
    }
}
