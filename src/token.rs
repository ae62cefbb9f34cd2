//! The token that callers hold, and the secret inside it. A secret is shown by one method alone, never by Debug.

use crate::clock::Moment;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A secret text, shared and never printed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Wraps a text that must not be printed.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into().into())
    }

    /// Returns the text. For implementors of [`Store`](crate::Store); everyone else has [`Token::secret`].
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// One grant of the issuer: a secret, its generation and its time.
///
/// Cloning shares the secret. The token stays readable after it has expired; [`expires_in`](Token::expires_in) tells.
#[derive(Clone)]
#[repr(transparent)]
pub struct Token(Arc<Grant>);

struct Grant {
    secret: Secret,
    /// The number of the token's name.
    name: u64,
    generation: u64,
    refresh_at: Moment,
    expires_at: Moment,
}

/// When a stale token is due. It goes into no slot, so nobody waits for it.
const NEVER: Moment = Moment { mono: u64::MAX, wall: u64::MAX };

impl Token {
    /// Makes a token of the name with this number.
    pub(crate) fn new(secret: Secret, name: u64, generation: u64, refresh_at: Moment, expires_at: Moment) -> Token {
        Token(Arc::new(Grant { secret, name, generation, refresh_at, expires_at }))
    }

    /// Returns the secret text, to be sent to the API.
    #[inline]
    pub fn secret(&self) -> &str {
        self.0.secret.reveal()
    }

    /// Returns the number of the grant: a newer token of the same name has a higher one, on every host and for ever.
    #[inline]
    pub fn generation(&self) -> u64 {
        self.0.generation
    }

    /// Returns how long the token may still be used, zero when it has expired. The safety margin
    /// ([`Builder::margin`](crate::Builder::margin), by default 5 % of the token's life, 5 seconds at most) is already
    /// taken off.
    pub fn expires_in(&self) -> Duration {
        Moment::now().until(self.0.expires_at)
    }

    /// Returns whether the token is past its end and served for want of a newer one, as [`Builder::serve_stale`](crate::Builder::serve_stale)
    /// allows.
    pub fn is_stale(&self) -> bool {
        self.0.refresh_at == NEVER
    }

    /// Returns the same token, marked as served past its end.
    pub(crate) fn stale(&self) -> Token {
        self.due_from(NEVER)
    }

    pub(crate) fn share_secret(&self) -> Secret {
        self.0.secret.clone()
    }

    /// Returns the number of the token's name.
    pub(crate) fn name(&self) -> u64 {
        self.0.name
    }

    #[inline]
    pub(crate) fn refresh_at(&self) -> Moment {
        self.0.refresh_at
    }

    #[inline]
    pub(crate) fn expires_at(&self) -> Moment {
        self.0.expires_at
    }

    /// Returns the same token to be refreshed from `refresh_at` on.
    pub(crate) fn due_from(&self, refresh_at: Moment) -> Token {
        let Grant { secret, name, generation, expires_at, .. } = &*self.0;
        Token::new(secret.clone(), *name, *generation, refresh_at, *expires_at)
    }

    /// Returns this token, out of use no later than the other one is by the monotonic clock.
    pub(crate) fn ending_no_later_than(&self, other: &Token) -> Token {
        let Grant { secret, name, generation, refresh_at, expires_at } = &*self.0;
        let cut = |moment: &Moment| Moment { mono: moment.mono.min(other.0.expires_at.mono), ..*moment };
        Token::new(secret.clone(), *name, *generation, cut(refresh_at), cut(expires_at))
    }

    /// Returns the same token under a reference count of its own, which no other thread writes.
    pub(crate) fn unshared(&self) -> Token {
        self.due_from(self.0.refresh_at)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("secret", &self.0.secret)
            .field("generation", &self.0.generation)
            .field("expires_in", &self.expires_in())
            .finish()
    }
}
