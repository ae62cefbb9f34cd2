//! What a store asks of its connections, whosever they are.

use super::script::Script;
use crate::store::{Feed, StoreError, Subscription, Topic};
use redis::Value;
use std::time::Duration;

/// The connections of a store.
pub trait Connections: Send + Sync {
    /// Runs a script; one that goes first waits longer for a free connection.
    fn run(&self, goes_first: bool, script: &Script, keys: &[&str], args: &[&[u8]]) -> Result<Value, StoreError>;
    /// Runs the script of a commit, which goes first and counts once as many servers have it as is asked for.
    fn commit(&self, script: &Script, keys: &[&str], args: &[&[u8]]) -> Result<Value, StoreError> {
        self.run(true, script, keys, args)
    }

    fn exists(&self, key: &str) -> Result<bool, StoreError>;
    fn subscribe(&self, channel: String) -> Result<Box<dyn Subscription>, StoreError>;
    /// Returns whether one connection tells of many channels.
    fn has_feed(&self) -> bool;
    /// Subscribes to what is wished by and by; a topic has this channel.
    fn feed(&self, channel: Box<dyn Fn(&Topic) -> String + Send>) -> Result<Box<dyn Feed>, StoreError>;
    /// Returns whether all talk to one server, whose scripts see who is subscribed and may touch the keys of any group. The nodes of a
    /// Redis Cluster each know their own subscribers alone, and have some of the groups.
    fn is_one_server(&self) -> bool;
    fn database(&self) -> Result<i64, StoreError>;
    fn place(&self) -> String;
    fn timeout(&self) -> Duration;
}
