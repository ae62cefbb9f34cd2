//! Makes the store's connections: asks the route where the server is, asks as whom, dials it, and follows the route where it
//! leads next.

use super::dial::Dialer;
use super::failure::{failure, in_io};
use super::login::{Login, Logins};
use super::route::{Next, Route, Trouble};
use super::sentinel::must_be_primary;
use super::stream::Stream;
use super::target::Target;
use crate::clock;
use crate::store::{StoreError, StoreErrorKind};
use redis::{ErrorKind, RedisResult};
use std::cell::Cell;
use std::thread;
use std::time::{Duration, Instant};

/// The naps between tries grow from the first to the second.
const NAPS: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(50));
/// After so many tries without a nap there is one: nodes that name each other are not chased.
const MAX_IN_A_ROW: u32 = 4;

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
    /// Connects to a server within the connector's limit, until the deadline at most. What the program takes to say who it is
    /// comes on top of both: nobody can interrupt it.
    pub fn dial(&self, target: &Target, until: &Cell<Instant>) -> RedisResult<Stream> {
        let login = self.ask_login(until)?;
        let deadline = until.get().min(clock::deadline(self.connect_timeout));
        let mut stream = match self.dial_as(&login, target, deadline) {
            Err(error) if error.kind() == ErrorKind::AuthenticationFailed && self.logins.may_change() => {
                // It may have changed between the question and its use.
                let newer = self.ask_login(until)?;
                if newer == login {
                    return Err(error);
                }
                self.dial_as(&newer, target, until.get().min(clock::deadline(self.connect_timeout)))?
            }
            opened => opened?,
        };
        stream.renew_at = self.max_connection_age.map(|age| clock::deadline(age.mul_f64(1.0 - 0.25 * fraction())));
        Ok(stream)
    }

    fn ask_login(&self, until: &Cell<Instant>) -> RedisResult<Login> {
        let left = clock::left(until.get());
        let login = self.logins.next().map_err(in_io)?;
        if self.logins.may_change() {
            until.set(clock::deadline(left));
        }
        Ok(login)
    }

    fn dial_as(&self, login: &Login, target: &Target, deadline: Instant) -> RedisResult<Stream> {
        let mut stream = self.dialer.dial(&target.address, login, deadline)?;
        if let Route::Sentinel(_) = self.route {
            must_be_primary(&mut stream, deadline)?;
        }
        Ok(stream)
    }

    /// Finds the server of a key and connects, within the connector's limit.
    pub fn open(&self, key: &str) -> RedisResult<(Target, Stream)> {
        let until = Cell::new(clock::deadline(self.connect_timeout));
        let open = |target: &Target, _| Ok((target.clone(), self.dial(target, &until).map_err(Trouble::NotConnected)?));
        self.follow(key, &until, open)
    }

    /// Makes sure that the route still leads to the server that one is subscribed at: an old primary stays silent about what the new one
    /// is told.
    pub fn must_still_lead_to(&self, target: &Target) -> Result<(), StoreError> {
        match self.route.still_leads_to(target, clock::deadline(self.connect_timeout)) {
            true => Ok(()),
            false => Err(StoreError::new(StoreErrorKind::Unreachable, "another Redis has become the primary")),
        }
    }

    /// Has `go` make an exchange about a key where the route leads, and again where it leads then, until the deadline at most.
    /// The second argument of `go` is whether ASKING comes first.
    pub fn follow<T>(
        &self,
        key: &str,
        until: &Cell<Instant>,
        mut go: impl FnMut(&Target, bool) -> Result<T, Trouble>,
    ) -> RedisResult<T> {
        let (mut asked, mut nap, mut tries, mut in_a_row) = (None, NAPS.0, 0, 0);
        loop {
            let asking = asked.is_some();
            let target = match asked.take() {
                Some(address) => Target { address, term: 0 },
                None => self.route.target(key, until.get())?,
            };
            let outcome = go(&target, asking);
            tries += 1;
            in_a_row += 1;
            match self.route.next(key, &target, tries, &outcome) {
                Next::Done => return outcome.map_err(Trouble::error),
                Next::Again => {}
                Next::Ask(node) => asked = Some(node),
                Next::Later => in_a_row = MAX_IN_A_ROW,
            }
            let pause = if in_a_row < MAX_IN_A_ROW { Duration::ZERO } else { nap };
            if !pause.is_zero() {
                (nap, in_a_row) = ((nap * 2).min(NAPS.1), 0);
            }
            if clock::left(until.get()) <= pause {
                return outcome.map_err(Trouble::error);
            }
            if let Err(trouble) = outcome {
                let failure = failure(trouble.error());
                log::debug!(target: "token_manager::redis", "trying again after {}: {failure}", target.address);
            }
            thread::sleep(pause);
        }
    }
}

/// Returns a random number from 0 to 1, so that connections made at once are not renewed at once.
fn fraction() -> f64 {
    getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX))
}
