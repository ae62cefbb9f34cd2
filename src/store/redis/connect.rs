//! Makes the store's connections: asks as whom, asks the route where the server is, and dials it, within one limit.

use super::dial::Dialer;
use super::failure::in_io;
use super::login::{Login, Logins};
use super::route::Route;
use super::stream::Stream;
use crate::clock;
use redis::{ErrorKind, RedisResult};
use std::time::{Duration, Instant};

/// Makes connections.
pub struct Connector {
    pub route: Route,
    pub dialer: Dialer,
    pub logins: Logins,
    pub connect_timeout: Duration,
    pub io_timeout: Duration,
    pub max_connection_age: Option<Duration>,
}

impl Connector {
    /// Finds the server and connects, all within the limit or the connector's own if that is shorter. What the program takes
    /// to say who it is comes on top: nobody can interrupt it.
    pub fn open(&self, limit: Duration) -> RedisResult<Stream> {
        let login = self.logins.next().map_err(in_io)?;
        let deadline = clock::deadline(limit.min(self.connect_timeout));
        let mut stream = match self.dial(&login, deadline) {
            Err(error) if error.kind() == ErrorKind::AuthenticationFailed && self.logins.may_change() => {
                // It may have changed between the question and its use.
                let newer = self.logins.next().map_err(in_io)?;
                if newer == login {
                    return Err(error);
                }
                self.dial(&newer, deadline)?
            }
            opened => opened?,
        };
        stream.renew_at = self.max_connection_age.map(|age| clock::deadline(age.mul_f64(1.0 - 0.25 * fraction())));
        Ok(stream)
    }

    fn dial(&self, login: &Login, deadline: Instant) -> RedisResult<Stream> {
        let address = self.route.address(&self.dialer, deadline)?;
        self.dialer.dial(&address, login, deadline)
    }
}

/// Returns a random number from 0 to 1, so that connections made at once are not renewed at once.
fn fraction() -> f64 {
    getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX))
}
