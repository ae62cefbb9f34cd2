//! What is wrong with a file of settings: the file, the line, the setting, and what to do. Holds no secret.

use std::fmt;
use std::path::{Path, PathBuf};

/// What is wrong with a file of settings: where, and what to do. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    file: PathBuf,
    line: Option<usize>,
    setting: String,
    message: String,
}

impl ConfigError {
    pub(crate) fn new(
        file: &Path,
        line: Option<usize>,
        setting: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        ConfigError { file: file.to_owned(), line, setting: setting.into(), message: message.into() }
    }

    /// Returns the file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Returns the line, counted from one, where one can be named.
    pub fn line(&self) -> Option<usize> {
        self.line
    }

    /// Returns the setting as a path with dots, such as `tokens.billing.lease`; empty where the file itself is meant.
    pub fn setting(&self) -> &str {
        &self.setting
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        match self.setting.is_empty() {
            true => write!(f, " {}", self.message),
            false => write!(f, " {}: {}", self.setting, self.message),
        }
    }
}

impl std::error::Error for ConfigError {}
