//! What a builder's `build` refuses: the setting's name, and what to do about it.

use std::error::Error as StdError;
use std::fmt;

/// Why a source cannot be built: which setting is wrong, and what to do. Holds no secret.
#[derive(Debug)]
pub struct BuildError {
    setting: &'static str,
    message: String,
    cause: Option<Box<dyn StdError + Send + Sync>>,
}

impl BuildError {
    pub(crate) fn new(setting: &'static str, message: impl Into<String>) -> BuildError {
        BuildError { setting, message: message.into(), cause: None }
    }

    pub(crate) fn because(self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> BuildError {
        BuildError { cause: Some(cause.into()), ..self }
    }

    /// Returns the name of the builder's method whose setting is wrong.
    pub fn setting(&self) -> &'static str {
        self.setting
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.setting, self.message)
    }
}

impl StdError for BuildError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause.as_deref().map(|cause| cause as &(dyn StdError + 'static))
    }
}
