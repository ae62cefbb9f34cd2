//! The seam to the issuer: the user's code that gets a token, what it is told and what it answers.

use crate::clock::{self, Moment};
use crate::error::{Cause, FailureClass};
use crate::policy;
use crate::store::Carried;
use crate::token::Secret;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Gets a token from the issuer. Closures `Fn(&Attempt) -> Result<Fetched, FetchError>` implement it.
pub trait TokenSource: Send + Sync + 'static {
    /// Asks the issuer for a new token.
    ///
    /// Called by the one process of the fleet that won the right to ask, on a short-lived thread of its own (on the
    /// caller's thread with [`Execution::Inline`](crate::Execution)), never twice at a time in one manager unless
    /// an earlier call was abandoned. Its own thread blocks signals, and so does a program that it starts there. It may
    /// block, and should give up within [`Attempt::remaining`]. A panic is reported to all waiters as an error. No lock is
    /// held meanwhile.
    ///
    /// # Errors
    /// A [`FetchError`] says what is known of the issuer's answer; its class decides the pause.
    fn fetch(&self, attempt: &Attempt) -> Result<Fetched, FetchError>;
}

impl<F> TokenSource for F
where
    F: Fn(&Attempt) -> Result<Fetched, FetchError> + Send + Sync + 'static,
{
    fn fetch(&self, attempt: &Attempt) -> Result<Fetched, FetchError> {
        self(attempt)
    }
}

/// What a source is told about the fetch it is to make.
#[derive(Debug)]
pub struct Attempt {
    pub(crate) name: Arc<str>,
    pub(crate) owner: Arc<str>,
    pub(crate) generation: u64,
    pub(crate) carry: Option<Carried>,
    /// Before the store was asked.
    pub(crate) claimed_at: Moment,
    /// How long the right to fetch holds without a renewal.
    pub(crate) lease: Duration,
    pub(crate) deadline: Instant,
}

impl Attempt {
    /// Returns the time left until the call is abandoned; use it as the limit of the request.
    pub fn remaining(&self) -> Duration {
        clock::left(self.deadline)
    }

    /// Returns what the last successful fetch of the fleet handed to its successor, such as a rotating refresh token.
    pub fn carry(&self) -> Option<&str> {
        self.carry.as_ref().map(|carry| carry.secret.reveal())
    }

    /// Returns how long ago another fetch first presented the [carried secret](Attempt::carry) to the issuer, if one did and
    /// nobody knows that it was not consumed: it crashed, or its outcome is unknown. Where the issuer revokes a grant whose
    /// refresh token is presented twice (RFC 9700 §4.14.2), ask right before the request is sent: within the window that the
    /// issuer allows it may be presented again, later on log in anew. `None` for a secret that nobody has presented.
    pub fn presented(&self) -> Option<Duration> {
        let presented = self.carry.as_ref()?.presented?;
        Some(presented + self.age())
    }

    /// Returns how long ago the store was asked for the right to fetch. Whoever has been granted it since, because this process was
    /// stopped meanwhile, has presented the carried secret no longer ago than that. It is a tick of the clock too much rather than
    /// too little.
    pub fn age(&self) -> Duration {
        Moment::now().since(self.claimed_at) + clock::TICK
    }

    /// Returns how long it is sure, whatever becomes of the renewals, that nobody else has been granted the right to fetch by the
    /// same store.
    pub fn exclusive(&self) -> Duration {
        self.lease.saturating_sub(self.age())
    }

    /// Returns the name of the token that is wanted.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the generation that the new token will have.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Returns the updater's name: the UUID of this process.
    pub fn owner(&self) -> &str {
        &self.owner
    }
}

/// What a source got from the issuer.
#[derive(Debug)]
pub struct Fetched {
    pub(crate) secret: Secret,
    pub(crate) lifetime: Duration,
    pub(crate) carry: Option<Secret>,
    pub(crate) carry_lifetime: Option<Duration>,
}

impl Fetched {
    /// Takes the secret and how long the issuer says it lives, counted from the moment the request was sent.
    ///
    /// An empty secret, a lifetime below one millisecond or above ten years is reported to the callers as an error.
    pub fn new(secret: impl Into<String>, lifetime: Duration) -> Fetched {
        Fetched { secret: Secret::new(secret), lifetime, carry: None, carry_lifetime: None }
    }

    /// Returns the secret, for a source that wraps another one and tries its tokens out.
    pub fn secret(&self) -> &str {
        self.secret.reveal()
    }

    /// Hands a secret to the source's next call, in whichever process that is. It replaces what an earlier fetch left, also where
    /// its token is superseded or invalidated; a Redis that loses its data loses it. Defaults to leaving the last one.
    pub fn carry(mut self, secret: impl Into<String>) -> Fetched {
        self.carry = Some(Secret::new(secret));
        self
    }

    /// Lets the carried secret expire, after ten years at the latest. Defaults to never.
    pub fn carry_lifetime(mut self, lifetime: Duration) -> Fetched {
        self.carry_lifetime = Some(lifetime.min(policy::MAX_LIFE));
        self
    }

    /// Returns what is wrong with the issuer's answer, if anything.
    pub(crate) fn fault(&self) -> Option<String> {
        if self.secret.reveal().is_empty() {
            return Some("the issuer returned an empty token".into());
        }
        if !(policy::MIN_LIFE..=policy::MAX_LIFE).contains(&self.lifetime) {
            let lifetime = self.lifetime;
            return Some(format!(
                "the issuer returned a token with a life of {lifetime:?}; 1 ms to 10 years can be used"
            ));
        }
        None
    }
}

/// Why a source brought no token.
#[derive(Debug)]
pub struct FetchError {
    pub(crate) class: FailureClass,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) cause: Cause,
}

impl FetchError {
    /// The issuer was asked too often (HTTP 429), with its Retry-After if it sent one (RFC 9110 §10.2.3). Pauses all
    /// processes of this [egress](crate::Builder::egress) that long, between one second and one hour.
    pub fn throttled(retry_after: Option<Duration>) -> FetchError {
        let cause = "the issuer was asked too often".into();
        let error = FetchError { class: FailureClass::Throttled, retry_after: None, cause };
        retry_after.into_iter().fold(error, FetchError::retry_after)
    }

    /// The issuer granted nothing: it could not be reached, or it said that it is out of order. Pauses the fleet for a second,
    /// doubling with each further failure to a minute, and up to a quarter longer.
    pub fn unavailable(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> FetchError {
        FetchError { class: FailureClass::Unavailable, retry_after: None, cause: cause.into() }
    }

    /// The issuer refused the credentials. Pauses this process for a minute, and the whole fleet only while it has no token:
    /// others may have newer credentials.
    pub fn credentials_rejected(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> FetchError {
        FetchError { class: FailureClass::CredentialsRejected, retry_after: None, cause: cause.into() }
    }

    /// The request was sent and no usable answer came: a token may have been granted, and an issuer that revokes on
    /// issue may have killed the last one. Every token granted so far becomes doubted.
    pub fn unknown_outcome(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> FetchError {
        FetchError { class: FailureClass::UnknownOutcome, retry_after: None, cause: cause.into() }
    }

    /// Adds how long the issuer asked to be left alone, such as the Retry-After of a 503 (RFC 9110 §10.2.3): the pause is then
    /// that long, between one second and one hour. Defaults to a pause by the kind of failure.
    #[must_use]
    pub fn retry_after(self, pause: Duration) -> FetchError {
        FetchError { retry_after: Some(pause.min(policy::MAX_PAUSE)), ..self }
    }

    /// Says what happened, in place of the cause that stands: it is the [`source`](std::error::Error::source) of the callers'
    /// errors, and is logged. It must hold no secret.
    #[must_use]
    pub fn because(self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> FetchError {
        FetchError { cause: cause.into(), ..self }
    }
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.class.as_str())
    }
}

impl std::error::Error for FetchError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.cause)
    }
}
