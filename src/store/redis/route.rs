//! Where the server that has a key is to be found, and what became of an exchange tells of that.

use super::address::Address;
use super::cluster::Cluster;
use super::failure::{code, is_gone};
use super::sentinel::Sentinels;
use super::target::Target;
use redis::{RedisError, RedisResult};
use std::fmt;
use std::time::{Duration, Instant};

/// The way to the server that has the keys.
pub enum Route {
    /// It is always at one address.
    Direct(Address),
    /// It is the primary that the sentinels name.
    Sentinel(Box<Sentinels>),
    /// It is the node of a cluster that has the slot of the key.
    Cluster(Cluster),
}

/// Why there is no good answer.
pub enum Trouble {
    /// No connection could be made.
    NotConnected(RedisError),
    /// The connection was given up.
    Broken(RedisError),
    /// The server said no in good order.
    Refused(RedisError),
}

impl Trouble {
    pub fn error(self) -> RedisError {
        match self {
            Trouble::NotConnected(error) | Trouble::Broken(error) | Trouble::Refused(error) => error,
        }
    }
}

/// What to do after an exchange.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Its outcome stands.
    Done,
    /// Once more, where the route leads now.
    Again,
    /// The same after a moment: what is wrong takes its time.
    Later,
    /// Once there, behind ASKING.
    Ask(Address),
}

impl Route {
    /// Returns the server that has the key, as far as is known.
    pub fn target(&self, key: &str, deadline: Instant) -> RedisResult<Target> {
        match self {
            Route::Direct(address) => Ok(Target { address: address.clone(), term: 0 }),
            Route::Sentinel(sentinels) => sentinels.target(deadline),
            Route::Cluster(cluster) => Ok(Target { address: cluster.node(key), term: 0 }),
        }
    }

    /// Takes in what came of the so manieth exchange about a key, and tells what to do next.
    pub fn next<T>(&self, key: &str, target: &Target, tries: u32, outcome: &Result<T, Trouble>) -> Next {
        let once_more = if tries == 1 { Next::Again } else { Next::Done };
        match (self, outcome) {
            // An old primary answers for a while: who was not told in time asks the new one, too.
            (Route::Sentinel(sentinels), Ok(_)) if sentinels.term() != target.term => Next::Again,
            (_, Ok(_)) => Next::Done,
            (Route::Direct(_), Err(Trouble::Broken(_))) => once_more,
            (Route::Direct(_), Err(_)) => Next::Done,
            (_, Err(Trouble::Refused(error))) if code(error) == Some("LOADING") => Next::Later,
            (Route::Sentinel(sentinels), Err(Trouble::NotConnected(error) | Trouble::Broken(error)))
                if is_gone(error) =>
            {
                sentinels.suspect(target.term);
                Next::Later
            }
            (Route::Cluster(cluster), Err(Trouble::NotConnected(error) | Trouble::Broken(error))) if is_gone(error) => {
                cluster.forget(key, &target.address);
                Next::Later
            }
            (_, Err(Trouble::Broken(_))) => once_more,
            (Route::Cluster(cluster), Err(Trouble::Refused(error))) => {
                match (code(error), cluster.named(target, error)) {
                    (Some("MOVED"), Some(node)) => {
                        cluster.learn(key, node);
                        Next::Again
                    }
                    (Some("ASK"), Some(node)) => Next::Ask(node),
                    (Some("TRYAGAIN" | "CLUSTERDOWN"), _) => Next::Later,
                    _ => Next::Done,
                }
            }
            (_, Err(_)) => Next::Done,
        }
    }

    /// Returns whether the route still leads to this server, asking again where it may have changed without a sign.
    pub fn still_leads_to(&self, target: &Target, deadline: Instant) -> bool {
        match self {
            Route::Sentinel(sentinels) => sentinels.target(deadline).is_ok_and(|now| now.term == target.term),
            Route::Direct(_) | Route::Cluster(_) => true,
        }
    }

    /// Returns how long nobody has to ask whether the route still leads there, if ever.
    pub fn confirmed_for(&self) -> Option<Duration> {
        match self {
            Route::Sentinel(_) => Some(super::sentinel::CONFIRMED),
            Route::Direct(_) | Route::Cluster(_) => None,
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Route::Direct(address) => address.fmt(f),
            Route::Sentinel(sentinels) => sentinels.fmt(f),
            Route::Cluster(cluster) => cluster.fmt(f),
        }
    }
}
