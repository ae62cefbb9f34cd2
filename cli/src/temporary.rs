//! Names and folders for what is there for a moment, and the clearing up after processes that were killed in it.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, io, process};

/// How old something temporary is that nobody can be using any more.
const ABANDONED: Duration = Duration::from_secs(60);

/// Returns the folder that a file is in.
pub fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Returns what has a name that begins so and ends with two numbers, as temporaries do, and is too old to be in use.
pub fn abandoned(folder: &Path, base: &str) -> Vec<PathBuf> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let ours = |name: &str| {
        let numbers = name.strip_prefix(base).and_then(|rest| rest.split_once('-'));
        numbers.is_some_and(|(process, count)| is_number(process) && is_number(count))
    };
    let is_old = |entry: &fs::DirEntry| {
        let age = entry.metadata().and_then(|about| about.modified()).ok().and_then(|then| then.elapsed().ok());
        age.is_some_and(|age| age > ABANDONED)
    };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let found = entries.filter(|entry| ours(&entry.file_name().to_string_lossy()) && is_old(entry));
    found.map(|entry| entry.path()).collect()
}

/// Makes a folder that only this user can look into, with a name that begins so and ends with two numbers.
pub fn hidden_folder(base: &Path, begin: &str) -> io::Result<PathBuf> {
    for attempt in 0..100 {
        let path = base.join(format!("{begin}{}-{attempt}", process::id()));
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            made => return made.map(|()| path),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Makes a folder for a token where such things are kept.
pub fn private_folder() -> io::Result<PathBuf> {
    let base = env::var_os("XDG_RUNTIME_DIR").map_or_else(env::temp_dir, PathBuf::from);
    hidden_folder(&base, "tkm-")
}
