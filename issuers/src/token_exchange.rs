//! A token in exchange for another one (RFC 8693).

use crate::error::BuildError;
use crate::oauth::endpoint::Endpoint;
use crate::oauth::{Grant, OAuthBuilder};
use crate::secret::Secret;
use token_manager::{Attempt, FetchError, Fetched};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// What kind of token is exchanged, or wanted (RFC 8693 §3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenType(String);

impl TokenType {
    /// An OAuth 2.0 access token.
    pub fn access_token() -> TokenType {
        TokenType::named("access_token")
    }

    /// A JWT, whatever it is for.
    pub fn jwt() -> TokenType {
        TokenType::named("jwt")
    }

    /// An OpenID Connect ID token.
    pub fn id_token() -> TokenType {
        TokenType::named("id_token")
    }

    /// An OAuth 2.0 refresh token.
    pub fn refresh_token() -> TokenType {
        TokenType::named("refresh_token")
    }

    /// A kind that goes by a URI of its own.
    pub fn of(uri: impl Into<String>) -> TokenType {
        TokenType(uri.into())
    }

    fn named(name: &str) -> TokenType {
        TokenType(format!("urn:ietf:params:oauth:token-type:{name}"))
    }
}

/// A token in exchange for another one: a user's, a platform's, or another manager's.
///
/// ```
/// use token_manager_issuers::{Client, Secret, TokenExchange, TokenType};
///
/// let source = TokenExchange::at("https://issuer.example.com/token")
///     .client(Client::basic("billing", Secret::env("BILLING_SECRET")))
///     .subject(Secret::file("/var/run/secrets/workload-token"), TokenType::jwt())
///     .audience("invoices")
///     .build()?;
/// # drop(source);
/// # Ok::<(), token_manager_issuers::BuildError>(())
/// ```
#[derive(Debug)]
pub struct TokenExchange {
    subject: Option<(Secret, TokenType)>,
    actor: Option<(Secret, TokenType)>,
    wanted: Option<TokenType>,
}

impl TokenExchange {
    /// Asks this token endpoint.
    pub fn at(url: impl Into<String>) -> OAuthBuilder<TokenExchange> {
        OAuthBuilder::at(url, TokenExchange { subject: None, actor: None, wanted: None })
    }

    /// Asks the token endpoint that this issuer names (RFC 8414); it is looked up once an hour.
    pub fn discover(issuer: impl Into<String>) -> OAuthBuilder<TokenExchange> {
        OAuthBuilder::discover(issuer, TokenExchange { subject: None, actor: None, wanted: None })
    }
}

impl OAuthBuilder<TokenExchange> {
    /// Says for whom the token is, by a token of theirs. [`Secret::from_fn`] takes another manager's. It has to be set.
    #[must_use]
    pub fn subject(mut self, token: impl Into<Secret>, kind: TokenType) -> Self {
        self.grant.subject = Some((token.into(), kind));
        self
    }

    /// Says who acts for them, by a token of theirs. Defaults to nobody.
    #[must_use]
    pub fn actor(mut self, token: impl Into<Secret>, kind: TokenType) -> Self {
        self.grant.actor = Some((token.into(), kind));
        self
    }

    /// Says what kind of token is wanted. Defaults to what the issuer chooses.
    #[must_use]
    pub fn wanted(mut self, kind: TokenType) -> Self {
        self.grant.wanted = Some(kind);
        self
    }
}

impl Grant for TokenExchange {
    fn check(&self, _: &Endpoint) -> Result<(), BuildError> {
        match &self.subject {
            None => return Err(BuildError::new("subject", "is not set; give the token that is to be exchanged")),
            Some((token, _)) => token.check("subject")?,
        }
        self.actor.as_ref().map_or(Ok(()), |(token, _)| token.check("actor"))
    }

    fn ask(&self, endpoint: &Endpoint, attempt: &Attempt) -> Result<Fetched, FetchError> {
        let mut form = vec![("grant_type", GRANT.to_owned())];
        let named =
            [(&self.subject, "subject_token", "subject_token_type"), (&self.actor, "actor_token", "actor_token_type")];
        for (given, token_name, kind_name) in named {
            if let Some((token, kind)) = given {
                form.extend([(token_name, token.read()?), (kind_name, kind.0.clone())]);
            }
        }
        form.extend(self.wanted.iter().map(|kind| ("requested_token_type", kind.0.clone())));
        let form: Vec<_> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let tokens = endpoint.ask(&form, attempt)?;
        Ok(Fetched::new(tokens.access, tokens.life))
    }
}
