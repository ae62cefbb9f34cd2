//! The text of a file of settings: which line a setting is on, and which setting is at a place. Knows nothing of tokens.

use crate::error::ConfigError;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A file's path and text.
pub struct Text {
    pub path: PathBuf,
    pub text: String,
}

impl Text {
    /// Makes an error about a setting, on the line of the longest part of its path that the file has.
    pub fn error(&self, setting: &str, message: impl Into<String>) -> ConfigError {
        ConfigError::new(&self.path, self.line_of(setting), setting, message)
    }

    /// Makes an error about what a message of a builder begins with, if that word is a setting below this one, else about this one.
    pub fn error_about(&self, setting: &str, word: &str, message: impl Into<String>) -> ConfigError {
        let below = format!("{setting}.{word}");
        match self.find(&below) {
            (_, true) => self.error(&below, message),
            _ => self.error(setting, message),
        }
    }

    /// Translates what the reader of TOML says, without what it quotes.
    pub fn unreadable(&self, error: &toml::de::Error) -> ConfigError {
        let at = error.span().map(|span| span.start);
        let setting = at.map(|at| self.setting_at(at)).unwrap_or_default();
        let line = at.map(|at| self.line_at(at));
        ConfigError::new(&self.path, line, setting, without_quotes(error.message()))
    }

    /// Returns the folder that relative paths begin in.
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    /// Returns whether others than the owner can read the file.
    pub fn is_open_to_others(&self) -> bool {
        #[cfg(unix)]
        let open = std::fs::metadata(&self.path)
            .is_ok_and(|about| std::os::unix::fs::PermissionsExt::mode(&about.permissions()) & 0o077 != 0);
        #[cfg(not(unix))]
        let open = false;
        open
    }

    fn line_of(&self, setting: &str) -> Option<usize> {
        self.find(setting).0.map(|at| self.line_at(at))
    }

    fn line_at(&self, at: usize) -> usize {
        1 + self.text.bytes().take(at).filter(|byte| *byte == b'\n').count()
    }

    /// Returns where the longest beginning of a path is that the file has, and whether that is all of it.
    fn find(&self, setting: &str) -> (Option<usize>, bool) {
        let Ok(root) = DeTable::parse(&self.text) else { return (None, false) };
        let mut at = None;
        let root = DeValue::Table(root.into_inner());
        let mut value = &root;
        for word in setting.split('.') {
            let next = match value {
                DeValue::Table(table) => table.get_key_value(word).map(|(key, value)| (key.span(), value)),
                DeValue::Array(array) => {
                    word.parse().ok().and_then(|index: usize| array.get(index)).map(|value| (value.span(), value))
                }
                _ => None,
            };
            let Some((span, below)) = next else { return (at, false) };
            at = Some(span.start);
            value = below.get_ref();
        }
        (at, true)
    }

    /// Returns the path of the setting whose key or value is at this place.
    fn setting_at(&self, at: usize) -> String {
        let Ok(root) = DeTable::parse(&self.text) else { return String::new() };
        let mut path = Vec::new();
        descend(root.get_ref(), at, &mut path);
        path.join(".")
    }
}

fn descend(table: &DeTable<'_>, at: usize, path: &mut Vec<String>) -> bool {
    for (key, value) in table.iter() {
        path.push(key.get_ref().to_string());
        if key.span().contains(&at) || inside(value, at, path) {
            return true;
        }
        path.pop();
    }
    false
}

fn inside(value: &Spanned<DeValue<'_>>, at: usize, path: &mut Vec<String>) -> bool {
    let found = match value.get_ref() {
        DeValue::Table(table) => descend(table, at, path),
        DeValue::Array(array) => array.iter().enumerate().any(|(index, value)| {
            path.push(index.to_string());
            let found = inside(value, at, path);
            if !found {
                path.pop();
            }
            found
        }),
        _ => false,
    };
    found || value.span().contains(&at)
}

/// A value at the wrong place may be a secret: serde quotes it as `string "…"`, a number as `integer `…``.
fn without_quotes(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    let quoted = ["string \"", "integer `", "floating point `"];
    match (quoted.iter().find_map(|begin| line.find(begin)), line.rfind(", expected")) {
        (Some(at), Some(expected)) if at < expected => {
            let kind = line[at..].split([' ', '`', '"']).next().unwrap_or_default();
            format!("{}{kind}{}", &line[..at], &line[expected..])
        }
        _ => line.to_owned(),
    }
}
