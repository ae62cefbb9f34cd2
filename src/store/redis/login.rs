//! As whom one logs in: what the URL says, or what the program says each time.

use crate::store::{StoreError, StoreErrorKind};
use crate::token::Secret;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

/// A user and a password of Redis. Debug does not show the password.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Login {
    user: Option<String>,
    password: Option<Secret>,
}

impl Login {
    /// Makes the login of a user of the server's ACL.
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Login {
        Login { user: Some(user.into()), password: Some(Secret::new(password)) }
    }

    /// Makes the login of the URL's user, or of the default user where it names none.
    pub fn with_password(password: impl Into<String>) -> Login {
        Login { user: None, password: Some(Secret::new(password)) }
    }

    pub(super) fn from_url(user: Option<&str>, password: Option<&str>) -> Login {
        Login { user: user.map(Into::into), password: password.map(Secret::new) }
    }

    pub(super) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    pub(super) fn password(&self) -> Option<&str> {
        self.password.as_ref().map(Secret::reveal)
    }
}

/// Gives a login for each connection.
pub type Credentials = Arc<dyn Fn() -> Result<Login, StoreError> + Send + Sync>;

/// Where logins come from.
pub struct Logins {
    pub from_url: Login,
    pub credentials: Option<Credentials>,
}

impl Logins {
    /// Returns whether another login may be had by asking again.
    pub fn may_change(&self) -> bool {
        self.credentials.is_some()
    }

    pub fn next(&self) -> Result<Login, StoreError> {
        let Some(credentials) = &self.credentials else { return Ok(self.from_url.clone()) };
        let login = catch_unwind(AssertUnwindSafe(|| credentials()));
        let panicked = |_| Err(StoreError::new(StoreErrorKind::Other, "what gives the credentials of Redis panicked"));
        let mut login = login.unwrap_or_else(panicked)?;
        if login.user.is_none() {
            login.user.clone_from(&self.from_url.user);
        }
        Ok(login)
    }
}

/// Reads a password, or a user and a password on a line each.
pub fn read(path: &Path) -> Result<Login, StoreError> {
    let denied = |message: &str| StoreError::new(StoreErrorKind::Denied, format!("{message}: {}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| {
        denied("the file with the credentials of Redis cannot be read").because(error.kind().to_string())
    })?;
    match text.lines().collect::<Vec<_>>()[..] {
        [password] if !password.is_empty() => Ok(Login::with_password(password)),
        [user, password] if !user.is_empty() && !password.is_empty() => Ok(Login::new(user, password)),
        _ => Err(denied(
            "the file with the credentials of Redis must hold a password, or a user and a password on a line each",
        )),
    }
}
