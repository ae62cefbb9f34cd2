//! A secret and where it comes from: a text, a file or an environment variable, read anew for each fetch, so that it changes
//! without a restart; and a second one that is tried once where the first is refused.

use crate::error::BuildError;
use crate::failure::Failure;
use std::path::PathBuf;
use std::sync::Arc;
use std::{env, fmt, fs};
use token_manager::FailureClass;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A client's secret, a key or a certificate. Its Debug shows where it comes from and never what it is.
///
/// ```
/// use token_manager_issuers::Secret;
///
/// let now = Secret::file("/run/secrets/client"); // replaced by whoever rotates it
/// let both = Secret::env("CLIENT_SECRET_BLUE").or(Secret::env("CLIENT_SECRET_GREEN"));
/// # drop((now, both));
/// ```
#[derive(Clone)]
pub struct Secret {
    origin: Origin,
    second: Option<Box<Secret>>,
}

#[derive(Clone)]
enum Origin {
    Text(String),
    File(PathBuf),
    Variable(String),
    Function(Arc<dyn Fn() -> Result<String, Cause> + Send + Sync>),
}

impl Secret {
    /// Takes the secret itself.
    pub fn text(secret: impl Into<String>) -> Secret {
        Origin::Text(secret.into()).into()
    }

    /// Takes the name of a file that holds the secret. It is read for each fetch; a line end behind the secret is none of it.
    pub fn file(path: impl Into<PathBuf>) -> Secret {
        Origin::File(path.into()).into()
    }

    /// Takes the name of an environment variable that holds the secret. It is read for each fetch.
    pub fn env(name: impl Into<String>) -> Secret {
        Origin::Variable(name.into()).into()
    }

    /// Takes a function that returns the secret, such as one that asks another manager for its token. It is called for each fetch,
    /// on the fetch's thread and within its limit; what its error says must hold no secret.
    pub fn from_fn<F, E>(function: F) -> Secret
    where
        F: Fn() -> Result<String, E> + Send + Sync + 'static,
        E: Into<Cause>,
    {
        Origin::Function(Arc::new(move || function().map_err(Into::into))).into()
    }

    /// Adds a second one that is tried once, in the same fetch, where the issuer refuses this one or it cannot be read: while a
    /// secret is replaced, both are at hand. It takes the place of an earlier second one. Defaults to none.
    #[must_use]
    pub fn or(self, second: Secret) -> Secret {
        Secret { second: Some(Box::new(Secret { second: None, ..second })), ..self }
    }

    /// Returns whether there is a second one.
    pub(crate) fn has_second(&self) -> bool {
        self.second.is_some()
    }

    /// Reads it. The failure tells where it was looked for.
    pub(crate) fn read(&self) -> Result<String, Failure> {
        let secret = match &self.origin {
            Origin::Text(secret) => secret.clone(),
            Origin::File(path) => {
                let text = fs::read_to_string(path).map_err(|error| {
                    Failure::rejected(format!("the secret's file {} cannot be read: {}", path.display(), error.kind()))
                })?;
                text.trim_end_matches(['\r', '\n']).to_owned()
            }
            Origin::Variable(name) => env::var(name).map_err(|_| {
                Failure::rejected(format!("the secret's environment variable {name} is not set, or is no text"))
            })?,
            Origin::Function(function) => function().map_err(Failure::unavailable)?,
        };
        if secret.is_empty() {
            return Err(Failure::rejected(format!("the secret is empty: {self:?}")));
        }
        Ok(secret)
    }

    /// Reads it while a source is built. A file or variable that is not there yet is none of `build`'s business: whoever provides
    /// it may come later.
    pub(crate) fn check(&self, setting: &'static str) -> Result<(), BuildError> {
        match &self.origin {
            Origin::Text(text) if text.is_empty() => Err(BuildError::new(setting, "is empty; give the secret")),
            _ => self.second.as_ref().map_or(Ok(()), |second| second.check(setting)),
        }
    }

    /// Calls with the secret and, where that is refused, once more with the second.
    pub(crate) fn try_each<T>(&self, mut call: impl FnMut(&str) -> Result<T, Failure>) -> Result<T, Failure> {
        let first = self.read().and_then(|secret| call(&secret));
        match (&self.second, first) {
            (Some(second), Err(failure)) if failure.class == FailureClass::CredentialsRejected => {
                log::info!("the first of two secrets is refused ({}); trying the second", failure.cause);
                second.read().and_then(|secret| call(&secret))
            }
            (_, first) => first,
        }
    }
}

impl From<Origin> for Secret {
    fn from(origin: Origin) -> Secret {
        Secret { origin, second: None }
    }
}

impl From<&str> for Secret {
    fn from(secret: &str) -> Secret {
        Secret::text(secret)
    }
}

impl From<String> for Secret {
    fn from(secret: String) -> Secret {
        Secret::text(secret)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Text(_) => f.write_str("Secret::text(…)")?,
            Origin::File(path) => write!(f, "Secret::file({path:?})")?,
            Origin::Variable(name) => write!(f, "Secret::env({name:?})")?,
            Origin::Function(_) => f.write_str("Secret::from_fn(…)")?,
        }
        self.second.as_ref().map_or(Ok(()), |second| write!(f, ".or({second:?})"))
    }
}
