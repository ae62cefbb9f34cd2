//! Stands for TLS where the feature `tls` is off: it is refused when the store is opened.

use super::tls::Tls;
use crate::store::{StoreError, StoreErrorKind};
use std::convert::Infallible;
use std::io;
use std::net::TcpStream;
use std::time::Instant;

/// What nobody can have.
pub struct TlsClient(Infallible);

impl TlsClient {
    pub fn new(_: Tls) -> Result<TlsClient, StoreError> {
        let message =
            "a rediss:// URL needs TLS, which this build leaves out; build token-manager with its feature `tls`";
        Err(StoreError::new(StoreErrorKind::Malformed, message))
    }

    pub fn connect(&self, _: &str, _: TcpStream, _: Instant) -> io::Result<TcpStream> {
        match self.0 {}
    }
}

/// Says what an error of TLS means.
pub fn advice(_: &io::Error) -> Option<&'static str> {
    None
}
