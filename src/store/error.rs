//! What a store says when it cannot do as asked.

use crate::error::Cause;
use std::{fmt, io};

/// What kind of trouble the store has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// It cannot be reached, or did not answer in time.
    Unreachable,
    /// It refuses these credentials or commands (WRONGPASS, NOAUTH, NOPERM).
    Denied,
    /// It cannot write now (READONLY, LOADING, OOM, MISCONF).
    NotWritable,
    /// All its connections are in use, or its lock is held; the same call may succeed as soon as one is free.
    Exhausted,
    /// A key holds something that this library did not write, or an answer has the wrong form.
    Malformed,
    /// Anything else; the message tells.
    Other,
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
