//! How many servers must have a commit before it counts as taken: Redis itself answers as soon as one has it in memory.

use crate::store::{StoreError, StoreErrorKind};
use redis::{Cmd, Value, cmd};
use std::time::Duration;

/// What a commit waits for.
#[derive(Clone, Copy, Debug)]
pub struct Durability {
    pub replicas: u32,
    /// Whether it must be on the disks of all of them, and on the primary's own.
    pub synced: bool,
    pub limit: Duration,
}

impl Durability {
    /// The command that waits until the connection's last write is there: WAIT, or WAITAOF of Redis 7.2.
    pub fn command(&self) -> Cmd {
        let (replicas, limit) = (self.replicas, self.limit.as_millis().max(1) as u64);
        if self.synced {
            cmd("WAITAOF").arg(1).arg(replicas).arg(limit).take()
        } else {
            cmd("WAIT").arg(replicas).arg(limit).take()
        }
    }

    /// Reads how many have it.
    pub fn check(&self, answer: &Value) -> Result<(), StoreError> {
        let at_least = |value: &Value, least: u32| matches!(value, Value::Int(count) if *count >= i64::from(least));
        let is_there = match answer {
            Value::Array(counts) if self.synced => {
                counts.len() == 2 && at_least(&counts[0], 1) && at_least(&counts[1], self.replicas)
            }
            count => at_least(count, self.replicas),
        };
        if is_there {
            return Ok(());
        }
        let Durability { replicas, limit, .. } = self;
        let place = if self.synced { "on its disk and those of" } else { "by" };
        let message = format!("the commit was not taken {place} {replicas} replicas within {limit:?}; it is repeated");
        // Of no other kind: the primary is there, and has it.
        Err(StoreError::new(StoreErrorKind::Other, message))
    }
}
