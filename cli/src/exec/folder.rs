//! The folder of a command's token: removed when the command has ended, or by the next one where this process was killed.

use crate::temporary;
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, geteuid, test_kill_process};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The file that is locked as long as this process lives; it holds the number of the command, once there is one.
const LOCK: &str = "lock";

/// A folder that is removed with what is in it.
pub struct Folder {
    path: PathBuf,
    lock: File,
}

impl Folder {
    /// Makes one, and removes those of commands that have ended without their `tkm`.
    pub fn make() -> io::Result<Folder> {
        let path = temporary::private_folder()?;
        path.parent().into_iter().for_each(sweep);
        // Under its name only when it is locked: nobody may take it for one that was left.
        let unlocked = path.join("lock.new");
        let lock = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unlocked)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        fs::rename(&unlocked, path.join(LOCK))?;
        Ok(Folder { path, lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Has the folder stay as long as this process lives, should `tkm` be killed.
    pub fn keep_for(&mut self, command: u32) {
        if let Err(error) = write!(self.lock, "{command}") {
            log::info!("{} will not outlive this process: {error}", self.path.display());
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            log::warn!("{} cannot be removed: {error}", self.path.display());
        }
    }
}

fn sweep(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with("tkm-") && is_left(&entry.path()).unwrap_or(false) {
            match fs::remove_dir_all(entry.path()) {
                Ok(()) => log::info!("removed {}, which a killed tkm had left", entry.path().display()),
                Err(error) => log::info!("{} cannot be removed: {error}", entry.path().display()),
            }
        }
    }
}

/// Returns whether the folder is this user's, and both its `tkm` and the command are gone.
fn is_left(folder: &Path) -> io::Result<bool> {
    let about = fs::symlink_metadata(folder)?;
    if !about.is_dir() || about.uid() != geteuid().as_raw() {
        return Ok(false);
    }
    let lock = File::open(folder.join(LOCK))?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    let command = io::read_to_string(&lock)?.parse().ok().and_then(Pid::from_raw);
    Ok(command.is_none_or(|command| test_kill_process(command).is_err()))
}
