//! A token for which the issuer wants another token, which another manager keeps: a ticket, an exchanged token.

use crate::failure::Failure;
use std::fmt;
use token_manager::{Attempt, Error, ErrorKind, FailureClass, FetchError, Fetched, Token, TokenManager, TokenSource};

/// Why there is no derived token.
#[derive(Debug)]
#[non_exhaustive]
pub enum Denied {
    /// The issuer does not take the parent's token (HTTP 401): the parent is told, and asked for another one.
    ParentToken,
    /// Anything else.
    Failed(FetchError),
}

impl From<FetchError> for Denied {
    fn from(error: FetchError) -> Denied {
        Denied::Failed(error)
    }
}

impl From<Failure> for Denied {
    fn from(failure: Failure) -> Denied {
        Denied::Failed(failure.into())
    }
}

/// Asks for a token with the token of another manager, the parent.
///
/// ```
/// use std::time::Duration;
/// use token_manager::{Attempt, Fetched, MemoryStore, Token, TokenManager};
/// use token_manager_issuers::derived::{Denied, Derived};
///
/// let store = MemoryStore::new();
/// let source = |_: &Attempt| Ok(Fetched::new("parent", Duration::from_secs(7200)));
/// let parent = TokenManager::builder("parent").store(store.clone()).source(source).build()?;
///
/// let ask = |parent: &Token, _: &Attempt| -> Result<Fetched, Denied> {
///     Ok(Fetched::new(format!("ticket of {}", parent.secret()), Duration::from_secs(7200)))
/// };
/// let manager = TokenManager::builder("ticket").store(store).source(Derived::new(parent, ask)).build()?;
/// assert_eq!(manager.get()?.secret(), "ticket of parent");
/// # Ok::<(), token_manager::Error>(())
/// ```
///
/// Where the parent's token is refused, it is [invalidated](TokenManager::invalidate), and the question is asked once more with the
/// next one. If that is refused too, the credentials are rejected.
///
/// Where the parent has no token, nothing was asked with it. Refused credentials and a throttled parent stay what they are; all
/// else (a deadline, a store, a budget, an unknown outcome of the parent's own fetch) is unavailable. The parent's
/// [`retry_after`](Error::retry_after) is kept.
///
/// Both managers need names, and budgets, of their own. The parent's [`keep_fresh`](TokenManager::keep_fresh) spares the wait.
pub struct Derived<F> {
    parent: TokenManager,
    ask: F,
}

impl<F> Derived<F>
where
    F: Fn(&Token, &Attempt) -> Result<Fetched, Denied> + Send + Sync + 'static,
{
    /// Asks by `ask`, which may block and should give up within [`Attempt::remaining`], with the token of `parent`.
    pub fn new(parent: TokenManager, ask: F) -> Derived<F> {
        Derived { parent, ask }
    }

    fn token(&self, attempt: &Attempt) -> Result<Token, FetchError> {
        self.parent.get_within(attempt.remaining()).map_err(no_parent)
    }
}

impl<F> TokenSource for Derived<F>
where
    F: Fn(&Token, &Attempt) -> Result<Fetched, Denied> + Send + Sync + 'static,
{
    fn fetch(&self, attempt: &Attempt) -> Result<Fetched, FetchError> {
        let token = self.token(attempt)?;
        match (self.ask)(&token, attempt) {
            Ok(fetched) => return Ok(fetched),
            Err(Denied::Failed(error)) => return Err(error),
            Err(Denied::ParentToken) => self.parent.invalidate(&token),
        }
        match (self.ask)(&self.token(attempt)?, attempt) {
            Ok(fetched) => Ok(fetched),
            Err(Denied::Failed(error)) => Err(error),
            Err(Denied::ParentToken) => Err(FetchError::credentials_rejected(
                "the issuer refused the parent's token and its successor: check what the parent's tokens are for",
            )),
        }
    }
}

/// Returns what it means that the parent has no token.
fn no_parent(error: Error) -> FetchError {
    let class = match error.kind() {
        ErrorKind::Source(class @ (FailureClass::Throttled | FailureClass::CredentialsRejected)) => class,
        // Whatever became of the parent's own request, the issuer of the derived token was not asked.
        _ => FailureClass::Unavailable,
    };
    let pause = error.retry_after();
    Failure::new(class, error).retry_after(pause).into()
}

impl<F> fmt::Debug for Derived<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Derived").field("parent", &self.parent).finish_non_exhaustive()
    }
}
