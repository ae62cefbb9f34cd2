//! Makes the store's connections: asks the route where the server is, and dials it, within one limit.

use super::dial::Dialer;
use super::login::Login;
use super::route::Route;
use super::stream::Stream;
use crate::clock;
use redis::RedisResult;
use std::time::Duration;

/// Makes connections.
pub struct Connector {
    pub route: Route,
    pub dialer: Dialer,
    pub login: Login,
    pub connect_timeout: Duration,
    pub io_timeout: Duration,
}

impl Connector {
    /// Finds the server and connects, all within the limit or the connector's own if that is shorter.
    pub fn open(&self, limit: Duration) -> RedisResult<Stream> {
        let deadline = clock::deadline(limit.min(self.connect_timeout));
        let address = self.route.address(&self.dialer, deadline)?;
        self.dialer.dial(&address, &self.login, deadline)
    }
}
