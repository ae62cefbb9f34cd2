//! Why a command failed: an exit code and a sentence. Exit codes are those of sysexits(3).

use std::error::Error as StdError;
use std::time::Duration;
use std::{fmt, io};
use token_manager::store::{StoreError, StoreErrorKind};
use token_manager::{Error, ErrorKind, FailureClass};
use token_manager_config::ConfigError;

pub const USAGE: u8 = 64;
pub const STORE: u8 = 69;
pub const SOFTWARE: u8 = 70;
pub const IO: u8 = 74;
pub const LATER: u8 = 75;
pub const REJECTED: u8 = 77;
pub const CONFIG: u8 = 78;

/// Why a command failed. Holds no secret.
#[derive(Debug)]
pub struct Failure {
    pub exit: u8,
    pub message: String,
    pub retry_after: Option<Duration>,
}

impl Failure {
    pub fn new(exit: u8, message: impl Into<String>) -> Failure {
        Failure { exit, message: message.into(), retry_after: None }
    }

    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::new(USAGE, message)
    }

    /// A file, a socket or the standard output cannot be used.
    pub fn io(what: impl fmt::Display, error: &io::Error) -> Failure {
        Failure::new(IO, format!("{what}: {error}"))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let exit = match error.kind() {
            ErrorKind::Limited | ErrorKind::Timeout => LATER,
            ErrorKind::Source(FailureClass::CredentialsRejected) => REJECTED,
            ErrorKind::Source(_) => LATER,
            ErrorKind::Store if is_sealed(&error) => CONFIG,
            ErrorKind::Store => STORE,
            ErrorKind::Config => CONFIG,
            _ => SOFTWARE,
        };
        Failure { exit, message: with_causes(&error), retry_after: error.retry_after() }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        let exit = if error.kind() == StoreErrorKind::Sealed { CONFIG } else { STORE };
        Failure::new(exit, with_causes(&error))
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Failure {
        Failure::new(CONFIG, error.to_string())
    }
}

/// Returns whether the store answers, and a key is missing to open what it has.
fn is_sealed(error: &Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<StoreError>());
    cause.is_some_and(|cause| cause.kind() == StoreErrorKind::Sealed)
}

fn with_causes(error: &dyn StdError) -> String {
    let (mut text, mut next) = (error.to_string(), error.source());
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
