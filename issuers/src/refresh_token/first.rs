//! The first refresh token, which a login of somebody's left as a secret, and whether this process may present it.

use super::carried::{Digest, digest_of};
use super::login::LoginNeeded;
use crate::failure::Failure;
use crate::secret::Secret;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use token_manager::FailureClass;

/// Where it is, and what became of the one that this process presented last, if it brought nothing: the store knows of those alone
/// that were followed by a commit.
pub struct First {
    pub secret: Secret,
    spent: Mutex<Option<(Digest, Spent)>>,
}

#[derive(Clone, Copy)]
enum Spent {
    Refused,
    /// Nobody knows what became of it.
    Presented(Instant),
}

impl First {
    pub fn new(secret: Secret) -> First {
        First { secret, spent: Mutex::new(None) }
    }

    pub fn read(&self) -> Result<FirstLogin, Failure> {
        let refresh = self.secret.read()?;
        Ok(FirstLogin { digest: digest_of(&refresh), refresh })
    }

    /// Returns why this process may not present it, if it may not.
    pub fn objection(&self, login: &FirstLogin, window: Duration) -> Option<LoginNeeded> {
        match self.spent(login)? {
            Spent::Refused => Some(LoginNeeded::Refused),
            Spent::Presented(at) => {
                let age = at.elapsed();
                (age >= window).then_some(LoginNeeded::Presented { age })
            }
        }
    }

    pub fn note_refused(&self, login: &FirstLogin) {
        self.note(login, Spent::Refused);
    }

    /// Takes note of a failure; only one after which nobody knows leaves it in doubt, since it was first presented.
    pub fn note_failure(&self, login: &FirstLogin, sent: Instant, failure: &Failure) {
        if failure.class == FailureClass::UnknownOutcome && self.spent(login).is_none() {
            self.note(login, Spent::Presented(sent));
        }
    }

    // Neither waits for the lock: a child forked while somebody held it would wait for ever.
    fn spent(&self, login: &FirstLogin) -> Option<Spent> {
        let spent = *self.spent.try_lock().ok()?;
        spent.filter(|(digest, _)| *digest == login.digest).map(|(_, spent)| spent)
    }

    fn note(&self, login: &FirstLogin, what: Spent) {
        if let Ok(mut spent) = self.spent.try_lock() {
            *spent = Some((login.digest, what));
        }
    }
}

/// What is in the secret now.
pub struct FirstLogin {
    pub refresh: String,
    pub digest: Digest,
}
