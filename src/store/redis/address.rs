//! The place of one server.

use redis::ConnectionAddr;
use std::fmt;
use std::path::PathBuf;

/// The place of one server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp { host, port } => write!(f, "{host}:{port}"),
            Address::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Address {
    /// Returns the place that a URL names.
    pub fn from_url(address: &ConnectionAddr) -> Option<Address> {
        match address {
            ConnectionAddr::Tcp(host, port) => Some(Address::Tcp { host: host.clone(), port: *port }),
            ConnectionAddr::Unix(path) => Some(Address::Unix(path.clone())),
            _ => None,
        }
    }
}
