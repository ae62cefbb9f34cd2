//! Folders that are looked at and not made: what would be in them, and whether they could be made.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use token_manager::store::rules::{EgressState, GrantState};
use token_manager::store::{StateBackend, Step, StoreError, TokenName};

/// The file by which a folder is known to hold a store.
const LOCK: &str = "lock";

/// Returns whether a store was made in this folder.
pub fn holds_store(folder: &Path) -> bool {
    folder.join(LOCK).exists()
}

/// A store in a folder that is not there: it is empty, and remains so.
pub struct Nothing(pub PathBuf);

impl StateBackend for Nothing {
    fn update(&self, _: &TokenName, _: Option<&str>, step: &mut Step<'_>) -> Result<(), StoreError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        step(u64::try_from(now).unwrap_or(u64::MAX), &mut GrantState::default(), &mut EgressState::default());
        Ok(())
    }

    fn place(&self) -> String {
        format!("file:{}", self.0.display())
    }

    fn timeout(&self) -> Duration {
        Duration::from_millis(500) // as a store that is there has it
    }
}

/// Returns why this process could not use or make the folder, if that can be seen.
pub fn objection(folder: &Path) -> Option<String> {
    let there = folder.ancestors().find(|path| path.as_os_str().is_empty() || path.symlink_metadata().is_ok())?;
    let there = if there.as_os_str().is_empty() { Path::new(".") } else { there };
    if !there.is_dir() {
        return Some(format!("{} is no folder", there.display()));
    }
    (!is_writable(there)).then(|| format!("{} cannot be written by this user", there.display()))
}

#[cfg(unix)]
fn is_writable(folder: &Path) -> bool {
    use rustix::fs::{Access, access};
    access(folder, Access::WRITE_OK | Access::EXEC_OK).is_ok()
}

#[cfg(not(unix))]
fn is_writable(_: &Path) -> bool {
    true
}
