//! Stands for TLS where the feature `tls` is off: there is none.

use std::convert::Infallible;
use std::io;
use std::net::TcpStream;
use std::time::Instant;

/// What nobody can have.
pub struct TlsClient(Infallible);

impl TlsClient {
    pub fn connect(&self, _: &str, _: TcpStream, _: Instant) -> io::Result<TcpStream> {
        match self.0 {}
    }
}

/// Says what an error of TLS means.
pub fn advice(_: &io::Error) -> Option<&'static str> {
    None
}
