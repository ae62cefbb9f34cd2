//! Speaks TLS. It is done by rustls, with ring, which is named here: rustls would panic in a program that has two providers of
//! cryptography built in and has chosen none.

use super::socket::{Limited, Socket};
use super::tls::{Pem, Tls};
use crate::fork::PerProcess;
use crate::locks::Mutex;
use crate::store::{StoreError, StoreErrorKind};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{AlertDescription, CertificateError, ClientConfig, ClientConnection, RootCertStore};
use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

impl Tls {
    fn pems(&self) -> impl Iterator<Item = &Pem> {
        self.ca.iter().chain(self.identity.iter().flat_map(|(certificates, key)| [certificates, key]))
    }

    /// Reads what is to be read and checks it.
    fn config(&self) -> Result<ClientConfig, StoreError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let roots = match &self.ca {
            Some(ca) => Arc::new(roots(certificates(ca, "the CA")?)?),
            None => system_roots()?,
        };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| malformed("TLS cannot be set up", error))?
            .with_root_certificates(roots);
        let Some((chain, key)) = &self.identity else { return Ok(config.with_no_client_auth()) };
        let key = PrivateKeyDer::from_pem_slice(&key.read("the client's key")?)
            .map_err(|error| malformed("the client's key is no PEM text of a private key", error))?;
        config
            .with_client_auth_cert(certificates(chain, "the client's certificate")?, key)
            .map_err(|error| malformed("the client's certificate and key do not go together", error))
    }
}

impl Pem {
    fn read(&self, what: &str) -> Result<Vec<u8>, StoreError> {
        match self {
            Pem::Text(text) => Ok(text.clone()),
            Pem::File(path) => fs::read(path).map_err(|error| unreadable(what, path, error)),
        }
    }
}

fn unreadable(what: &str, path: &Path, error: io::Error) -> StoreError {
    malformed(&format!("{what} cannot be read from {}", path.display()), error)
}

fn malformed(message: &str, cause: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::new(StoreErrorKind::Malformed, message).because(cause)
}

fn certificates(pem: &Pem, what: &str) -> Result<Vec<CertificateDer<'static>>, StoreError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem.read(what)?).collect();
    let found = found.map_err(|error| malformed(&format!("{what} is no PEM text of certificates"), error))?;
    match found.is_empty() {
        true => Err(StoreError::new(StoreErrorKind::Malformed, format!("{what} holds no certificate in PEM"))),
        false => Ok(found),
    }
}

fn roots(certificates: Vec<CertificateDer<'static>>) -> Result<RootCertStore, StoreError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate).map_err(|error| malformed("the CA holds a certificate that cannot be used", error))?;
    }
    Ok(roots)
}

/// Returns what the system trusts.
fn system_roots() -> Result<Arc<RootCertStore>, StoreError> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    });
    match roots.is_empty() {
        true => {
            let message =
                "this system trusts no certificates; install them (ca-certificates), or name a CA with Tls::ca_file";
            Err(StoreError::new(StoreErrorKind::Malformed, message))
        }
        false => Ok(roots.clone()),
    }
}

/// Makes TLS connections.
pub struct TlsClient {
    tls: Tls,
    first: Arc<ClientConfig>,
    /// What was read last, in this process.
    last: PerProcess<Mutex<Option<Arc<ClientConfig>>>>,
}

impl TlsClient {
    pub fn new(tls: Tls) -> Result<TlsClient, StoreError> {
        if let Some(name) = &tls.server_name {
            ServerName::try_from(name.as_str())
                .map_err(|error| malformed("the server_name is none of a host", error))?;
        }
        let first = Arc::new(tls.config()?);
        Ok(TlsClient { tls, first, last: PerProcess::default() })
    }

    fn config(&self) -> Arc<ClientConfig> {
        if !self.tls.pems().any(|pem| matches!(pem, Pem::File(_))) {
            return self.first.clone();
        }
        let last = self.last.get(Mutex::default);
        match self.tls.config() {
            Ok(config) => last.lock().insert(Arc::new(config)).clone(),
            Err(error) => {
                log::warn!(target: "token_manager::redis", "going on with the certificates read before: {error}");
                last.lock().as_ref().unwrap_or(&self.first).clone()
            }
        }
    }

    /// Agrees on TLS with the server that was connected to under this name.
    pub fn connect(&self, host: &str, mut tcp: TcpStream, deadline: Instant) -> io::Result<TlsSocket> {
        let name = ServerName::try_from(self.tls.server_name.as_deref().unwrap_or(host).to_owned());
        let name = name.map_err(io::Error::other)?;
        let mut session = ClientConnection::new(self.config(), name).map_err(io::Error::other)?;
        while session.is_handshaking() {
            session.complete_io(&mut Limited { socket: &mut tcp, deadline })?;
        }
        Ok(TlsSocket { session, tcp })
    }
}

/// A socket that speaks TLS. The deadline goes down to each step of the socket below: rustls repeats by itself what a signal
/// interrupted.
pub struct TlsSocket {
    session: ClientConnection,
    tcp: TcpStream,
}

impl TlsSocket {
    fn until<T>(
        &mut self,
        deadline: Instant,
        step: impl FnOnce(&mut rustls::Stream<'_, ClientConnection, Limited<'_, TcpStream>>) -> io::Result<T>,
    ) -> io::Result<T> {
        step(&mut rustls::Stream::new(&mut self.session, &mut Limited { socket: &mut self.tcp, deadline }))
    }
}

impl Socket for TlsSocket {
    #[cfg(unix)]
    fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.tcp.fd()
    }

    fn read_until(&mut self, buffer: &mut [u8], deadline: Instant) -> io::Result<usize> {
        self.until(deadline, |stream| stream.read(buffer))
    }

    fn write_until(&mut self, bytes: &[u8], deadline: Instant) -> io::Result<usize> {
        self.until(deadline, |stream| stream.write(bytes))
    }

    fn flush_until(&mut self, deadline: Instant) -> io::Result<()> {
        self.until(deadline, |stream| stream.flush())
    }
}

/// Says what an error of TLS means, if it is one.
pub fn advice(error: &io::Error) -> Option<&'static str> {
    use AlertDescription as Alert;
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(match error {
        rustls::Error::InvalidCertificate(reason) => match reason {
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "the TLS certificate of Redis is for another host; use that one in the URL, or name it with Tls::server_name"
            }
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => {
                "the TLS certificate of Redis has expired or is not valid yet; renew it, or set this machine's clock right"
            }
            _ => "the TLS certificate of Redis is not trusted; name its CA with Tls::ca_file",
        },
        rustls::Error::AlertReceived(
            Alert::CertificateRequired
            | Alert::BadCertificate
            | Alert::UnknownCA
            | Alert::CertificateUnknown
            | Alert::CertificateExpired
            | Alert::CertificateRevoked
            | Alert::UnsupportedCertificate
            | Alert::AccessDenied
            | Alert::DecryptError
            | Alert::HandshakeFailure,
        ) => "Redis refused the TLS client certificate, or the lack of one; set it with Tls::identity_files",
        rustls::Error::InvalidMessage(_) => "what answers does not speak TLS; check that the port is the one for TLS",
        _ => "Redis and this process could not agree on TLS; the cause says more",
    })
}
