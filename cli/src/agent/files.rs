//! The files of a token: which of them have it, and which are behind.

use super::hook;
use crate::failure::Failure;
use crate::held::Held;
use crate::keeper::Turn;
use crate::sink::Sink;
use std::path::PathBuf;
use token_manager_config::Config;

/// The files of a token.
pub struct Files {
    name: String,
    /// Each with the generation that is in it.
    files: Vec<(Sink, u64)>,
    told: Vec<String>,
}

impl Files {
    /// Looks up what the settings say, and writes nothing.
    pub fn new(config: &Config, name: &str) -> Result<Files, Failure> {
        let files = config.files(name).iter().map(|file| Ok((Sink::new(file)?, 0))).collect::<Result<_, Failure>>()?;
        Ok(Files { name: name.to_owned(), files, told: Vec::new() })
    }

    pub fn paths(&self) -> Vec<PathBuf> {
        self.files.iter().map(|(sink, _)| sink.path.clone()).collect()
    }

    /// Removes what killed agents have left.
    pub fn sweep(&self) {
        self.files.iter().for_each(|(sink, _)| sink.sweep());
    }

    /// Writes the token into the files that lack it, each if another one cannot be written too, and runs the hooks of those. Returns
    /// the files that are behind.
    pub fn write(&mut self, held: &Held, turn: &Turn<'_>) -> Vec<PathBuf> {
        let (mut changed, mut behind, mut failures) = (Vec::new(), Vec::new(), Vec::new());
        let lacking = self.files.iter_mut().filter(|(_, generation)| *generation != held.generation);
        for (sink, generation) in lacking {
            match turn.step(|| sink.write(&self.name, held)) {
                None => break,
                Some(Ok(())) => {
                    *generation = held.generation;
                    changed.push(&*sink);
                }
                Some(Err(failure)) => {
                    behind.push(sink.path.clone());
                    failures.push(failure.message);
                }
            }
        }
        for failure in failures.iter().filter(|failure| !self.told.contains(failure)) {
            log::warn!("{}: {failure}; it is tried again", self.name);
        }
        self.told = failures;
        // After all files: a hook may take its time.
        changed.into_iter().for_each(|sink| hook::run(sink, &self.name, held.generation));
        behind
    }
}
