//! A token at hand.

use std::time::Duration;
use token_manager::Token;

/// A token that is valid now, unless it says otherwise.
pub struct Held {
    pub secret: String,
    pub generation: u64,
    pub expires_in: Duration,
    /// Past its end, and served for want of a newer one.
    pub is_stale: bool,
}

impl From<&Token> for Held {
    fn from(token: &Token) -> Held {
        Held {
            secret: token.secret().to_owned(),
            generation: token.generation(),
            expires_in: token.expires_in(),
            is_stale: token.is_stale(),
        }
    }
}
