//! What a call came to: a code, and an error with its message.

use std::error::Error as _;
use std::ffi::{CStr, CString};
use std::time::Duration;
use token_manager::store::StoreError;
use token_manager::{Error, ErrorKind, FailureClass};

/// What a call came to. Numbers are never used for something else.
#[derive(Clone, Copy)]
#[repr(i32)]
pub enum Code {
    Ok = 0,
    Timeout = 1,
    Store = 2,
    Limited = 3,
    Config = 4,
    Reentrant = 5,
    Throttled = 10,
    Unavailable = 11,
    CredentialsRejected = 12,
    UnknownOutcome = 13,
    Null = 20,
    NotUtf8 = 21,
    Panic = 22,
    Busy = 23,
    Other = 99,
}

pub struct TkmError {
    code: Code,
    message: CString,
    retry_after: Option<Duration>,
}

impl TkmError {
    pub fn new(code: Code, message: impl Into<String>) -> TkmError {
        let message = CString::new(message.into().replace('\0', " ")).unwrap_or_default();
        TkmError { code, message, retry_after: None }
    }

    pub fn null(argument: &str) -> TkmError {
        TkmError::new(Code::Null, format!("{argument} is NULL"))
    }

    pub fn not_utf8(argument: &str) -> TkmError {
        TkmError::new(Code::NotUtf8, format!("{argument} is not UTF-8"))
    }

    pub fn panicked() -> TkmError {
        TkmError::new(Code::Panic, "a bug in the library: it panicked; the program's standard error has the details")
    }

    pub fn code(&self) -> i32 {
        self.code as i32
    }

    pub fn message(&self) -> &CStr {
        &self.message
    }

    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl From<Error> for TkmError {
    fn from(error: Error) -> TkmError {
        let code = match error.kind() {
            ErrorKind::Timeout => Code::Timeout,
            ErrorKind::Store => Code::Store,
            ErrorKind::Limited => Code::Limited,
            ErrorKind::Config => Code::Config,
            ErrorKind::Reentrant => Code::Reentrant,
            ErrorKind::Source(FailureClass::Throttled) => Code::Throttled,
            ErrorKind::Source(FailureClass::Unavailable) => Code::Unavailable,
            ErrorKind::Source(FailureClass::CredentialsRejected) => Code::CredentialsRejected,
            ErrorKind::Source(FailureClass::UnknownOutcome) => Code::UnknownOutcome,
            _ => Code::Other,
        };
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(because) = cause {
            message = format!("{message}: {because}");
            cause = because.source();
        }
        TkmError { retry_after: error.retry_after(), ..TkmError::new(code, message) }
    }
}

impl From<StoreError> for TkmError {
    fn from(error: StoreError) -> TkmError {
        TkmError::new(Code::Config, error.to_string())
    }
}
