//! What a store says when it cannot do as asked.

use crate::error::Cause;
use std::{fmt, io};

/// What kind of trouble the store has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// It cannot be reached, or did not answer in time.
    Unreachable,
    /// It refuses these credentials or commands (WRONGPASS, NOAUTH, NOPERM), or one side refuses the other's certificate.
    Denied,
    /// It cannot write now (READONLY, LOADING, OOM, MISCONF).
    NotWritable,
    /// All its connections are in use; the same call may succeed as soon as one is free.
    Exhausted,
    /// A key holds something that this library did not write, or an answer has the wrong form.
    Malformed,
    /// What it keeps is sealed by a key that is not at hand, was changed or moved, or lies in clear where it must not.
    Sealed,
    /// Anything else; the message tells.
    Other,
}

impl StoreErrorKind {
    /// All kinds, for those who count them.
    pub const ALL: [StoreErrorKind; 7] = [
        StoreErrorKind::Unreachable,
        StoreErrorKind::Denied,
        StoreErrorKind::NotWritable,
        StoreErrorKind::Exhausted,
        StoreErrorKind::Malformed,
        StoreErrorKind::Sealed,
        StoreErrorKind::Other,
    ];

    /// Returns the kind as text: `unreachable`, `denied`, `not_writable`, `exhausted`, `malformed`, `sealed` or `other`.
    pub fn as_str(self) -> &'static str {
        match self {
            StoreErrorKind::Unreachable => "unreachable",
            StoreErrorKind::Denied => "denied",
            StoreErrorKind::NotWritable => "not_writable",
            StoreErrorKind::Exhausted => "exhausted",
            StoreErrorKind::Malformed => "malformed",
            StoreErrorKind::Sealed => "sealed",
            StoreErrorKind::Other => "other",
        }
    }
}

/// Why the store did not do as asked. Holds no secret.
#[derive(Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    message: String,
    cause: Option<Cause>,
}

impl StoreError {
    /// Makes an error; the message says in words what is wrong and what to do.
    pub fn new(kind: StoreErrorKind, message: impl Into<String>) -> StoreError {
        StoreError { kind, message: message.into(), cause: None }
    }

    /// Adds the cause.
    pub fn because(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
        self.cause = Some(cause.into());
        self
    }

    /// Returns the same error, with its cause as text.
    pub(crate) fn duplicate(&self) -> StoreError {
        let cause = self.cause.as_ref().map(|cause| cause.to_string().into());
        StoreError { kind: self.kind, message: self.message.clone(), cause }
    }

    /// Returns what kind of trouble it is.
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }
}

impl From<io::Error> for StoreError {
    /// Makes an error of the kind [`Unreachable`](StoreErrorKind::Unreachable).
    fn from(error: io::Error) -> StoreError {
        StoreError::new(StoreErrorKind::Unreachable, "the store cannot be read or written").because(error)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as &(dyn std::error::Error + 'static))
    }
}
