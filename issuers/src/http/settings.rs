//! How an issuer is reached: proxy, certificates of its own, a certificate of ours.

use crate::error::BuildError;
use crate::secret::Secret;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};
use ureq::{Agent, Proxy};

/// How a source reaches its issuer. All of it has defaults.
///
/// ```
/// use token_manager_issuers::{Http, Secret};
///
/// let http = Http::new()
///     .proxy("http://proxy.example.com:3128")
///     .authority(Secret::file("/etc/ssl/our-authority.pem"))
///     .client_certificate(Secret::file("/run/tls/client.pem"), Secret::file("/run/tls/client.key"));
/// # drop(http);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Http {
    proxy: ProxyChoice,
    authority: Option<Secret>,
    certificate: Option<(Secret, Secret)>,
    plain: bool,
}

#[derive(Clone, Debug, Default)]
enum ProxyChoice {
    #[default]
    Environment,
    None,
    Url(Secret),
}

impl Http {
    /// Returns the defaults.
    pub fn new() -> Http {
        Http::default()
    }

    /// Goes through an HTTP proxy, by CONNECT: `http://user:password@host:port`, with user and password percent-encoded if there
    /// are any. Defaults to what `ALL_PROXY`, `HTTPS_PROXY` or `HTTP_PROXY` name, but for the hosts in `NO_PROXY`.
    #[must_use]
    pub fn proxy(self, url: impl Into<Secret>) -> Http {
        Http { proxy: ProxyChoice::Url(url.into()), ..self }
    }

    /// Goes through no proxy, whatever the environment says. Defaults to [`proxy`](Http::proxy)'s default.
    #[must_use]
    pub fn no_proxy(self) -> Http {
        Http { proxy: ProxyChoice::None, ..self }
    }

    /// Trusts the certificates in this PEM, and those that they have signed, and no others. Defaults to the authorities that
    /// Mozilla trusts.
    #[must_use]
    pub fn authority(self, pem: impl Into<Secret>) -> Http {
        Http { authority: Some(pem.into()), ..self }
    }

    /// Shows a certificate (X.509 version 3, with its chain) and proves it with this key, both as PEM. They are read anew for each
    /// fetch. Defaults to none.
    #[must_use]
    pub fn client_certificate(self, chain: impl Into<Secret>, key: impl Into<Secret>) -> Http {
        Http { certificate: Some((chain.into(), key.into())), ..self }
    }

    /// Allows `http://` to hosts other than this one: every secret and token can be read on the way. Defaults to `https://` alone.
    #[must_use]
    pub fn allow_plain_http(self) -> Http {
        Http { plain: true, ..self }
    }

    pub(crate) fn has_client_certificate(&self) -> bool {
        self.certificate.is_some()
    }

    /// Tries everything that a request needs.
    pub(crate) fn check(&self) -> Result<(), BuildError> {
        self.make_agent().map(drop)
    }

    /// Returns whether an address can be asked.
    pub(crate) fn check_url(&self, setting: &'static str, url: &str) -> Result<(), BuildError> {
        let refused = |what: &str| Err(BuildError::new(setting, format!("{what}: `{}`", shown(url))));
        let Ok(parsed) = url.parse::<ureq::http::Uri>() else { return refused("is no URL") };
        let Some(host) = parsed.host().filter(|host| !host.is_empty()) else { return refused("names no host") };
        match parsed.scheme_str() {
            Some("https") => Ok(()),
            Some("http") if self.plain || matches!(host, "localhost" | "127.0.0.1" | "[::1]") => Ok(()),
            Some("http") => refused("begins with http, so that everybody on the way can read the secrets; use https"),
            _ => refused("has to begin with https://"),
        }
    }

    /// A new one for each request: what it is made of may have changed, and no connection is left to break.
    pub(super) fn make_agent(&self) -> Result<Agent, BuildError> {
        let proxy = match &self.proxy {
            ProxyChoice::Environment => Proxy::try_from_env(),
            ProxyChoice::None => None,
            ProxyChoice::Url(url) => {
                let url = read("proxy", url)?;
                let refused = || BuildError::new("proxy", "is no URL of an HTTP proxy, such as http://host:3128");
                let proxy =
                    Proxy::new(&url).ok().filter(|proxy| matches!(proxy.uri().scheme_str(), Some("http" | "https")));
                Some(proxy.ok_or_else(refused)?)
            }
        };
        let mut tls = TlsConfig::builder();
        if let Some(pem) = &self.authority {
            let authorities = authorities(&read("authority", pem)?)?;
            tls = tls.root_certs(RootCerts::from(authorities.iter().map(|der| Certificate::from_der(der).to_owned())));
        }
        if let Some((chain, key)) = &self.certificate {
            let (chain, key) = (read("client_certificate", chain)?, read("client_certificate", key)?);
            tls = tls.client_cert(Some(client_certificate(&chain, &key)?));
        }
        let config = Agent::config_builder()
            .proxy(proxy)
            .tls_config(tls.build())
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_idle_connections(0)
            .max_idle_connections_per_host(0)
            .user_agent(concat!("token-manager-issuers/", env!("CARGO_PKG_VERSION")))
            .accept("application/json");
        Ok(config.build().new_agent())
    }
}

fn read(setting: &'static str, secret: &Secret) -> Result<String, BuildError> {
    secret.read().map_err(|failure| BuildError::new(setting, failure.cause.to_string()))
}

/// Returns an address without what may be a secret.
fn shown(url: &str) -> &str {
    let end = url.find(['?', '#']).unwrap_or(url.len());
    if url.contains('@') { "(with user information)" } else { &url[..end] }
}

fn authorities(pem: &str) -> Result<Vec<CertificateDer<'static>>, BuildError> {
    let refused = |what: &str| BuildError::new("authority", format!("{what}; give a PEM with BEGIN CERTIFICATE"));
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let found = found.map_err(|_| refused("is no PEM"))?;
    let (added, _) = RootCertStore::empty().add_parsable_certificates(found.iter().cloned());
    if added == 0 || added < found.len() {
        return Err(refused("holds no certificate, or one that cannot be read"));
    }
    Ok(found)
}

/// Tries the pair out with rustls first: ureq would panic on one that does not fit.
fn client_certificate(chain: &str, key: &str) -> Result<ClientCert, BuildError> {
    let refused = |what: &str| BuildError::new("client_certificate", what);
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain.as_bytes()).collect();
    let parsed = parsed.ok().filter(|parsed| !parsed.is_empty());
    let parsed = parsed.ok_or_else(|| refused("the chain is no PEM with BEGIN CERTIFICATE"))?;
    let der = PrivateKeyDer::from_pem_slice(key.as_bytes())
        .map_err(|_| refused("the key is no PEM with an unencrypted private key"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| refused("this build has no TLS").because(error))?;
    config.with_root_certificates(RootCertStore::empty()).with_client_auth_cert(parsed.clone(), der).map_err(
        |error| {
            let advice = "cannot be used; the key has to fit the first certificate, and that has to be X.509 version 3 \
             (`openssl x509 -req` makes version 1 unless it is given -extfile)";
            refused(advice).because(error)
        },
    )?;
    let chain: Vec<_> = parsed.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    let key = PrivateKey::from_pem(key.as_bytes()).map_err(|_| refused("the key is no PEM with a private key"))?;
    Ok(ClientCert::new_with_certs(&chain, key))
}
