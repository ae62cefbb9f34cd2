//! Was the request sent? A body that nobody has begun to read was not, and so no grant can have been made of it.

use crate::failure::Failure;
use rustls::AlertDescription;
use std::io::{self, ErrorKind, Read};
use ureq::{Error, Timeout};

/// What is known of a request to which no answer came.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Sent {
    No,
    Yes,
    /// It has no body to go by.
    Unsure,
}

/// A body that knows whether anybody has read of it: the head of a request is written before.
pub(super) struct Watched<'a> {
    body: &'a [u8],
    length: usize,
    may_send: &'a dyn Fn() -> bool,
    fate: Fate,
}

/// What became of a body.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Fate {
    Untouched,
    Begun,
    /// It was asked for when it might not be sent any more.
    Withheld,
}

impl<'a> Watched<'a> {
    pub(super) fn new(body: &'a str, may_send: &'a dyn Fn() -> bool) -> Watched<'a> {
        Watched { body: body.as_bytes(), length: body.len(), may_send, fate: Fate::Untouched }
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn fate(&self) -> Fate {
        self.fate
    }
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.fate {
            Fate::Untouched if (self.may_send)() => self.fate = Fate::Begun,
            Fate::Untouched => self.fate = Fate::Withheld,
            Fate::Begun | Fate::Withheld => {}
        }
        match self.fate {
            Fate::Withheld => Err(io::Error::other("the request may not be sent any more")),
            _ => self.body.read(buffer),
        }
    }
}

/// Returns what an error means to a fetch.
pub(super) fn failure(error: &Error, sent: Sent) -> Failure {
    if let Some(rustls::Error::AlertReceived(alert)) = tls(error)
        && concerns_certificate(*alert)
    {
        // In TLS 1.3 a server looks at the client's certificate after the client has begun to send, and at the request after that.
        return Failure::rejected(format!(
            "the issuer refused the connection ({alert:?}): check the client's certificate"
        ));
    }
    if sent == Sent::No || (sent == Sent::Unsure && precedes_sending(error)) {
        return Failure::unavailable(format!("the issuer cannot be reached: {}", describe(error)));
    }
    Failure::unknown(format!("no usable answer came to what was sent: {}", describe(error)))
}

/// Returns whether an error can only come before a request is sent.
fn precedes_sending(error: &Error) -> bool {
    match error {
        Error::HostNotFound | Error::ConnectionFailed | Error::ConnectProxyFailed(_) | Error::InvalidProxyUrl => true,
        Error::BadUri(_) | Error::Http(_) | Error::Tls(_) | Error::TlsRequired | Error::Pem(_) => true,
        Error::Timeout(limit) => matches!(limit, Timeout::Resolve | Timeout::Connect),
        Error::Io(error) if error.kind() == ErrorKind::ConnectionRefused => true,
        _ => matches!(tls(error), Some(rustls::Error::InvalidCertificate(_) | rustls::Error::PeerIncompatible(_))),
    }
}

fn concerns_certificate(alert: AlertDescription) -> bool {
    use AlertDescription::*;
    matches!(
        alert,
        CertificateRequired
            | NoCertificate
            | BadCertificate
            | UnsupportedCertificate
            | CertificateRevoked
            | CertificateExpired
            | CertificateUnknown
            | UnknownCA
            | AccessDenied
            | HandshakeFailure
    )
}

fn tls(error: &Error) -> Option<&rustls::Error> {
    match error {
        Error::Rustls(error) => Some(error),
        Error::Io(error) => error.get_ref()?.downcast_ref(),
        _ => None,
    }
}

/// Returns an error's text without what the other side, or the user, put into it.
fn describe(error: &Error) -> String {
    match error {
        Error::BadUri(_) => "its address is no URL with a host".into(),
        Error::Timeout(_) => "it took too long".into(),
        Error::Protocol(_) => "that is no HTTP".into(),
        other => other.to_string(),
    }
}
