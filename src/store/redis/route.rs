//! Where Redis is to be found.

use super::address::Address;
use super::dial::Dialer;
use redis::RedisResult;
use std::fmt;
use std::time::Instant;

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
