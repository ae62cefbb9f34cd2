//! What the settings made: replaced as a whole, and ended as a whole.

use super::files::Files;
use super::served::Served;
use crate::failure::Failure;
use crate::sink::Sink;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;
use std::time::Duration;
use token_manager_config::Config;

/// What the settings made.
#[derive(Default)]
pub struct Loaded {
    pub tokens: BTreeMap<String, Served>,
    pub metrics_file: Option<PathBuf>,
    config: Option<Config>,
}

/// What is loaded now; requests keep what they began with.
#[derive(Clone, Default)]
pub struct Current(Arc<RwLock<Arc<Loaded>>>);

impl Current {
    pub fn get(&self) -> Arc<Loaded> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets the new one begin where the old one ends, and returns the old one, which still has to be finished.
    pub fn replace(&self, new: Loaded) -> Arc<Loaded> {
        let new = Arc::new(new);
        let old = std::mem::replace(&mut *self.0.write().unwrap_or_else(PoisonError::into_inner), new.clone());
        // In this order: an old token never takes the place of a new one in a file.
        old.tokens.values().for_each(|served| served.keeper.end());
        new.tokens.values().for_each(|served| served.keeper.begin());
        old
    }
}

/// Reads settings and finds out whether they can be used; tokens in memory stay where the settings keep their store.
pub fn read(path: &Path, old: &Loaded) -> Result<Config, Failure> {
    let mut config = Config::read(path)?;
    if let Some(old) = &old.config {
        config.keep_memory_of(old);
    }
    match config.check().into_iter().next() {
        Some(wrong) => Err(wrong.into()),
        None => Ok(config),
    }
}

impl Loaded {
    /// Makes what the settings say. None of it has begun: what fails here has changed nothing.
    pub fn prepare(config: Config, changed: impl Fn() + Clone + Send + 'static) -> Result<Loaded, Failure> {
        let files = config.names().map(|name| Ok((name.to_owned(), Files::new(&config, name)?)));
        let files = files.collect::<Result<Vec<_>, Failure>>()?;
        files.iter().for_each(|(_, files)| files.sweep());
        config.agent().metrics_file.into_iter().for_each(|path| Sink::readable(path).sweep());
        let served = files.into_iter().map(|(name, files)| {
            let served = Served::prepare(&config, &name, files, changed.clone())?;
            Ok((name, served))
        });
        let tokens = served.collect::<Result<_, Failure>>()?;
        Ok(Loaded { tokens, metrics_file: config.agent().metrics_file, config: Some(config) })
    }

    /// Finishes all keepers at once; requests may still be at it. Tells of those whose limit passed.
    pub fn finish(&self) {
        thread::scope(|scope| {
            for (name, served) in &self.tokens {
                scope.spawn(move || {
                    if !served.keeper.finish() {
                        let limit = served.keeper.limit();
                        log::warn!("{name}: what was under way did not end within {limit:?}, and is left");
                    }
                });
            }
        });
    }

    /// How long [`finish`](Loaded::finish) can take.
    pub fn limit(&self) -> Duration {
        self.tokens.values().map(|served| served.keeper.limit()).max().unwrap_or_default()
    }

    /// Says in one line how all of it goes.
    pub fn status(&self) -> String {
        let failed: Vec<_> =
            self.tokens.iter().filter(|(_, served)| served.failed()).map(|(name, _)| &**name).collect();
        let behind: Vec<_> = self.tokens.values().flat_map(Served::behind).collect();
        let mut status = match failed.is_empty() {
            true => format!("{} tokens are fresh", self.tokens.len()),
            false => format!("{} tokens, of which these are not fresh: {}", self.tokens.len(), failed.join(", ")),
        };
        if !behind.is_empty() {
            let behind: Vec<_> = behind.iter().map(|path| path.to_string_lossy()).collect();
            status += &format!("; files that cannot be written: {}", behind.join(", "));
        }
        status
    }
}
