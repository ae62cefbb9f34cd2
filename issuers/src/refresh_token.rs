//! A token in exchange for a refresh token that may be replaced each time (RFC 6749 §6, RFC 9700 §4.14.2).

mod login;

pub use login::{Login, LoginNeeded};

use crate::error::BuildError;
use crate::failure::Failure;
use crate::oauth::endpoint::{Ask, Asked, Endpoint};
use crate::oauth::reply::Tokens;
use crate::oauth::{Grant, OAuthBuilder};
use ring::digest::{SHA256, digest};
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;
use token_manager::{Attempt, FetchError, Fetched};

type Bootstrap = Box<dyn Fn(&Attempt) -> Result<Login, FetchError> + Send + Sync>;

/// A token in exchange for the fleet's refresh token, which the store hands from fetch to fetch.
///
/// Where the issuer replaces the refresh token each time and revokes the whole grant when an old one is presented again, an outcome
/// that nobody knows is dangerous: the refresh token may have been consumed. This source presents such a one again as long as the
/// issuer's [`reuse_window`](OAuthBuilder::reuse_window) allows, and never after that. Then, and where the issuer refuses it
/// (`invalid_grant`), somebody has to log in: the [`bootstrap`](OAuthBuilder::bootstrap) hook is called, or the error's
/// [`source`](std::error::Error::source) is a [`LoginNeeded`].
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
    /// The digest of the refresh token that the issuer refused last: this process does not knock with it again.
    refused: Mutex<Option<[u8; 32]>>,
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
        RefreshToken { window: Duration::ZERO, bootstrap: None, refused: Mutex::new(None) }
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
}

impl Grant for RefreshToken {
    fn check(&self, endpoint: &Endpoint) -> Result<(), BuildError> {
        endpoint.check_has_client()
    }

    fn ask(&self, endpoint: &Endpoint, attempt: &Attempt) -> Result<Fetched, FetchError> {
        let Some(refresh) = attempt.carry() else {
            return self.log_in(endpoint, attempt, LoginNeeded::NoRefreshToken);
        };
        if self.was_refused(refresh) {
            return self.log_in(endpoint, attempt, LoginNeeded::Refused);
        }
        let may_present = || self.may_present(attempt);
        // Asked now, to spare a connection, and once more when the connection stands.
        let asked = if may_present() { present(endpoint, attempt, refresh, &may_present)? } else { Asked::Withheld };
        match asked {
            Asked::Granted(tokens) => Ok(fetched(tokens)),
            Asked::GrantRefused(failure) => {
                log::warn!("the refresh token is of no use any more: {}", failure.cause);
                self.note_refused(refresh);
                self.log_in(endpoint, attempt, LoginNeeded::Refused)
            }
            Asked::Withheld => match attempt.presented() {
                Some(age) => self.log_in(endpoint, attempt, LoginNeeded::Presented { age }),
                // Nobody else is known to have presented it: whoever has, if anybody, tells the next fetch.
                None => {
                    Err(Failure::unavailable("the request was not sent: the right to fetch was about to end").into())
                }
            },
        }
    }
}

impl RefreshToken {
    /// Returns whether the carried refresh token may still be presented at this moment: either it is sure that nobody else has
    /// presented it, or all who can have done so did it within the window.
    fn may_present(&self, attempt: &Attempt) -> bool {
        if attempt.remaining().is_zero() {
            return false;
        }
        match attempt.presented() {
            Some(age) => age < self.window,
            None => !attempt.exclusive().is_zero() || attempt.age() < self.window,
        }
    }

    fn log_in(&self, endpoint: &Endpoint, attempt: &Attempt, why: LoginNeeded) -> Result<Fetched, FetchError> {
        let Some(bootstrap) = &self.bootstrap else {
            return Err(FetchError::credentials_rejected(why));
        };
        log::info!("logging in anew: {why}");
        match bootstrap(attempt)? {
            Login::Tokens(fetched) => Ok(fetched),
            Login::RefreshToken(refresh) => {
                let in_time = || !attempt.remaining().is_zero();
                match present(endpoint, attempt, &refresh, &in_time)? {
                    Asked::GrantRefused(_) => Err(FetchError::credentials_rejected(LoginNeeded::Refused)),
                    asked => {
                        let tokens = asked.granted()?;
                        // Where the issuer does not replace it, it is the one to go on with.
                        let refresh = tokens.refresh.clone().or(Some(refresh));
                        Ok(fetched(Tokens { refresh, ..tokens }))
                    }
                }
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

fn present(
    endpoint: &Endpoint,
    attempt: &Attempt,
    refresh: &str,
    may_send: &dyn Fn() -> bool,
) -> Result<Asked, Failure> {
    let form = [("grant_type", "refresh_token"), ("refresh_token", refresh)];
    endpoint.ask_with(&Ask { form: &form, consumes: true, may_send }, attempt)
}

fn fetched(Tokens { access, life, refresh }: Tokens) -> Fetched {
    refresh.into_iter().fold(Fetched::new(access, life), Fetched::carry)
}

fn digest_of(text: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    bytes
}

impl fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefreshToken").field("window", &self.window).finish_non_exhaustive()
    }
}
