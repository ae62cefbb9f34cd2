//! The client's own token (RFC 6749 §4.4).

use crate::error::BuildError;
use crate::oauth::endpoint::Endpoint;
use crate::oauth::{Grant, OAuthBuilder};
use token_manager::{Attempt, FetchError, Fetched};

/// A token for the client itself, in exchange for nothing but its proof of who it is.
///
/// ```
/// use token_manager_issuers::{Client, ClientCredentials, Secret};
///
/// let source = ClientCredentials::at("https://issuer.example.com/token")
///     .client(Client::basic("billing", Secret::env("BILLING_SECRET")))
///     .scope("invoices:read")
///     .build()?;
/// # drop(source);
/// # Ok::<(), token_manager_issuers::BuildError>(())
/// ```
#[derive(Debug)]
pub struct ClientCredentials(());

impl ClientCredentials {
    /// Asks this token endpoint.
    pub fn at(url: impl Into<String>) -> OAuthBuilder<ClientCredentials> {
        OAuthBuilder::at(url, ClientCredentials(()))
    }

    /// Asks the token endpoint that this issuer names (RFC 8414); it is looked up once an hour.
    pub fn discover(issuer: impl Into<String>) -> OAuthBuilder<ClientCredentials> {
        OAuthBuilder::discover(issuer, ClientCredentials(()))
    }
}

impl Grant for ClientCredentials {
    fn check(&self, endpoint: &Endpoint) -> Result<(), BuildError> {
        endpoint.check_has_client()
    }

    fn ask(&self, endpoint: &Endpoint, attempt: &Attempt) -> Result<Fetched, FetchError> {
        let tokens = endpoint.ask(&[("grant_type", "client_credentials")], attempt)?;
        Ok(Fetched::new(tokens.access, tokens.life))
    }
}
