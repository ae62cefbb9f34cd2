//! What a new login brings, and how a fetch says that one is needed.

use std::fmt;
use std::time::Duration;
use token_manager::Fetched;

/// What a bootstrap hook brings.
pub enum Login {
    /// A refresh token that nobody has presented yet; the source presents it at once.
    RefreshToken(String),
    /// A token, with its refresh token as its [carry](Fetched::carry).
    Tokens(Fetched),
}

impl Login {
    /// Takes a refresh token that nobody has presented yet.
    pub fn refresh_token(token: impl Into<String>) -> Login {
        Login::RefreshToken(token.into())
    }
}

impl From<Fetched> for Login {
    fn from(fetched: Fetched) -> Login {
        Login::Tokens(fetched)
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Login::RefreshToken(_) => "RefreshToken(…)",
            Login::Tokens(_) => "Tokens(…)",
        })
    }
}

/// Nobody can fetch a token before somebody logs in: the [`source`](std::error::Error::source) of the error that callers get, where
/// there is no bootstrap hook.
///
/// ```
/// use std::error::Error;
/// use token_manager_issuers::LoginNeeded;
///
/// fn needs_login(error: &token_manager::Error) -> bool {
///     error.source().is_some_and(|cause| cause.is::<LoginNeeded>())
/// }
/// # drop(needs_login);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoginNeeded {
    /// The store has no refresh token: nobody has logged in yet, or the store has lost it.
    NoRefreshToken,
    /// It was presented so long ago, nobody knows what became of that, and the issuer would take it for stolen if it saw it again.
    Presented {
        /// How long ago it was first presented.
        age: Duration,
    },
    /// The issuer refuses it (`invalid_grant`): it has expired, or it or its grant was revoked.
    Refused,
}

impl fmt::Display for LoginNeeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self {
            LoginNeeded::NoRefreshToken => "there is no refresh token".to_owned(),
            LoginNeeded::Presented { age } => {
                format!(
                    "the refresh token was presented {age:.1?} ago with an unknown outcome, outside the reuse window"
                )
            }
            LoginNeeded::Refused => "the issuer refuses the refresh token".to_owned(),
        };
        write!(f, "{why}; log in anew")
    }
}

impl std::error::Error for LoginNeeded {}
