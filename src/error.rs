//! What callers are told when there is no token. An error can be cloned: every waiting thread gets the same one.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Any cause, as the source and the store hand it over.
pub(crate) type Cause = Box<dyn StdError + Send + Sync>;

/// How a fetch failed, in the terms that decide what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FailureClass {
    /// The issuer refused because it was asked too often (HTTP 429).
    Throttled,
    /// The issuer cannot be reached or is out of order (connection refused, HTTP 5xx).
    Unavailable,
    /// The issuer refused the credentials (HTTP 400 or 401, `invalid_client`): asking again soon will not help.
    CredentialsRejected,
    /// Nobody knows whether the issuer granted a token: the answer was late, broken, or never came.
    UnknownOutcome,
}

impl FailureClass {
    /// All classes, for stores that write a class as text.
    pub const ALL: [FailureClass; 4] = [
        FailureClass::Throttled,
        FailureClass::Unavailable,
        FailureClass::CredentialsRejected,
        FailureClass::UnknownOutcome,
    ];

    /// Returns the class as text: `throttled`, `unavailable`, `credentials_rejected` or `unknown_outcome`.
    pub fn as_str(self) -> &'static str {
        match self {
            FailureClass::Throttled => "throttled",
            FailureClass::Unavailable => "unavailable",
            FailureClass::CredentialsRejected => "credentials_rejected",
            FailureClass::UnknownOutcome => "unknown_outcome",
        }
    }

    /// Returns the class that [`as_str`](FailureClass::as_str) writes like this; an unknown text counts as
    /// [`Unavailable`](FailureClass::Unavailable), so that a newer process can name a class an older one lacks.
    pub fn parse(text: &str) -> FailureClass {
        FailureClass::ALL.into_iter().find(|class| class.as_str() == text).unwrap_or(FailureClass::Unavailable)
    }
}

impl fmt::Display for FailureClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What kind of error it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The caller's deadline passed.
    Timeout,
    /// The source failed, in this process or in the updater's.
    Source(FailureClass),
    /// The store failed, and no valid token is at hand.
    Store,
    /// The fleet's budget forbids asking the issuer now.
    Limited,
    /// The settings contradict each other or the rules; the message names them.
    Config,
    /// The source, or an observer, asked for a token that only it could bring: its own manager's, or that of a manager
    /// which waits for its own.
    Reentrant,
}

/// Why there is no token. Cheap to clone; holds no secret.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    retry_after: Option<Duration>,
    cause: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error::build(kind, message.into(), None, None)
    }

    pub(crate) fn config(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Config, message)
    }

    pub(crate) fn timeout() -> Error {
        Error::new(ErrorKind::Timeout, "timed out waiting for a token")
    }

    pub(crate) fn reentrant() -> Error {
        Error::new(
            ErrorKind::Reentrant,
            "the token source asked, itself or through other managers, for the token it is to bring",
        )
    }

    pub(crate) fn store(cause: impl Into<Cause>) -> Error {
        Error::build(ErrorKind::Store, "token store failed".into(), None, Some(cause.into()))
    }

    pub(crate) fn limited(retry_after: Duration) -> Error {
        let message = "the fleet's budget forbids asking the issuer now".into();
        Error::build(ErrorKind::Limited, message, Some(retry_after), None)
    }

    pub(crate) fn source(class: FailureClass, retry_after: Option<Duration>, cause: impl Into<Cause>) -> Error {
        let message = format!("token source failed ({class})");
        Error::build(ErrorKind::Source(class), message, retry_after, Some(cause.into()))
    }

    /// The error of a source that failed in another process, known from the store.
    pub(crate) fn paused(class: FailureClass, retry_after: Duration) -> Error {
        let message = format!("token source failed ({class}); the fleet pauses");
        Error::build(ErrorKind::Source(class), message, Some(retry_after), None)
    }

    fn build(kind: ErrorKind, message: String, retry_after: Option<Duration>, cause: Option<Cause>) -> Error {
        Error(Arc::new(Inner { kind, message, retry_after, cause: cause.map(Arc::from) }))
    }

    /// The same error, at a time when so much of its pause is left.
    pub(crate) fn with_retry_after(&self, retry_after: Option<Duration>) -> Error {
        let Inner { kind, message, cause, .. } = &*self.0;
        Error(Arc::new(Inner { kind: *kind, message: message.clone(), retry_after, cause: cause.clone() }))
    }

    /// Returns what kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns how long to wait before asking again, where the issuer, a pause or the budget tells.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        match self.0.retry_after {
            Some(pause) => write!(f, "; retry after {pause:.1?}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("retry_after", &self.0.retry_after)
            .field("cause", &self.0.cause)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.cause.as_deref().map(|cause| cause as &(dyn StdError + 'static))
    }
}
