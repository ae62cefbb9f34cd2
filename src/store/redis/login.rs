//! As whom one logs in.

use crate::token::Secret;

/// A user and a password, each of which may be absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Login {
    user: Option<String>,
    password: Option<Secret>,
}

impl Login {
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
