//! Who asks: the client's name, and how it proves that it is the client (RFC 6749 §2.3, RFC 7523 §2.2, RFC 8705 §2).

use crate::error::BuildError;
use crate::failure::Failure;
use crate::http::Http;
use crate::jwt::{Claims, SigningKey};
use crate::secret::Secret;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use form_urlencoded::byte_serialize;
use std::time::Duration;

/// How long an assertion of a client can be used: just for its one request.
const ASSERTION_LIFE: Duration = Duration::from_secs(60);
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// An OAuth client: its name, and how it proves to be itself.
#[derive(Clone, Debug)]
pub struct Client {
    id: String,
    proof: Proof,
}

#[derive(Clone, Debug)]
enum Proof {
    None,
    Header(Secret),
    Body(Secret),
    Key { key: Secret, key_id: Option<String>, audience: Option<String> },
    Assertion(Secret),
    Certificate,
}

impl Client {
    /// Sends the secret in a header (`client_secret_basic`), name and secret form-encoded as RFC 6749 §2.3.1 asks. This is what
    /// every issuer has to understand.
    pub fn basic(id: impl Into<String>, secret: impl Into<Secret>) -> Client {
        Client { id: id.into(), proof: Proof::Header(secret.into()) }
    }

    /// Sends the secret in the body (`client_secret_post`).
    pub fn post(id: impl Into<String>, secret: impl Into<Secret>) -> Client {
        Client { id: id.into(), proof: Proof::Body(secret.into()) }
    }

    /// Signs an assertion for each request (`private_key_jwt`), with RS256 or ES256, whichever the key is for. The key is a PEM:
    /// RSA as PKCS#8 or PKCS#1, P-256 as PKCS#8.
    pub fn private_key(id: impl Into<String>, key: impl Into<Secret>) -> Client {
        Client { id: id.into(), proof: Proof::Key { key: key.into(), key_id: None, audience: None } }
    }

    /// Sends an assertion that somebody else has signed, such as the one that a platform keeps in a file for each workload.
    pub fn assertion(id: impl Into<String>, assertion: impl Into<Secret>) -> Client {
        Client { id: id.into(), proof: Proof::Assertion(assertion.into()) }
    }

    /// Is known by the [certificate](Http::client_certificate) that the connection shows (`tls_client_auth`,
    /// `self_signed_tls_client_auth`).
    pub fn certificate(id: impl Into<String>) -> Client {
        Client { id: id.into(), proof: Proof::Certificate }
    }

    /// Has a name and proves nothing (`none`): a public client.
    pub fn public(id: impl Into<String>) -> Client {
        Client { id: id.into(), proof: Proof::None }
    }

    /// Names the key in the assertion's header (`kid`). Concerns [`private_key`](Client::private_key). Defaults to no name.
    #[must_use]
    pub fn key_id(mut self, name: impl Into<String>) -> Client {
        if let Proof::Key { key_id, .. } = &mut self.proof {
            *key_id = Some(name.into());
        }
        self
    }

    /// Says for whom the assertion is (`aud`). Concerns [`private_key`](Client::private_key). Defaults to the issuer's name where
    /// that is known by discovery, else to the address of its token endpoint.
    #[must_use]
    pub fn audience(mut self, name: impl Into<String>) -> Client {
        if let Proof::Key { audience, .. } = &mut self.proof {
            *audience = Some(name.into());
        }
        self
    }

    pub(crate) fn shows_certificate(&self) -> bool {
        matches!(self.proof, Proof::Certificate)
    }

    pub(crate) fn check(&self, http: &Http) -> Result<(), BuildError> {
        let refused = |what: &str| Err(BuildError::new("client", what));
        if self.id.is_empty() {
            return refused("its id is empty; give the name that the issuer has registered");
        }
        match &self.proof {
            Proof::None => Ok(()),
            Proof::Certificate if http.has_client_certificate() => Ok(()),
            Proof::Certificate => refused("is to be known by its certificate; give that with Http::client_certificate"),
            Proof::Header(secret) | Proof::Body(secret) | Proof::Assertion(secret) => secret.check("client"),
            // A key that is at hand can be tried out.
            Proof::Key { key, .. } => check_key("client", key),
        }
    }

    /// Calls with what is to be sent; once more with the second secret, key or assertion where the first is refused.
    pub(crate) fn prove<T>(
        &self,
        audience: &str,
        mut send: impl FnMut(Credentials) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let id = || vec![("client_id", self.id.clone())];
        match &self.proof {
            Proof::None | Proof::Certificate => send(Credentials { header: None, form: id() }),
            Proof::Header(secret) => secret.try_each(|secret| {
                let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
                let pair = format!("{}:{}", encoded(&self.id), encoded(secret));
                send(Credentials { header: Some(format!("Basic {}", BASE64_STANDARD.encode(pair))), form: Vec::new() })
            }),
            Proof::Body(secret) => secret.try_each(|secret| {
                let mut form = id();
                form.push(("client_secret", secret.to_owned()));
                send(Credentials { header: None, form })
            }),
            Proof::Key { key, key_id, audience: own } => key.try_each(|key| {
                let key = SigningKey::from_pem(key).map_err(Failure::rejected)?;
                let claims = Claims::new().with("iss", &*self.id).with("sub", &*self.id);
                let claims = claims.with("aud", own.as_deref().unwrap_or(audience));
                let claims = claims.lasting(ASSERTION_LIFE, Duration::ZERO).unique()?;
                send(self.asserted(key.sign(key_id.as_deref(), &claims)?))
            }),
            Proof::Assertion(assertion) => assertion.try_each(|assertion| send(self.asserted(assertion.to_owned()))),
        }
    }

    fn asserted(&self, assertion: String) -> Credentials {
        let kind = ("client_assertion_type", ASSERTION_TYPE.to_owned());
        let form = vec![("client_id", self.id.clone()), kind, ("client_assertion", assertion)];
        Credentials { header: None, form }
    }
}

/// What is sent to prove who asks.
#[derive(Default)]
pub(crate) struct Credentials {
    /// The value of `Authorization`.
    pub(crate) header: Option<String>,
    pub(crate) form: Vec<(&'static str, String)>,
}

/// Refuses a key that is there and cannot be used.
pub(crate) fn check_key(setting: &'static str, key: &Secret) -> Result<(), BuildError> {
    key.check(setting)?;
    match key.read() {
        Ok(pem) => SigningKey::from_pem(&pem).map(drop).map_err(|what| BuildError::new(setting, what)),
        Err(_) => Ok(()),
    }
}
