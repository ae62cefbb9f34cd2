//! The first refresh token, which a login of somebody's left as a secret.

use crate::refresh_token::Login;
use crate::secret::Secret;
use token_manager::{Attempt, FetchError};

/// Brings the secret where the store has no refresh token. Where it has one that may not be presented any more, the secret is brought
/// only if it has been replaced since: the one from before was presented before, and an issuer that sees it again revokes
/// what came of it.
pub(super) struct FirstLogin {
    secret: Secret,
    at_start: Option<String>,
}

impl FirstLogin {
    pub(super) fn new(secret: Secret) -> FirstLogin {
        let at_start = secret.read().ok();
        FirstLogin { secret, at_start }
    }

    pub(super) fn log_in(&self, attempt: &Attempt) -> Result<Login, FetchError> {
        let token = self.secret.read()?;
        match attempt.carry().is_some() && self.at_start.as_ref() == Some(&token) {
            true => Err(FetchError::credentials_rejected(
                "the refresh token may not be presented any more; log in anew and replace the first_refresh_token",
            )),
            false => Ok(Login::refresh_token(token)),
        }
    }
}
