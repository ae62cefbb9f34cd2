//! Follows the slots of a Redis Cluster: all keys of a group are in one slot, so one node has them all, and whoever asks another
//! is told which.

use super::address::Address;
use super::target::{Target, list};
use crate::fork::PerProcess;
use crate::locks::Mutex;
use redis::RedisError;
use std::collections::HashMap;
use std::fmt;

/// How many nodes are remembered beside the slots' own.
const MAX_KNOWN: usize = 100;

/// The nodes of a cluster, as far as this process has heard of them.
pub struct Cluster {
    seeds: Vec<Address>,
    known: PerProcess<Mutex<Known>>,
}

struct Known {
    /// The seeds, and behind them what other nodes have named.
    nodes: Vec<Address>,
    /// Which of them is asked next about a slot whose node is not known.
    next: usize,
    /// The node that had the keys of a group when it was last heard of.
    by_group: HashMap<String, Address>,
}

impl Cluster {
    /// Makes the map of a cluster of which at least one node is known.
    pub fn new(seeds: Vec<Address>) -> Cluster {
        let known = PerProcess::new(Mutex::new(Known::new(&seeds)));
        Cluster { seeds, known }
    }

    fn known(&self) -> &Mutex<Known> {
        self.known.get(|| Mutex::new(Known::new(&self.seeds)))
    }

    /// Returns the node that had the key when it was last heard of, or else one that knows which has it.
    pub fn node(&self, key: &str) -> Address {
        let known = self.known().lock();
        let node = known.by_group.get(group(key));
        node.unwrap_or(&known.nodes[known.next % known.nodes.len()]).clone()
    }

    /// Notes where a key is now.
    pub fn learn(&self, key: &str, node: Address) {
        let mut known = self.known().lock();
        if !known.nodes.contains(&node) && known.nodes.len() < MAX_KNOWN {
            known.nodes.push(node.clone());
        }
        known.by_group.insert(group(key).to_owned(), node);
    }

    /// Has another node be asked about the key: this one cannot be reached.
    pub fn forget(&self, key: &str, node: &Address) {
        let mut known = self.known().lock();
        if known.by_group.get(group(key)) == Some(node) {
            known.by_group.remove(group(key));
        }
        if known.nodes[known.next % known.nodes.len()] == *node {
            known.next += 1;
        }
    }

    /// Returns the node that an error names, as in `MOVED 3999 127.0.0.1:6381`.
    pub fn named(&self, by: &Target, error: &RedisError) -> Option<Address> {
        let (host, port) = error.redirect_node()?.0.rsplit_once(':')?;
        let port = port.parse().ok()?;
        match (host, &by.address) {
            // A node that does not know its own host names none: the one that it was reached by counts.
            ("" | "?", Address::Tcp { host, .. }) => Some(Address::Tcp { host: host.clone(), port }),
            ("" | "?", _) => None,
            (host, _) => Some(Address::Tcp { host: host.trim_matches(['[', ']']).to_owned(), port }),
        }
    }
}

impl Known {
    fn new(seeds: &[Address]) -> Known {
        Known { nodes: seeds.to_vec(), next: 0, by_group: HashMap::new() }
    }
}

/// Returns the part of a key that alone decides on its slot: what is in braces.
fn group(key: &str) -> &str {
    let inner = key.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
    inner.map_or(key, |(group, _)| group)
}

impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cluster ")?;
        list(f, &self.seeds)
    }
}
