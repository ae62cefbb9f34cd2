//! What is set for TLS: whom to trust, and who one is.

use std::fmt;
use std::path::PathBuf;

/// What `rediss://` needs beyond the URL. Certificates are always checked, the host's name included.
///
/// Files are read when the store is opened, and again for each connection, so that certificates can be renewed in place; while
/// one cannot be read or makes no sense, what was read before stays in use.
#[derive(Clone, Default)]
pub struct Tls {
    pub(super) ca: Option<Pem>,
    pub(super) identity: Option<(Pem, Pem)>,
    pub(super) server_name: Option<String>,
}

#[derive(Clone)]
#[cfg_attr(not(feature = "tls"), allow(dead_code, reason = "the client reads them, where there is one"))]
pub(super) enum Pem {
    Text(Vec<u8>),
    File(PathBuf),
}

impl Tls {
    /// Makes the defaults.
    pub fn new() -> Tls {
        Tls::default()
    }

    /// Trusts the certificates of this PEM text, and no others. Defaults to those that the system trusts, which are read once
    /// in the life of the process.
    pub fn ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Tls {
        self.ca = Some(Pem::Text(pem.into()));
        self
    }

    /// As [`ca_pem`](Tls::ca_pem), from a file. Defaults to the certificates that the system trusts.
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Tls {
        self.ca = Some(Pem::File(path.into()));
        self
    }

    /// Shows this certificate, with those between it and its CA, and proves it with this key; both are PEM texts. Defaults to no
    /// certificate.
    pub fn identity_pem(mut self, certificates: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Tls {
        self.identity = Some((Pem::Text(certificates.into()), Pem::Text(key.into())));
        self
    }

    /// As [`identity_pem`](Tls::identity_pem), from files. Defaults to no certificate.
    pub fn identity_files(mut self, certificates: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Tls {
        self.identity = Some((Pem::File(certificates.into()), Pem::File(key.into())));
        self
    }

    /// Expects a certificate for this name or address, where Redis is reached under another one. Defaults to the host that is
    /// connected to.
    pub fn server_name(mut self, name: impl Into<String>) -> Tls {
        self.server_name = Some(name.into());
        self
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the key.
        let Tls { ca, identity, server_name } = self;
        let (own_ca, identity) = (ca.is_some(), identity.is_some());
        f.debug_struct("Tls")
            .field("own_ca", &own_ca)
            .field("identity", &identity)
            .field("server_name", server_name)
            .finish()
    }
}
