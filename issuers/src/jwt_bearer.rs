//! A token in exchange for a signed assertion (RFC 7523 §2.1).

use crate::error::BuildError;
use crate::failure::Failure;
use crate::jwt::{Claims, SigningKey};
use crate::oauth::client::check_key;
use crate::oauth::endpoint::Endpoint;
use crate::oauth::{Grant, OAuthBuilder};
use crate::secret::Secret;
use std::time::Duration;
use token_manager::{Attempt, FetchError, Fetched};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// RFC 7523 §3 leaves the longest life to the issuer; an hour is what the large ones take.
const MAX_LIFE: Duration = Duration::from_secs(3600);

/// A token in exchange for a signed assertion: a service account's, or one that a platform has signed.
///
/// ```
/// use token_manager_issuers::{JwtBearer, Secret};
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("missing.pem");
/// let source = JwtBearer::at("https://issuer.example.com/token")
///     .issuer("reports@project.example.com")
///     .key(Secret::file(path)) // a PEM
///     .claim("scope", "reports.read")
///     .build()?;
/// # drop(source);
/// # Ok::<(), token_manager_issuers::BuildError>(())
/// ```
#[derive(Debug)]
pub struct JwtBearer {
    ready: Option<Secret>,
    key: Option<Secret>,
    key_id: Option<String>,
    issuer: Option<String>,
    subject: Option<String>,
    audience: Option<String>,
    claims: Vec<(String, String)>,
    life: Duration,
}

impl JwtBearer {
    /// Asks this token endpoint.
    pub fn at(url: impl Into<String>) -> OAuthBuilder<JwtBearer> {
        OAuthBuilder::at(url, JwtBearer::new())
    }

    /// Asks the token endpoint that this issuer names (RFC 8414); it is looked up once an hour.
    pub fn discover(issuer: impl Into<String>) -> OAuthBuilder<JwtBearer> {
        OAuthBuilder::discover(issuer, JwtBearer::new())
    }

    fn new() -> JwtBearer {
        JwtBearer {
            ready: None,
            key: None,
            key_id: None,
            issuer: None,
            subject: None,
            audience: None,
            claims: Vec::new(),
            life: Duration::from_secs(60),
        }
    }
}

impl OAuthBuilder<JwtBearer> {
    /// Signs an assertion for each request with this key, a PEM: RSA as PKCS#8 or PKCS#1 (RS256), P-256 as PKCS#8 (ES256).
    #[must_use]
    pub fn key(mut self, pem: impl Into<Secret>) -> Self {
        self.grant.key = Some(pem.into());
        self
    }

    /// Names the key in the assertion's header (`kid`). Defaults to no name.
    #[must_use]
    pub fn key_id(mut self, name: impl Into<String>) -> Self {
        self.grant.key_id = Some(name.into());
        self
    }

    /// Says who signs (`iss`). It has to be set with a key.
    #[must_use]
    pub fn issuer(mut self, name: impl Into<String>) -> Self {
        self.grant.issuer = Some(name.into());
        self
    }

    /// Says for whom the token is (`sub`). Defaults to who signs.
    #[must_use]
    pub fn subject(mut self, name: impl Into<String>) -> Self {
        self.grant.subject = Some(name.into());
        self
    }

    /// Says for whom the assertion is (`aud`). Defaults to the issuer's name where that is known by discovery, else to the address of
    /// its token endpoint.
    #[must_use]
    pub fn assertion_audience(mut self, name: impl Into<String>) -> Self {
        self.grant.audience = Some(name.into());
        self
    }

    /// Adds a claim that this issuer wants. Defaults to none.
    #[must_use]
    pub fn claim(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.grant.claims.push((name.into(), value.into()));
        self
    }

    /// Says how long an assertion can be used, an hour at most. Defaults to a minute.
    #[must_use]
    pub fn assertion_life(mut self, life: Duration) -> Self {
        self.grant.life = life;
        self
    }

    /// Sends an assertion that somebody else has signed, instead of signing one. Defaults to none.
    #[must_use]
    pub fn assertion(mut self, assertion: impl Into<Secret>) -> Self {
        self.grant.ready = Some(assertion.into());
        self
    }
}

impl Grant for JwtBearer {
    fn check(&self, _: &Endpoint) -> Result<(), BuildError> {
        match (&self.ready, &self.key) {
            (Some(assertion), None) => return assertion.check("assertion"),
            (None, Some(key)) => check_key("key", key)?,
            (None, None) => {
                return Err(BuildError::new("key", "is not set; give a key, or an assertion that is signed already"));
            }
            (Some(_), Some(_)) => return Err(BuildError::new("key", "is set, and an assertion too; give one of them")),
        }
        if self.issuer.as_ref().is_none_or(String::is_empty) {
            return Err(BuildError::new("issuer", "is not set; say who signs, as the other side knows it"));
        }
        if !(Duration::from_secs(1)..=MAX_LIFE).contains(&self.life) {
            let message = format!("is {:?}; an assertion can last from one second to {MAX_LIFE:?}", self.life);
            return Err(BuildError::new("assertion_life", message));
        }
        let own = ["iss", "sub", "aud", "iat", "exp", "jti"];
        match self.claims.iter().find(|(name, _)| own.contains(&name.as_str())) {
            Some((name, _)) => Err(BuildError::new("claim", format!("`{name}` is set by the source itself"))),
            None => Ok(()),
        }
    }

    fn ask(&self, endpoint: &Endpoint, attempt: &Attempt) -> Result<Fetched, FetchError> {
        let send = |assertion: &str| endpoint.ask(&[("grant_type", GRANT), ("assertion", assertion)], attempt);
        let tokens = match (&self.ready, &self.key) {
            (Some(assertion), _) => assertion.try_each(send),
            (None, Some(key)) => key.try_each(|key| send(&self.sign(key, endpoint, attempt)?)),
            (None, None) => Err(Failure::rejected("there is no key")),
        }?;
        Ok(Fetched::new(tokens.access, tokens.life))
    }
}

impl JwtBearer {
    fn sign(&self, key: &str, endpoint: &Endpoint, attempt: &Attempt) -> Result<String, Failure> {
        let key = SigningKey::from_pem(key).map_err(Failure::rejected)?;
        let issuer = self.issuer.as_deref().unwrap_or_default();
        let audience = self.audience.clone().map_or_else(|| endpoint.audience(attempt.remaining()), Ok)?;
        let claims = self.claims.iter().fold(Claims::new(), |claims, (name, value)| claims.with(name, &**value));
        let claims =
            claims.with("iss", issuer).with("sub", self.subject.as_deref().unwrap_or(issuer)).with("aud", audience);
        key.sign(self.key_id.as_deref(), &claims.lasting(self.life, Duration::ZERO).unique()?)
    }
}
