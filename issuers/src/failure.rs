//! Why a fetch brought no token, while it is still worth a look: whoever asks again with a second secret has to know the class.

use std::time::Duration;
use token_manager::{FailureClass, FetchError};

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A [`FetchError`] to be.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) class: FailureClass,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) cause: Cause,
}

impl Failure {
    pub(crate) fn new(class: FailureClass, cause: impl Into<Cause>) -> Failure {
        Failure { class, retry_after: None, cause: cause.into() }
    }

    /// Nothing was granted: the request was not sent, or the issuer says that it is out of order.
    pub(crate) fn unavailable(cause: impl Into<Cause>) -> Failure {
        Failure::new(FailureClass::Unavailable, cause)
    }

    /// The credentials are refused, or cannot even be read: a matter of this process alone.
    pub(crate) fn rejected(cause: impl Into<Cause>) -> Failure {
        Failure::new(FailureClass::CredentialsRejected, cause)
    }

    /// The request was sent, and a token may have been granted.
    pub(crate) fn unknown(cause: impl Into<Cause>) -> Failure {
        Failure::new(FailureClass::UnknownOutcome, cause)
    }

    /// The issuer was asked too often.
    pub(crate) fn throttled(cause: impl Into<Cause>) -> Failure {
        Failure::new(FailureClass::Throttled, cause)
    }

    /// Where one more token revokes none, nobody has to know whether it was granted: what is in doubt counts as not granted.
    pub(crate) fn of_no_consequence(self) -> Failure {
        match self.class {
            FailureClass::UnknownOutcome => Failure { class: FailureClass::Unavailable, ..self },
            _ => self,
        }
    }

    pub(crate) fn retry_after(self, pause: Option<Duration>) -> Failure {
        Failure { retry_after: pause, ..self }
    }
}

impl From<Failure> for FetchError {
    fn from(failure: Failure) -> FetchError {
        let error = match failure.class {
            FailureClass::Throttled => FetchError::throttled(None).because(failure.cause),
            FailureClass::Unavailable => FetchError::unavailable(failure.cause),
            FailureClass::CredentialsRejected => FetchError::credentials_rejected(failure.cause),
            // The safe answer to a class that this version does not know.
            _ => FetchError::unknown_outcome(failure.cause),
        };
        failure.retry_after.into_iter().fold(error, FetchError::retry_after)
    }
}
