//! A token in exchange for a refresh token that may be replaced each time (RFC 6749 §6, RFC 9700 §4.14.2).

mod carried;
mod first;
mod login;

pub use login::{Login, LoginNeeded};

use crate::error::BuildError;
use crate::failure::Failure;
use crate::oauth::endpoint::{Ask, Asked, Endpoint};
use crate::oauth::reply::Tokens;
use crate::oauth::{Grant, OAuthBuilder};
use crate::secret::Secret;
use carried::{Carried, Digest, digest_of};
use first::{First, FirstLogin};
use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use token_manager::{Attempt, FetchError, Fetched};

type Bootstrap = Box<dyn Fn(&Attempt) -> Result<Login, FetchError> + Send + Sync>;

/// A token in exchange for the fleet's refresh token, which the store hands from fetch to fetch.
///
/// Where the issuer replaces the refresh token each time and revokes the whole grant when an old one is presented again, an outcome
/// that nobody knows is dangerous: the refresh token may have been consumed. This source presents such a one again as long as the
/// issuer's [`reuse_window`](OAuthBuilder::reuse_window) allows, and never after that. Then, and where the issuer refuses it
/// (`invalid_grant`), somebody has to log in: the [`bootstrap`](OAuthBuilder::bootstrap) hook is called, or a person leaves the new
/// refresh token where [`first`](OAuthBuilder::first) says. Else the error's [`source`](std::error::Error::source) is a [`LoginNeeded`].
///
/// Hold a [`journal`](token_manager::Builder::journal): what a process was told before it was killed is then not lost.
///
/// ```
/// use std::time::Duration;
/// use token_manager_issuers::{Client, Login, RefreshToken, Secret};
///
/// let source = RefreshToken::at("https://issuer.example.com/token")
///     .client(Client::basic("billing", Secret::env("BILLING_SECRET")))
///     .reuse_window(Duration::from_secs(30)) // as the issuer documents it
///     .bootstrap(|_attempt| Ok(Login::refresh_token("from a login of yours")))
///     .build()?;
/// # drop(source);
/// # Ok::<(), token_manager_issuers::BuildError>(())
/// ```
pub struct RefreshToken {
    window: Duration,
    bootstrap: Option<Bootstrap>,
    first: Option<First>,
    /// The refresh token that the issuer refused last: this process does not knock with it again.
    refused: Mutex<Option<Digest>>,
}

impl RefreshToken {
    /// Asks this token endpoint.
    pub fn at(url: impl Into<String>) -> OAuthBuilder<RefreshToken> {
        OAuthBuilder::at(url, RefreshToken::new())
    }

    /// Asks the token endpoint that this issuer names (RFC 8414); it is looked up once an hour.
    pub fn discover(issuer: impl Into<String>) -> OAuthBuilder<RefreshToken> {
        OAuthBuilder::discover(issuer, RefreshToken::new())
    }

    fn new() -> RefreshToken {
        RefreshToken { window: Duration::ZERO, bootstrap: None, first: None, refused: Mutex::new(None) }
    }
}

impl OAuthBuilder<RefreshToken> {
    /// Says how long the issuer takes a refresh token again after it was first presented, as some do for clients that lost the
    /// answer: the issuer's own figure, less what its clock and the way there may cost. For an issuer that never replaces refresh
    /// tokens give a year. Defaults to none: what may have been presented is not presented again.
    #[must_use]
    pub fn reuse_window(mut self, window: Duration) -> Self {
        self.grant.window = window;
        self
    }

    /// Logs in anew where there is no refresh token, or none that may still be presented. It is called as a source is: by one
    /// process of the fleet, on a thread that may block for the attempt's time. It must not bring a refresh token that it has
    /// brought before. Defaults to none: then such a fetch fails with [`LoginNeeded`].
    #[must_use]
    pub fn bootstrap(mut self, login: impl Fn(&Attempt) -> Result<Login, FetchError> + Send + Sync + 'static) -> Self {
        self.grant.bootstrap = Some(Box::new(login));
        self
    }

    /// Says where a login leaves its refresh token, which is looked at for each fetch. It is presented where the fleet has none, and
    /// before the fleet's own where it is another one than all that were presented: so a new login is taken at once, once, by one
    /// process. Which ones were presented is carried, as digests, beside the refresh token that they led to; every process and every
    /// restart knows. A refresh token that is carried without them counts as what came of the one that is there. Where an outcome is
    /// unknown, the [`reuse_window`](OAuthBuilder::reuse_window) counts too. Defaults to nowhere.
    #[must_use]
    pub fn first(mut self, login: Secret) -> Self {
        self.grant.first = Some(First::new(login));
        self
    }
}

impl Grant for RefreshToken {
    fn check(&self, endpoint: &Endpoint) -> Result<(), BuildError> {
        if let Some(first) = &self.first {
            if self.bootstrap.is_some() {
                return Err(BuildError::new("first", "is set, and so is bootstrap; only one of them can log in"));
            }
            if first.secret.has_second() {
                return Err(BuildError::new("first", "has a second secret; a login leaves one refresh token"));
            }
            first.secret.check("first")?;
        }
        endpoint.check_has_client()
    }

    fn ask(&self, endpoint: &Endpoint, attempt: &Attempt) -> Result<Fetched, FetchError> {
        let call = Call { endpoint, attempt };
        let Some(carried) = attempt.carry().map(Carried::read) else {
            return self.log_in(&call, &Carried::default(), LoginNeeded::NoRefreshToken);
        };
        let mut next = carried.clone();
        // One that cannot be read is not needed as long as the carried one is good.
        if let Some((first, login)) = self.first.as_ref().and_then(|first| Some((first, first.read().ok()?))) {
            if carried.knows_logins()
                && !carried.has_seen(&login.digest)
                && let Ok(fetched) = self.present_first(&call, first, &login, &carried)?
            {
                return Ok(fetched);
            }
            // It has just been of no use, or what is carried came of it as far as anybody can tell.
            next.saw(login.digest);
        }
        if self.was_refused(&carried.refresh) {
            return self.log_in(&call, &carried, LoginNeeded::Refused);
        }
        let may_present = || self.may_present(attempt);
        // Asked now, to spare a connection, and once more when the connection stands.
        let asked = if may_present() { call.present(&carried.refresh, &may_present)? } else { Asked::Withheld };
        match asked {
            Asked::Granted(tokens) if tokens.refresh.is_none() && next == carried => Ok(fetched(tokens, None)),
            Asked::Granted(tokens) => Ok(fetched(tokens, Some(next))),
            Asked::GrantRefused(failure) => {
                log::warn!("the refresh token is of no use any more: {}", failure.cause);
                self.note_refused(&carried.refresh);
                self.log_in(&call, &carried, LoginNeeded::Refused)
            }
            Asked::Withheld => match attempt.presented() {
                Some(age) => self.log_in(&call, &carried, LoginNeeded::Presented { age }),
                // Nobody else is known to have presented it: whoever has, if anybody, tells the next fetch.
                None => Err(too_late()),
            },
        }
    }
}

/// Whom a fetch asks.
struct Call<'a> {
    endpoint: &'a Endpoint,
    attempt: &'a Attempt,
}

impl Call<'_> {
    fn present(&self, refresh: &str, may_send: &dyn Fn() -> bool) -> Result<Asked, Failure> {
        let form = [("grant_type", "refresh_token"), ("refresh_token", refresh)];
        self.endpoint.ask_with(&Ask { form: &form, consumes: true, may_send }, self.attempt)
    }
}

impl RefreshToken {
    /// Returns whether the carried refresh token may still be presented at this moment: either it is sure that nobody else has
    /// presented it, or all who can have done so did it within the window.
    fn may_present(&self, attempt: &Attempt) -> bool {
        match attempt.presented() {
            Some(age) => age < self.window && !attempt.remaining().is_zero(),
            None => self.is_alone(attempt),
        }
    }

    /// Returns whether nobody else has been granted the right to fetch, unless it was within the window.
    fn is_alone(&self, attempt: &Attempt) -> bool {
        !attempt.remaining().is_zero() && (!attempt.exclusive().is_zero() || attempt.age() < self.window)
    }

    /// Goes on where what is carried is of no use, or nothing is.
    fn log_in(&self, call: &Call<'_>, carried: &Carried, why: LoginNeeded) -> Result<Fetched, FetchError> {
        match (&self.bootstrap, &self.first) {
            (Some(bootstrap), _) => self.log_in_by(&**bootstrap, call, carried, why),
            (None, Some(first)) if !carried.knows_logins() => {
                let fetched = self.present_first(call, first, &first.read()?, carried)?;
                fetched.map_err(FetchError::credentials_rejected)
            }
            _ => Err(FetchError::credentials_rejected(why)),
        }
    }

    fn log_in_by(
        &self,
        bootstrap: &dyn Fn(&Attempt) -> Result<Login, FetchError>,
        call: &Call<'_>,
        carried: &Carried,
        why: LoginNeeded,
    ) -> Result<Fetched, FetchError> {
        log::info!("logging in anew: {why}");
        match bootstrap(call.attempt)? {
            Login::Tokens(fetched) => Ok(fetched),
            Login::RefreshToken(refresh) => match call.present(&refresh, &|| !call.attempt.remaining().is_zero())? {
                Asked::GrantRefused(_) => Err(FetchError::credentials_rejected(LoginNeeded::Refused)),
                asked => Ok(fetched(asked.granted()?, Some(carried.followed_by(refresh)))),
            },
        }
    }

    /// Presents the refresh token of a login that nobody is known to have presented. The inner failure is one of this login alone.
    fn present_first(
        &self,
        call: &Call<'_>,
        first: &First,
        login: &FirstLogin,
        carried: &Carried,
    ) -> Result<Result<Fetched, LoginNeeded>, FetchError> {
        if let Some(why) = first.objection(login, self.window) {
            return Ok(Err(why));
        }
        log::info!("presenting the refresh token of a new login");
        let sent = Instant::now();
        match call.present(&login.refresh, &|| self.is_alone(call.attempt)) {
            Ok(Asked::Granted(tokens)) => {
                let mut next = carried.followed_by(login.refresh.clone());
                next.saw(login.digest);
                Ok(Ok(fetched(tokens, Some(next))))
            }
            Ok(Asked::GrantRefused(failure)) => {
                log::warn!("the refresh token of the new login is of no use: {}", failure.cause);
                first.note_refused(login);
                Ok(Err(LoginNeeded::Refused))
            }
            Ok(Asked::Withheld) => Err(too_late()),
            Err(failure) => {
                first.note_failure(login, sent, &failure);
                Err(failure.into())
            }
        }
    }

    // Neither waits for the lock: a child forked while somebody held it would wait for ever.
    fn was_refused(&self, refresh: &str) -> bool {
        self.refused.try_lock().is_ok_and(|refused| *refused == Some(digest_of(refresh)))
    }

    fn note_refused(&self, refresh: &str) {
        if let Ok(mut refused) = self.refused.try_lock() {
            *refused = Some(digest_of(refresh));
        }
    }
}

fn too_late() -> FetchError {
    Failure::unavailable("the request was not sent: the right to fetch was about to end").into()
}

/// Carries what was presented on where the issuer does not replace it.
fn fetched(Tokens { access, life, refresh }: Tokens, presented: Option<Carried>) -> Fetched {
    let next = presented.map(|presented| refresh.map_or(presented.clone(), |refresh| presented.followed_by(refresh)));
    next.iter().fold(Fetched::new(access, life), |fetched, next| fetched.carry(next.write()))
}

impl fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefreshToken").field("window", &self.window).finish_non_exhaustive()
    }
}
