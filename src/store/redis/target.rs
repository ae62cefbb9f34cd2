//! A server as the route found it.

use super::address::Address;
use std::fmt;

/// A server as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub address: Address,
    /// How often the sentinels have named another primary before: no connection of an earlier term is used again.
    pub term: u64,
}

/// Writes addresses in an order of their own, so that theirs in a URL makes no difference.
pub fn list(f: &mut fmt::Formatter<'_>, addresses: &[Address]) -> fmt::Result {
    let mut sorted: Vec<String> = addresses.iter().map(Address::to_string).collect();
    sorted.sort();
    f.write_str(&sorted.join(","))
}
