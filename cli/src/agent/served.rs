//! A token that an agent serves, and how that goes.

use super::files::Files;
use crate::failure::Failure;
use crate::held::Held;
use crate::keeper::Keeper;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use token_manager::Store;
use token_manager::store::TokenName;
use token_manager_config::Config;

/// A token that is kept.
pub struct Served {
    pub keeper: Keeper,
    pub store: Arc<dyn Store>,
    pub place: TokenName,
    pub files: Vec<PathBuf>,
    state: State,
}

/// What became of the token last.
type State = Arc<Mutex<Course>>;

#[derive(Default)]
struct Course {
    settled: bool,
    failed: bool,
    behind: Vec<PathBuf>,
}

impl Served {
    /// Makes a keeper of a token and its files that waits to begin; `changed` is called after each change.
    pub fn prepare(
        config: &Config,
        name: &str,
        mut files: Files,
        changed: impl Fn() + Send + 'static,
    ) -> Result<Served, Failure> {
        let (state, paths) = (State::default(), files.paths());
        let (told, own_name) = (state.clone(), name.to_owned());
        let keeper = Keeper::prepare(config, name, move |token: Result<&Held, &Failure>, turn| {
            let taken = match token {
                Ok(held) => {
                    let behind = files.write(held, turn);
                    let taken = behind.is_empty();
                    *lock(&told) = Course { settled: true, failed: false, behind };
                    taken
                }
                Err(failure) => {
                    log::warn!("{own_name}: {}", failure.message);
                    let mut told = lock(&told);
                    (told.settled, told.failed) = (true, true);
                    false
                }
            };
            changed();
            taken
        })?;
        Ok(Served { keeper, store: config.store(name)?, place: config.token_name(name)?, files: paths, state })
    }

    /// Returns whether it was got, or could not be got, for the first time.
    pub fn settled(&self) -> bool {
        lock(&self.state).settled
    }

    pub fn failed(&self) -> bool {
        lock(&self.state).failed
    }

    /// Returns the files that lack the newest token, since they cannot be written.
    pub fn behind(&self) -> Vec<PathBuf> {
        lock(&self.state).behind.clone()
    }
}

fn lock(state: &State) -> MutexGuard<'_, Course> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
