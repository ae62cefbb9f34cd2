//! A source whatever its kind.

use std::fmt;
use token_manager::{Attempt, FetchError, Fetched, TokenSource};

/// A source whose kind is known at run time only.
pub struct AnySource(Box<dyn TokenSource>);

impl AnySource {
    /// Takes any source.
    pub fn new(source: impl TokenSource) -> AnySource {
        AnySource(Box::new(source))
    }
}

impl TokenSource for AnySource {
    fn fetch(&self, attempt: &Attempt) -> Result<Fetched, FetchError> {
        self.0.fetch(attempt)
    }
}

impl fmt::Debug for AnySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnySource")
    }
}
