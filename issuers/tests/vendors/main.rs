//! The sources of single vendors, each against a stand-in of its own, over real HTTP.

mod github;
mod standin;
mod tencent;
mod wechat;
mod wecom;

use std::error::Error as _;
use testbed::Backing;
use token_manager::{Error, ErrorKind, FailureClass, TokenSource};

/// Returns how a source fails whose fetch has to.
fn failure_of(source: impl TokenSource) -> (FailureClass, String) {
    class_and_cause(&Backing::memory().builder("t").source(source).build().unwrap().get().unwrap_err())
}

/// Returns the class and the cause of a failed fetch, once it is sure that no secret is in it.
fn class_and_cause(error: &Error) -> (FailureClass, String) {
    let told = format!("{error} {error:?}");
    assert!(!told.contains("hunter2") && !told.contains("eyJ"), "{told}");
    let ErrorKind::Source(class) = error.kind() else { panic!("{told}") };
    (class, error.source().expect("a cause").to_string())
}
