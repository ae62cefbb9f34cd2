//! Signed assertions (RFC 7519): RS256 and ES256, with keys as PEM.

use crate::failure::Failure;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Map, Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A private key that signs assertions.
pub(crate) enum SigningKey {
    Rs256(RsaKeyPair),
    Es256(EcdsaKeyPair),
}

impl SigningKey {
    /// Reads a key: RSA as PKCS#8 or PKCS#1, P-256 as PKCS#8. The text of the error says what to do.
    pub(crate) fn from_pem(pem: &str) -> Result<SigningKey, &'static str> {
        const WANTED: &str = "the key cannot be used: an RSA key of 2048 bits or more, or a P-256 key, is needed";
        if pem.contains("BEGIN ENCRYPTED PRIVATE KEY") || pem.contains("Proc-Type: 4,ENCRYPTED") {
            return Err("the key is encrypted: write it without a password, with `openssl pkcs8 -topk8 -nocrypt`");
        }
        match PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| "the key is no PEM with a private key")? {
            PrivateKeyDer::Pkcs1(der) => {
                RsaKeyPair::from_der(der.secret_pkcs1_der()).map(SigningKey::Rs256).map_err(|_| WANTED)
            }
            PrivateKeyDer::Pkcs8(der) => {
                let der = der.secret_pkcs8_der();
                if let Ok(key) = RsaKeyPair::from_pkcs8(der) {
                    return Ok(SigningKey::Rs256(key));
                }
                let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &SystemRandom::new());
                key.map(SigningKey::Es256).map_err(|_| WANTED)
            }
            PrivateKeyDer::Sec1(_) => Err(
                "the key begins with BEGIN EC PRIVATE KEY: turn it into PKCS#8 with `openssl pkcs8 -topk8 -nocrypt`",
            ),
            _ => Err(WANTED),
        }
    }

    /// Returns the name of its algorithm (RFC 7518 §3.1).
    pub(crate) fn algorithm(&self) -> &'static str {
        match self {
            SigningKey::Rs256(_) => "RS256",
            SigningKey::Es256(_) => "ES256",
        }
    }

    /// Returns the claims as a compact JWT.
    pub(crate) fn sign(&self, key_id: Option<&str>, claims: &Claims) -> Result<String, Failure> {
        let mut header = json!({ "alg": self.algorithm(), "typ": "JWT" });
        if let Some(key_id) = key_id {
            header["kid"] = key_id.into();
        }
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&Value::Object(claims.0.clone())));
        let (random, failed) = (SystemRandom::new(), |_| Failure::rejected("the key cannot sign"));
        let signature = match self {
            SigningKey::Rs256(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut signature).map_err(failed)?;
                signature
            }
            SigningKey::Es256(key) => key.sign(&random, signed.as_bytes()).map_err(failed)?.as_ref().to_vec(),
        };
        Ok(format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// What an assertion says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims(Map<String, Value>);

impl Claims {
    /// Says nothing yet.
    pub(crate) fn new() -> Claims {
        Claims::default()
    }

    /// Adds a claim, or replaces it.
    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Claims {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    /// Says when it was made (`iat`, so long ago, for issuers whose clock is behind) and when it ends (`exp`, so long from now).
    #[must_use]
    pub(crate) fn lasting(self, life: Duration, backdated: Duration) -> Claims {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.with("iat", now.saturating_sub(backdated).as_secs()).with("exp", (now + life).as_secs())
    }

    /// Gives it a number of its own (`jti`), so that an issuer can refuse to take it twice.
    pub(crate) fn unique(self) -> Result<Claims, Failure> {
        let mut number = [0; 16];
        SystemRandom::new().fill(&mut number).map_err(|_| Failure::unavailable("the system gives no random bytes"))?;
        Ok(self.with("jti", BASE64_URL_SAFE_NO_PAD.encode(number)))
    }
}
