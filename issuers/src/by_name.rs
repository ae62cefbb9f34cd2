//! Sources by the names of their kinds, with settings as text: for hosts that do not speak Rust and for files of settings.

use crate::error::BuildError;
use std::fmt;
use token_manager::{TokenManager, TokenSource};

mod any;
mod kinds;
mod values;

pub use any::AnySource;
use kinds::{KINDS, Kind};
pub use values::Form;
use values::Values;

/// Collects the settings of a source as text.
///
/// ```
/// use token_manager_issuers::by_name::ByName;
///
/// let mut issuer = ByName::new("client_credentials")?;
/// issuer.set("url", "https://issuer.example.com/token")?;
/// issuer.set("client_id", "billing")?;
/// issuer.set("client_secret_file", "/run/secrets/billing")?;
/// let source = issuer.build()?;
/// assert!(issuer_error().ends_with("client_credentials has no such setting"));
/// # drop(source);
/// # fn issuer_error() -> String {
/// #     let told = ByName::new("client_credentials").unwrap().set("scop", "api").unwrap_err().to_string();
/// #     told.split(';').next().unwrap().to_owned()
/// # }
/// # Ok::<(), token_manager_issuers::BuildError>(())
/// ```
///
/// The forms of settings:
/// - a text, which is set anew by each call;
/// - seconds, with a fraction if need be: `30`, `0.5`;
/// - a choice: `true` or `false`;
/// - texts, to which each call adds one;
/// - named texts, to which each call adds one, under the name behind a dot: `parameter.resource`;
/// - a secret `s`: as a text `s`, as the path of a file `s_file`, or as the name of an environment variable `s_env`; files and
///   variables are read anew for each fetch. A second one, `second_s`, `second_s_file` or `second_s_env`, is tried once where the
///   first is refused.
///
/// What settings a kind has, [`settings`](ByName::settings) tells.
pub struct ByName {
    kind: &'static Kind,
    values: Values,
}

impl ByName {
    /// Starts the settings of a source of this kind.
    ///
    /// # Errors
    /// If there is none of this name; the error lists those that there are.
    pub fn new(kind: &str) -> Result<ByName, BuildError> {
        let found = KINDS.iter().find(|known| known.name == kind);
        let kinds = || ByName::kinds().collect::<Vec<_>>().join(", ");
        let kind =
            found.ok_or_else(|| BuildError::new("kind", format!("there is none of this name; use {}", kinds())))?;
        Ok(ByName { kind, values: Values::default() })
    }

    /// Returns the names of all kinds.
    pub fn kinds() -> impl Iterator<Item = &'static str> {
        KINDS.iter().map(|kind| kind.name)
    }

    /// Returns the settings that this kind has, with their forms.
    pub fn settings(&self) -> impl Iterator<Item = (&'static str, Form)> + use<> {
        self.kind.settings.iter().copied().flatten().copied()
    }

    /// Sets, or adds to, the setting of this name.
    ///
    /// # Errors
    /// If the kind has no such setting, or its form is another one. The value is not in the error.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), BuildError> {
        let fits = |(known, form): (&'static str, Form)| form.takes(known, name).then_some((known, form));
        if let Some((known, form)) = self.settings().find_map(fits) {
            return self.values.put(known, form, name, value);
        }
        let known: Vec<_> = self.settings().map(|(name, form)| form.shown(name)).collect();
        let message = format!("{} has no such setting; it has {}", self.kind.name, known.join(", "));
        Err(BuildError::new("set", message))
    }

    /// Sets the manager whose tokens buy the source's: what a `wechat_ticket` needs.
    pub fn set_parent(&mut self, parent: TokenManager) {
        self.values.parent = Some(parent);
    }

    /// Sets who logs in anew for a `refresh_token`: a source that brings a token with a refresh token as its
    /// [carry](token_manager::Fetched::carry). It is called as [`bootstrap`](crate::OAuthBuilder::bootstrap) says. The other kinds have no use for it.
    pub fn set_login(&mut self, login: impl TokenSource) {
        self.values.login = Some(AnySource::new(login));
    }

    /// Makes the source.
    ///
    /// # Errors
    /// When a setting is missing or cannot be used: the error names it and says what to do. Nobody is asked yet.
    pub fn build(self) -> Result<AnySource, BuildError> {
        let mut values = self.values;
        let source = (self.kind.build)(&mut values)?;
        kinds::probed(source, &values)
    }
}

impl fmt::Debug for ByName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByName").field("kind", &self.kind.name).finish_non_exhaustive()
    }
}
