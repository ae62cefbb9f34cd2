//! Settings as text, each of a form that says how a text is read and how often it may be given.

use super::any::AnySource;
use crate::error::BuildError;
use crate::secret::Secret;
use std::time::Duration;
use token_manager::TokenManager;

/// How a setting is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Form {
    /// A text; the last one counts.
    Text,
    /// A number of seconds; the last one counts.
    Seconds,
    /// `true` or `false`; the last one counts.
    Choice,
    /// Texts, one more by each call.
    Texts,
    /// Texts with names behind a dot, one more by each call.
    Named,
    /// A secret: `…`, `…_file` or `…_env`, and the same with `second_` before it.
    Secret,
}

impl Form {
    /// Returns whether a setting of this form that is called `known` may be given by this name.
    pub(super) fn takes(self, known: &str, name: &str) -> bool {
        match self {
            Form::Named => name.split_once('.').is_some_and(|(before, after)| before == known && !after.is_empty()),
            Form::Secret => origin(known, name.strip_prefix("second_").unwrap_or(name)).is_some(),
            _ => known == name,
        }
    }

    /// Returns how a setting of this form is written.
    pub(super) fn shown(self, name: &str) -> String {
        match self {
            Form::Named => format!("{name}.NAME"),
            Form::Secret => format!("{name}[_file|_env]"),
            _ => name.to_owned(),
        }
    }
}

type Origin = fn(&str) -> Secret;

fn origin(known: &str, name: &str) -> Option<Origin> {
    match name.strip_prefix(known)? {
        "" => Some(|text| Secret::text(text)),
        "_file" => Some(|path| Secret::file(path)),
        "_env" => Some(|variable| Secret::env(variable)),
        _ => None,
    }
}

/// What was set.
#[derive(Default)]
pub(super) struct Values {
    texts: Vec<(&'static str, String, String)>,
    /// The setting, whether it is the second one, and the secret.
    secrets: Vec<(&'static str, bool, Secret)>,
    pub(super) parent: Option<TokenManager>,
    pub(super) login: Option<AnySource>,
}

impl Values {
    /// Takes a value that was given by this name for the setting that is called `known`.
    pub(super) fn put(&mut self, known: &'static str, form: Form, name: &str, value: &str) -> Result<(), BuildError> {
        match form {
            Form::Secret => {
                let first = name.strip_prefix("second_");
                if let Some(origin) = origin(known, first.unwrap_or(name)) {
                    self.secrets.push((known, first.is_some(), origin(value)));
                }
                return Ok(());
            }
            Form::Seconds => drop(seconds(known, value)?),
            Form::Choice if !matches!(value, "true" | "false") => {
                return Err(BuildError::new(known, "is a choice; give true or false"));
            }
            _ => {}
        }
        let behind = name.split_once('.').filter(|_| form == Form::Named).map_or("", |(_, behind)| behind);
        self.texts.push((known, behind.to_owned(), value.to_owned()));
        Ok(())
    }

    /// Returns the last text.
    pub(super) fn text(&self, setting: &str) -> Option<&str> {
        self.texts(setting).last()
    }

    /// Returns the last text, which has to be there.
    pub(super) fn needed(&self, setting: &'static str) -> Result<&str, BuildError> {
        self.text(setting).ok_or_else(|| missing(setting))
    }

    pub(super) fn texts(&self, setting: &str) -> impl DoubleEndedIterator<Item = &str> {
        self.named(setting).map(|(_, value)| value)
    }

    /// Returns the names behind the dot, with their values.
    pub(super) fn named(&self, setting: &str) -> impl DoubleEndedIterator<Item = (&str, &str)> {
        let of_it = self.texts.iter().filter(move |(known, _, _)| *known == setting);
        of_it.map(|(_, name, value)| (&**name, &**value))
    }

    pub(super) fn seconds(&self, setting: &'static str) -> Result<Option<Duration>, BuildError> {
        self.text(setting).map(|value| seconds(setting, value)).transpose()
    }

    pub(super) fn is_set(&self, setting: &str) -> bool {
        self.text(setting) == Some("true")
    }

    /// Returns the last secret, with the last second one.
    pub(super) fn secret(&self, setting: &str) -> Option<Secret> {
        let last = |second| {
            let of_it =
                |(known, is_second, _): &&(&'static str, bool, Secret)| *known == setting && *is_second == second;
            self.secrets.iter().rev().find(of_it).map(|(_, _, secret)| secret.clone())
        };
        match (last(false), last(true)) {
            (Some(first), Some(second)) => Some(first.or(second)),
            (first, _) => first,
        }
    }

    pub(super) fn needed_secret(&self, setting: &'static str) -> Result<Secret, BuildError> {
        self.secret(setting).ok_or_else(|| missing(setting))
    }
}

fn missing(setting: &'static str) -> BuildError {
    BuildError::new(setting, "is not set, and is needed")
}

fn seconds(setting: &'static str, value: &str) -> Result<Duration, BuildError> {
    let number = value.trim().parse().ok().and_then(|number| Duration::try_from_secs_f64(number).ok());
    number.ok_or_else(|| BuildError::new(setting, "is no number of seconds, such as 30 or 0.5"))
}
