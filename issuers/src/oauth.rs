//! What all OAuth 2.0 sources have in common: one builder, one source, and a grant that makes the difference.

pub(crate) mod client;
pub(crate) mod endpoint;
pub(crate) mod reply;

pub use client::Client;

use crate::error::BuildError;
use crate::http::Http;
use endpoint::{Endpoint, Location};
use std::fmt;
use std::time::Duration;
use token_manager::{Attempt, FetchError, Fetched, TokenSource};

/// Parameters that the source itself sets.
const RESERVED: [&str; 14] = [
    "grant_type",
    "client_id",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
    "assertion",
    "refresh_token",
    "subject_token",
    "subject_token_type",
    "actor_token",
    "actor_token_type",
    "requested_token_type",
    "scope",
    "code",
];

/// How a token is asked for. This crate's grants are all there are.
pub trait Grant: Send + Sync + 'static {
    /// Returns what `build` refuses.
    #[doc(hidden)]
    fn check(&self, endpoint: &Endpoint) -> Result<(), BuildError>;

    /// Asks the endpoint.
    #[doc(hidden)]
    fn ask(&self, endpoint: &Endpoint, attempt: &Attempt) -> Result<Fetched, FetchError>;
}

/// Collects the settings of an OAuth 2.0 source; [`build`](OAuthBuilder::build) makes it.
pub struct OAuthBuilder<G> {
    endpoint: Endpoint,
    pub(crate) grant: G,
}

impl<G: Grant> OAuthBuilder<G> {
    pub(crate) fn at(url: impl Into<String>, grant: G) -> OAuthBuilder<G> {
        OAuthBuilder::of(Location::At(url.into()), grant)
    }

    pub(crate) fn discover(issuer: impl Into<String>, grant: G) -> OAuthBuilder<G> {
        OAuthBuilder::of(Location::Of { issuer: issuer.into(), found: None.into() }, grant)
    }

    fn of(location: Location, grant: G) -> OAuthBuilder<G> {
        let default_life = Duration::from_secs(300);
        let endpoint = Endpoint { location, http: Http::new(), client: None, parameters: Vec::new(), default_life };
        OAuthBuilder { endpoint, grant }
    }

    /// Says who asks, and how it is proved. Defaults to nobody.
    #[must_use]
    pub fn client(mut self, client: Client) -> Self {
        self.endpoint.client = Some(client);
        self
    }

    /// Asks for these scopes, separated by spaces. Defaults to those that the issuer gives to this client by itself.
    #[must_use]
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.endpoint.parameters.retain(|(name, _)| name != "scope");
        self.endpoint.parameters.push(("scope".into(), scope.into()));
        self
    }

    /// Says for which API the token is, by the name that the issuer knows it by (`audience`; RFC 8693 §2.1 and many issuers'
    /// own). Can be called more than once. Defaults to none.
    #[must_use]
    pub fn audience(self, name: impl Into<String>) -> Self {
        self.with("audience", name.into())
    }

    /// Says for which API the token is, by its address (`resource`; RFC 8707). Can be called more than once. Defaults to none.
    #[must_use]
    pub fn resource(self, url: impl Into<String>) -> Self {
        self.with("resource", url.into())
    }

    /// Adds a parameter that this issuer wants. Defaults to none.
    #[must_use]
    pub fn parameter(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let name = name.into();
        self.with(&name, value.into())
    }

    /// Says how long a token lives whose answer does not say so: where `expires_in` is missing, is no number, or is zero or less,
    /// which some issuers write for "no end". A number in text counts as that number; a fraction counts to the millisecond; more
    /// than ten years are ten years. Defaults to 5 minutes.
    #[must_use]
    pub fn default_life(mut self, life: Duration) -> Self {
        self.endpoint.default_life = life;
        self
    }

    /// Says how the issuer is reached. Defaults to [`Http::new`].
    #[must_use]
    pub fn http(mut self, http: Http) -> Self {
        self.endpoint.http = http;
        self
    }

    /// Makes the source.
    ///
    /// # Errors
    /// When a setting cannot be used: the error names it and says what to do. Nobody is asked yet.
    pub fn build(self) -> Result<OAuth<G>, BuildError> {
        let OAuthBuilder { endpoint, grant } = self;
        endpoint.check()?;
        if endpoint.default_life < Duration::from_millis(1) {
            return Err(BuildError::new(
                "default_life",
                "is below a millisecond; give the life that the issuer documents",
            ));
        }
        let reserved = |name: &str| name != "scope" && RESERVED.contains(&name);
        if let Some((name, _)) = endpoint.parameters.iter().find(|(name, _)| reserved(name)) {
            let message = format!("`{name}` is set by the source itself; use the method for it");
            return Err(BuildError::new("parameter", message));
        }
        grant.check(&endpoint)?;
        Ok(OAuth { endpoint, grant })
    }

    fn with(mut self, name: &str, value: String) -> Self {
        self.endpoint.parameters.push((name.to_owned(), value));
        self
    }
}

impl<G> fmt::Debug for OAuthBuilder<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuthBuilder").field("client", &self.endpoint.client).finish_non_exhaustive()
    }
}

/// A source that asks an OAuth 2.0 issuer, by one of the grants of this crate.
pub struct OAuth<G> {
    endpoint: Endpoint,
    grant: G,
}

impl<G: Grant> TokenSource for OAuth<G> {
    fn fetch(&self, attempt: &Attempt) -> Result<Fetched, FetchError> {
        self.grant.ask(&self.endpoint, attempt)
    }
}

impl<G> fmt::Debug for OAuth<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuth").field("client", &self.endpoint.client).finish_non_exhaustive()
    }
}
