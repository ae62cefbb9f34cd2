//! A folder in which results survive their process: a file for each, locked as long as its writer lives, so that the next process
//! of the host can tell what a dead one has left. Knows nothing of what is in them.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// What file names end with; those still being written end otherwise.
const ENDING: &str = "tkm";

pub struct Journal {
    folder: PathBuf,
    /// Files of other users are not believed.
    user: u32,
}

/// A file of the journal, locked by this process. Dropping it leaves the file to whoever comes next.
pub struct Entry {
    path: PathBuf,
    _lock: lock::Locked,
}

impl Journal {
    /// Uses a folder, which is made, for this user alone, if it is not there.
    ///
    /// # Errors
    /// When it cannot be made or written, or the system has no locks of files.
    pub fn open(folder: &Path) -> io::Result<Journal> {
        lock::make_folder(folder)?;
        // Many may try at once, also from containers in which all have one pid.
        let probe = folder.join(format!("probe-{:x}", getrandom::u64().map_err(io::Error::other)?));
        let made = lock::create(&probe).and_then(|file| Ok((lock::user(&file)?, lock::Locked::try_new(file)?)));
        let _ = fs::remove_file(&probe); // of no use, and empty
        made.map(|(user, _)| Journal { folder: folder.to_owned(), user })
    }

    /// Writes a file that is there, whole, even if the power fails right after.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, name: &str, bytes: &[u8]) -> io::Result<Entry> {
        let (path, unfinished) = (self.path(name, ENDING), self.path(name, "new"));
        let mut file = lock::create(&unfinished)?;
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        let locked = written.and_then(|()| lock::Locked::try_new(file)).and_then(|locked| {
            let locked = locked.ok_or(io::ErrorKind::ResourceBusy)?;
            fs::rename(&unfinished, &path)?;
            File::open(&self.folder)?.sync_all()?;
            Ok(locked)
        });
        match locked {
            Ok(lock) => Ok(Entry { path, _lock: lock }),
            Err(error) => {
                let _ = fs::remove_file(&unfinished); // it may hold half a secret
                Err(error)
            }
        }
    }

    /// Returns what dead processes have left, as far as `wanted` says that it is.
    pub fn orphans(&self, wanted: impl Fn(&[u8]) -> bool) -> Vec<(Entry, Vec<u8>)> {
        let Ok(folder) = fs::read_dir(&self.folder) else { return Vec::new() };
        let paths = folder.flatten().map(|entry| entry.path());
        let finished = paths.filter(|path| path.extension().is_some_and(|extension| extension == ENDING));
        finished.filter_map(|path| self.orphan(path, &wanted).ok().flatten()).collect()
    }

    fn orphan(&self, path: PathBuf, wanted: impl Fn(&[u8]) -> bool) -> io::Result<Option<(Entry, Vec<u8>)>> {
        let (mut file, mut bytes) = (File::open(&path)?, Vec::new());
        if lock::user(&file)? != self.user {
            return Ok(None);
        }
        file.read_to_end(&mut bytes)?;
        if !wanted(&bytes) {
            return Ok(None);
        }
        let Some(lock) = lock::Locked::try_new(file)? else { return Ok(None) };
        // Whoever had it may have removed it before it let go.
        Ok(path.try_exists()?.then_some((Entry { path, _lock: lock }, bytes)))
    }

    fn path(&self, name: &str, ending: &str) -> PathBuf {
        self.folder.join(name).with_extension(ending)
    }
}

impl Entry {
    /// Removes the file: what it holds is kept elsewhere, or of no use.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}

#[cfg(unix)]
mod lock {
    use nix::errno::Errno;
    use nix::fcntl::{Flock, FlockArg};
    use std::fs::{DirBuilder, File, OpenOptions};
    use std::io;
    use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
    use std::path::Path;

    /// A file under a lock that ends with the process, however it ends.
    pub struct Locked {
        _file: Flock<File>,
    }

    impl Locked {
        /// Locks the file; `None` if another process has.
        pub fn try_new(file: File) -> io::Result<Option<Locked>> {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => Ok(Some(Locked { _file: file })),
                Err((_, Errno::EWOULDBLOCK)) => Ok(None),
                Err((_, error)) => Err(error.into()),
            }
        }
    }

    /// Returns whose file it is.
    pub fn user(file: &File) -> io::Result<u32> {
        Ok(file.metadata()?.uid())
    }

    pub fn make_folder(folder: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)
    }

    /// Makes a file that its user alone may read.
    pub fn create(path: &Path) -> io::Result<File> {
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
    }
}

#[cfg(not(unix))]
mod lock {
    use std::fs::File;
    use std::io;
    use std::path::Path;

    pub struct Locked;

    impl Locked {
        pub fn try_new(_: File) -> io::Result<Option<Locked>> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    pub fn user(_: &File) -> io::Result<u32> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub fn make_folder(_: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub fn create(_: &Path) -> io::Result<File> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
