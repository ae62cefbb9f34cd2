//! Where Redis is to be found.

use super::dial::Dialer;
use redis::RedisResult;
use std::fmt;
use std::path::PathBuf;
use std::time::Instant;

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

/// The way to the server that has the keys.
pub enum Route {
    /// It is always at one address.
    Direct(Address),
}

impl Route {
    /// Returns the address that counts now.
    pub fn address(&self, _dialer: &Dialer, _deadline: Instant) -> RedisResult<Address> {
        match self {
            Route::Direct(address) => Ok(address.clone()),
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Route::Direct(address) => address.fmt(f),
        }
    }
}
