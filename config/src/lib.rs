//! Managers of [`token_manager`] from one file of settings: stores, tokens, sources, budgets, and the files that an agent keeps fresh.
//!
//! ```
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("tkm.toml");
//! # std::fs::write(&path, r#"
//! # [stores.main]
//! # url = "memory"
//! # [tokens.billing.source.command]
//! # run = ["printf", "s3cret"]
//! # plain_text = true
//! # life = "1h"
//! # "#).unwrap();
//! use token_manager_config::Config;
//!
//! let config = Config::read(&path)?;
//! let manager = config.manager("billing")?;
//! assert_eq!(manager.get()?.secret(), "s3cret");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The page `doc/tkm.md` of the repository has every setting. Secrets are named by file or environment variable; one that stands in
//! the file is refused unless `allow_inline_secrets = true`. An unknown setting is an error. Each error names the file, the line,
//! the setting, and what to do.
//!
//! | layer | files | duty |
//! |---|---|---|
//! | 4 | `sources` | sources from settings |
//! | 3 | `stores` `files` | stores by their address; files that an agent keeps |
//! | 3 | `settings` | the shape of the file |
//! | 2 | `place` | what errors are about, and where secrets are looked for |
//! | 1 | `text` `value` `audit` `looking` `hosts` | lines and settings of a text; the values; the audit trail; folders that are not made; servers that programs name |
//! | 0 | `error` | what is wrong with a file |
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod audit;
mod error;
mod files;
mod hosts;
mod looking;
mod place;
#[allow(missing_docs, reason = "what the settings do is told in doc/tkm.md")]
mod settings;
mod sources;
mod stores;
mod text;
mod value;

pub use audit::fingerprint;
pub use error::ConfigError;
pub use files::FILE_OUTPUTS;
#[cfg(unix)]
pub use files::{group_id, user_id};
pub use settings::{Agent, File};

use audit::Audited;
use place::Place;
use settings::{Execution, Settings, Token};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{fmt, fs};
use stores::{Opened, Purpose};
use text::Text;
use token_manager::internals::PerProcess;
use token_manager::store::{SealedStore, TokenName};
use token_manager::{Attempt, Budget, Builder, MemoryStore, RedisStore, Store, TokenManager};

/// Reads a span as the file has them: `300ms`, `10s`, `5m`, `2h`, `7d`.
pub fn span(text: &str) -> Option<Duration> {
    value::Span::parse(text).map(|span| span.0)
}

/// About how many entries of an audit trail are kept unless it is said.
const AUDIT_ENTRIES: u32 = 10_000;
/// How many tokens may be made of one another.
const MOST_PARENTS: usize = 4;

/// A store's name, whether it does without threads, and what it is for.
type Opening = (String, bool, Purpose);

/// A file of settings that was read. Managers that it makes share its stores.
pub struct Config {
    text: Text,
    settings: Settings,
    opened: PerProcess<Mutex<BTreeMap<Opening, Opened>>>,
    /// By the names of their stores.
    memories: BTreeMap<String, MemoryStore>,
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read, is no TOML, or has an unknown setting or one of the wrong kind. What settings mean together is found
    /// by [`manager`](Config::manager), for one token, and by [`check`](Config::check), for all.
    pub fn read(path: impl AsRef<Path>) -> Result<Config, ConfigError> {
        let path = path.as_ref();
        let text = fs::read_to_string(path).map_err(|error| {
            let what = format!("cannot be read ({}); name a file of settings that this user may read", error.kind());
            ConfigError::new(path, None, "", what)
        })?;
        let text = Text { path: path.to_owned(), text };
        let settings: Settings = toml::from_str(&text.text).map_err(|error| text.unreadable(&error))?;
        let memory = settings.stores.iter().filter(|(_, store)| store.is_memory());
        let memories = memory.map(|(name, _)| (name.clone(), MemoryStore::new())).collect();
        Ok(Config { text, settings, opened: PerProcess::default(), memories })
    }

    /// Keeps what is in the memory of the stores that these settings and those have alike, for a process that reads its settings anew.
    /// Managers that were made before keep the store that they have.
    pub fn keep_memory_of(&mut self, old: &Config) {
        for (name, memory) in &mut self.memories {
            if let Some(old) = old.memories.get(name) {
                *memory = old.clone();
            }
        }
        self.opened = PerProcess::default();
    }

    /// Returns all that is wrong, in the order of the lines. Asks neither stores nor issuers, and makes neither folders nor files.
    pub fn check(&self) -> Vec<ConfigError> {
        let mut wrong = Vec::new();
        if self.settings.tokens.is_empty() {
            wrong.push(self.text.error("", "has no token; add a table [tokens.NAME]"));
        }
        for name in self.settings.stores.keys() {
            wrong.extend(self.open(name, Execution::Background, Purpose::Look).err());
        }
        for name in self.settings.tokens.keys() {
            let built = self.builder_of(name, 0, Purpose::Look).and_then(|builder| self.build(name, builder));
            wrong.extend(built.err());
            wrong.extend(self.check_files(name));
            wrong.extend(self.check_hosts(name));
        }
        wrong.sort_by_key(ConfigError::line);
        wrong.dedup();
        wrong
    }

    /// Returns what can be used but hardly is what was meant.
    pub fn warnings(&self) -> Vec<ConfigError> {
        let alone = "lasts as long as one process, so nothing is shared; name a Redis";
        let stores = self.settings.stores.iter().filter(|(_, store)| store.is_memory());
        let mut all: Vec<_> = stores.map(|(name, _)| self.text.error(&format!("stores.{name}.url"), alone)).collect();
        if self.settings.allow_inline_secrets && self.text.is_open_to_others() {
            all.push(self.text.error("allow_inline_secrets", "other users can read this file; chmod 0600 it"));
        }
        all
    }

    /// Returns the names of all tokens.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.settings.tokens.keys().map(String::as_str)
    }

    /// Makes the manager of a token; never talks to a store or an issuer.
    ///
    /// # Errors
    /// If there is no such token, or its settings cannot be used.
    pub fn manager(&self, name: &str) -> Result<TokenManager, ConfigError> {
        self.build(name, self.builder(name)?)
    }

    /// Makes the builder of a token's manager, for settings that a file cannot have, such as an observer.
    ///
    /// # Errors
    /// As [`manager`](Config::manager).
    pub fn builder(&self, name: &str) -> Result<Builder, ConfigError> {
        self.builder_of(name, 0, Purpose::Use)
    }

    /// Builds what [`builder`](Config::builder) has made, and tells the line of what is wrong with it.
    ///
    /// # Errors
    /// If the settings contradict each other or the rules.
    pub fn build(&self, name: &str, builder: Builder) -> Result<TokenManager, ConfigError> {
        builder.build().map_err(|error| {
            let message = error.to_string();
            let word = message.split(' ').next().unwrap_or_default();
            self.place(name).error_about(word, &*message)
        })
    }

    /// Returns the store of a token, as its manager uses it.
    ///
    /// # Errors
    /// If there is no such token, or its store cannot be opened.
    pub fn store(&self, name: &str) -> Result<Arc<dyn Store>, ConfigError> {
        let token = self.token(name)?;
        Ok(self.open(&self.store_name(name, token)?, token.execution, Purpose::Use)?.store)
    }

    /// Returns the store of a token for a look at it: one in a folder that is not there is empty, and is not made.
    ///
    /// # Errors
    /// As [`store`](Config::store).
    pub fn store_to_look_at(&self, name: &str) -> Result<Arc<dyn Store>, ConfigError> {
        let token = self.token(name)?;
        Ok(self.open(&self.store_name(name, token)?, token.execution, Purpose::Look)?.store)
    }

    /// Returns the store of a token as one that keeps logs, if it is one and the file has a table `[audit]`.
    ///
    /// # Errors
    /// If there is no such token, its store cannot be opened, or no trail is kept.
    pub fn trail(&self, name: &str) -> Result<RedisStore, ConfigError> {
        let token = self.token(name)?;
        let store = self.store_name(name, token)?;
        if self.settings.audit.is_none() {
            return Err(self
                .text
                .error("audit", "no trail is kept; add the table [audit] to this file in the whole fleet"));
        }
        let lacks = || self.text.error(&format!("stores.{store}.url"), "only a Redis keeps a trail");
        self.open(&store, token.execution, Purpose::Use)?.redis.ok_or_else(lacks)
    }

    /// Returns where a token lives in its store.
    ///
    /// # Errors
    /// If there is no such token.
    pub fn token_name(&self, name: &str) -> Result<TokenName, ConfigError> {
        let token = self.token(name)?;
        let grant = token.grant.as_deref().unwrap_or(name);
        let (namespace, group) = (token.namespace.as_deref().unwrap_or("tm"), token.group.as_deref().unwrap_or(grant));
        let [namespace, group, name, grant] = [namespace, group, name, grant].map(Into::into);
        Ok(TokenName { namespace, group, name, grant })
    }

    /// Returns the egress that a token's fetches are charged to.
    pub fn egress(&self, name: &str) -> &str {
        self.settings.tokens.get(name).and_then(|token| token.egress.as_deref()).unwrap_or("default")
    }

    /// Returns the name that goes with a token where a protocol wants one.
    pub fn user(&self, name: &str) -> Option<&str> {
        self.settings.tokens.get(name)?.user.as_deref()
    }

    /// Returns whether the settings name the server of this address, `https` where it has no scheme, as one that may be given the token.
    ///
    /// # Errors
    /// If there is no such token, or its settings name no server.
    pub fn is_for(&self, name: &str, address: &str) -> Result<bool, ConfigError> {
        let hosts = &self.token(name)?.hosts.0;
        if hosts.is_empty() {
            let at = self.place(name).below("hosts");
            return Err(
                at.error("is not set; name the servers that may be given this token: hosts = [\"git.example.com\"]")
            );
        }
        let asked = hosts::server_of(address);
        Ok(asked.is_some() && hosts.iter().any(|host| hosts::server_of(host) == asked))
    }

    /// Returns the longest call of a token's source.
    pub fn fetch_limit(&self, name: &str) -> Duration {
        let limit = self.settings.tokens.get(name).and_then(|token| token.fetch_limit);
        limit.map_or(Duration::from_secs(10), |limit| limit.0)
    }

    /// Returns the longest wait for a token.
    pub fn deadline(&self, name: &str) -> Duration {
        let limit = self.settings.tokens.get(name).and_then(|token| token.deadline);
        limit.map_or(Duration::from_secs(15), |limit| limit.0)
    }

    /// Returns the files in which an agent keeps a token, with whole paths, those of hooks too.
    pub fn files(&self, name: &str) -> Vec<File> {
        let files = self.settings.tokens.get(name).map_or(&[][..], |token| &token.files);
        let whole = |file: &File| {
            let mut file = File { path: self.text.folder().join(&file.path), ..file.clone() };
            // One without a slash is looked for in PATH.
            if let Some(program) = file.hook.first_mut().filter(|program| program.contains('/')) {
                *program = self.text.folder().join(&*program).to_string_lossy().into_owned();
            }
            file
        };
        files.iter().map(whole).collect()
    }

    /// Returns what an agent does, with whole paths.
    pub fn agent(&self) -> Agent {
        let whole = |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| self.text.folder().join(path));
        let Agent { socket, metrics_file } = &self.settings.agent;
        Agent { socket: whole(socket), metrics_file: whole(metrics_file) }
    }

    /// Makes an error about a setting of this file.
    pub fn error(&self, setting: &str, message: &str) -> ConfigError {
        self.text.error(setting, message)
    }

    fn token(&self, name: &str) -> Result<&Token, ConfigError> {
        self.settings.tokens.get(name).ok_or_else(|| {
            let known: Vec<_> = self.names().collect();
            let what = format!("there is no token {name:?}; this file has {}", known.join(", "));
            ConfigError::new(&self.text.path, None, "", what)
        })
    }

    fn place(&self, name: &str) -> Place<'_> {
        self.place_of(&format!("tokens.{name}"))
    }

    fn place_of(&self, path: &str) -> Place<'_> {
        Place::new(&self.text, self.settings.allow_inline_secrets, path)
    }

    fn builder_of(&self, name: &str, parents: usize, purpose: Purpose) -> Result<Builder, ConfigError> {
        let (token, place) = (self.token(name)?, self.place(name));
        let store = self.open(&self.store_name(name, token)?, token.execution, purpose)?.store;
        let mut parent = |at: &Place<'_>, parent: &str| {
            if parents == MOST_PARENTS || parent == name {
                return Err(at.error("the tokens of this file are made of each other in a circle"));
            }
            self.token(parent).map_err(|_| at.error(format!("there is no token {parent:?} in this file")))?;
            self.build(parent, self.builder_of(parent, parents + 1, purpose)?)
        };
        let mut made = token.source.make(&place.below("source"), &mut parent)?;
        if let Some(probe) = &token.probe {
            made = made.probed(probe, &place.below("probe"))?;
        }
        let source = made.source;
        let mut builder =
            TokenManager::builder(name).store(store).source(move |attempt: &Attempt| source.fetch(attempt));
        macro_rules! set {
            ($($setter:ident),*) => {
                $(if let Some(value) = &token.$setter { builder = builder.$setter(value); })*
            };
        }
        macro_rules! set_number {
            ($($setter:ident),*) => {
                $(if let Some(value) = token.$setter { builder = builder.$setter(value.0); })*
            };
        }
        set!(namespace, group, grant, egress);
        set_number!(deadline, fetch_limit, lease, refresh_before, margin, serve_stale);
        if let Some(away) = &token.when_away {
            if !self.settings.stores.contains_key(&away.store) {
                let at = place.below("when_away").below("store");
                return Err(at.error(format!("there is no table [stores.{}]", away.store)));
            }
            builder =
                builder.when_away(self.open(&away.store, token.execution, purpose)?.store, to_budget(away.budget));
        }
        if let Some(budget) = token.budget.map(to_budget).or(made.budget) {
            builder = builder.budget(budget);
        }
        if let Some(journal) = &token.journal {
            let folder = self.text.folder().join(journal);
            match purpose {
                Purpose::Use => builder = builder.journal(folder),
                Purpose::Look => {
                    let wrong = |what| place.below("journal").error(format!("{what}; name a folder of this user"));
                    looking::objection(&folder).map_or(Ok(()), |what| Err(wrong(what)))?;
                }
            }
        }
        if token.execution == Execution::Inline {
            builder = builder.execution(token_manager::Execution::Inline);
        }
        Ok(builder)
    }

    /// Returns the name of a token's store: the one that it says, or the only one there is.
    fn store_name(&self, name: &str, token: &Token) -> Result<String, ConfigError> {
        let place = self.place(name);
        let stores = &self.settings.stores;
        match (&token.store, stores.len()) {
            (Some(store), _) if stores.contains_key(store) => Ok(store.clone()),
            (Some(store), _) => Err(place.below("store").error(format!("there is no table [stores.{store}]"))),
            (None, 1) => Ok(stores.keys().next().cloned().unwrap_or_default()),
            (None, 0) => Err(place.error("there is no store; add a table [stores.NAME] with its url")),
            (None, _) => Err(place.error("there are several stores; set store, the name of one")),
        }
    }

    fn open(&self, store: &str, execution: Execution, purpose: Purpose) -> Result<Opened, ConfigError> {
        let inline = execution == Execution::Inline;
        let mut opened = self.opened.get(Mutex::default).lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(opened) = opened.get(&(store.to_owned(), inline, purpose)) {
            return Ok(opened.clone());
        }
        let place = self.place_of(&format!("stores.{store}"));
        let settings = &self.settings.stores[store];
        let mut made = match self.memories.get(store) {
            Some(memory) => Opened { store: Arc::new(memory.clone()), redis: None },
            None => stores::open(settings, &place, inline, purpose)?,
        };
        if let Some(sealed) = &self.settings.sealed {
            let keys = stores::keyring(&sealed.keys, &self.place_of("sealed.keys"))?;
            let store = SealedStore::new(made.store, keys);
            made.store = Arc::new(if sealed.accept_unsealed { store.accept_unsealed() } else { store });
        }
        if let (Some(audit), Some(redis)) = (&self.settings.audit, &made.redis) {
            let keep = audit.entries.unwrap_or(AUDIT_ENTRIES);
            made.store = Arc::new(Audited::new(made.store, redis.clone(), keep));
        }
        opened.insert((store.to_owned(), inline, purpose), made.clone());
        Ok(made)
    }

    fn check_hosts(&self, name: &str) -> Vec<ConfigError> {
        let place = self.place(name).below("hosts");
        let hosts = self.settings.tokens[name].hosts.0.iter();
        hosts.filter_map(|host| hosts::objection(host).map(|what| place.error(format!("{host:?} {what}")))).collect()
    }

    fn check_files(&self, name: &str) -> Vec<ConfigError> {
        let place = self.place(name).below("files");
        let files = self.settings.tokens[name].files.iter().enumerate();
        files.flat_map(|(index, file)| files::check(file, &place.below(&index.to_string()))).collect()
    }
}

fn to_budget(settings: settings::Budget) -> Budget {
    let budget = Budget::per_minute(settings.per_minute);
    settings.burst.map_or(budget, |burst| budget.burst(burst))
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("file", &self.text.path).finish_non_exhaustive()
    }
}
