//! A place in a file of settings: what errors are about, and where secrets are looked for.

use crate::error::ConfigError;
use crate::text::Text;
use crate::value::{Origin, SecretAt};
use std::path::Path;
use std::{env, fs};
use token_manager_issuers::Secret;

/// A setting of a file, by its path.
#[derive(Clone)]
pub struct Place<'a> {
    text: &'a Text,
    allow_inline: bool,
    path: String,
}

impl<'a> Place<'a> {
    pub fn new(text: &'a Text, allow_inline: bool, path: &str) -> Place<'a> {
        Place { text, allow_inline, path: path.to_owned() }
    }

    /// Returns the setting of this name in this table.
    pub fn below(&self, name: &str) -> Place<'a> {
        Place { path: format!("{}.{name}", self.path), ..self.clone() }
    }

    pub fn error(&self, message: impl Into<String>) -> ConfigError {
        self.text.error(&self.path, message)
    }

    /// Makes an error about the setting of this name, if the table has it, else about the table.
    pub fn error_about(&self, word: &str, message: impl Into<String>) -> ConfigError {
        self.text.error_about(&self.path, word, message)
    }

    /// Returns the folder that relative paths begin in.
    pub fn folder(&self) -> &'a Path {
        self.text.folder()
    }

    /// Refuses a secret that stands in the file, unless that is allowed.
    pub fn check_inline(&self) -> Result<(), ConfigError> {
        match self.allow_inline {
            true => Ok(()),
            false => Err(self.error(
                "a secret stands in this file; write { file = \"path\" } or { env = \"VARIABLE\" }, or set \
                 allow_inline_secrets = true at the top",
            )),
        }
    }

    /// Returns the secret as sources read it, which is at each fetch.
    pub fn secret(&self, at: &SecretAt) -> Result<Secret, ConfigError> {
        let secret = match &at.origin {
            Origin::Inline(text) => {
                self.check_inline()?;
                Secret::text(text)
            }
            Origin::File(path) => Secret::file(self.folder().join(path)),
            Origin::Variable(name) => Secret::env(name),
        };
        match &at.or {
            Some(second) => Ok(secret.or(self.below("or").secret(second)?)),
            None => Ok(secret),
        }
    }
}

impl SecretAt {
    /// Reads it now; what goes wrong is told without it.
    pub fn read(&self, folder: &Path) -> Result<String, String> {
        let text = match &self.origin {
            Origin::Inline(text) => text.clone(),
            Origin::File(path) => {
                let path = folder.join(path);
                let unreadable = |error: std::io::Error| format!("{} cannot be read: {}", path.display(), error.kind());
                fs::read_to_string(&path).map_err(unreadable)?.trim_end_matches(['\r', '\n']).to_owned()
            }
            Origin::Variable(name) => {
                env::var(name).map_err(|_| format!("the environment variable {name} is not set, or is no text"))?
            }
        };
        if text.is_empty() { Err(format!("is empty: {self:?}")) } else { Ok(text) }
    }
}
