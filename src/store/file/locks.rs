//! The locks of a folder: ranges of one byte of one file, each for one file of tokens. The kernel takes them back when their process
//! ends, however it ends, whatever children it has.
//!
//! POSIX record locks belong to the process: they do not part its threads, and closing any descriptor of the file gives all of
//! them back. So a process opens the file once, for all its stores, and never closes it.

use crate::clock;
use crate::fork::PerProcess;
use crate::locks::{Condvar, Mutex};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

/// The first and the longest pause between two tries.
const PAUSES: (Duration, Duration) = (Duration::from_micros(20), Duration::from_millis(1));

/// The locks of one folder in one process.
pub struct Locks {
    file: File,
    /// What threads of this process hold or ask the kernel for.
    taken: Mutex<HashSet<u32>>,
    given_back: Condvar,
}

/// By device and inode.
type Opened = HashMap<(u64, u64), Arc<Locks>>;

static OPEN: LazyLock<PerProcess<Mutex<Opened>>> = LazyLock::new(PerProcess::default);

impl Locks {
    /// Returns the locks that this file is for, which is made if it is not there.
    pub fn of(path: &Path) -> io::Result<Arc<Locks>> {
        let mut open = OPEN.get(Default::default).lock();
        let known = fs::metadata(path).ok().and_then(|found| open.get(&(found.dev(), found.ino())));
        if let Some(locks) = known {
            return Ok(locks.clone());
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let file = options.open(path)?;
        let id = file.metadata().map(|found| (found.dev(), found.ino()))?;
        if let Some(locks) = open.get(&id) {
            std::mem::forget(file); // closing it would give back what others hold
            return Ok(locks.clone());
        }
        let locks = Arc::new(Locks { file, taken: Mutex::default(), given_back: Condvar::new() });
        open.insert(id, locks.clone());
        Ok(locks)
    }

    /// Returns whether somebody has removed the file, so that other processes lock another one.
    pub fn is_removed(&self) -> bool {
        self.file.metadata().is_ok_and(|found| found.nlink() == 0)
    }

    /// Locks these bytes; `None` if others hold them beyond the deadline. Always in the same order, so that no two wait for each other.
    pub fn lock(self: &Arc<Self>, bytes: &[u32], deadline: Instant) -> io::Result<Option<Locked>> {
        let mut bytes = bytes.to_vec();
        bytes.sort_unstable();
        bytes.dedup();
        let mut held = Locked { locks: self.clone(), bytes: Vec::with_capacity(2) };
        for byte in bytes {
            if !self.take_turn(byte, deadline) {
                return Ok(None);
            }
            held.bytes.push(byte);
            if !self.ask_kernel(byte, deadline)? {
                return Ok(None);
            }
        }
        Ok(Some(held))
    }

    /// Waits for the other threads of this process.
    fn take_turn(&self, byte: u32, deadline: Instant) -> bool {
        let mut taken = self.taken.lock();
        while !taken.insert(byte) {
            if self.given_back.wait_until(&mut taken, deadline).timed_out() {
                return taken.insert(byte);
            }
        }
        true
    }

    fn ask_kernel(&self, byte: u32, deadline: Instant) -> io::Result<bool> {
        let mut pause = PAUSES.0;
        loop {
            match self.set(byte, libc::F_WRLCK) {
                Ok(_) => return Ok(true),
                Err(Errno::EAGAIN | Errno::EACCES) if clock::left(deadline).is_zero() => return Ok(false),
                Err(Errno::EAGAIN | Errno::EACCES) => thread::sleep(pause.min(clock::left(deadline))),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    fn set(&self, byte: u32, kind: impl TryInto<libc::c_short>) -> Result<i32, Errno> {
        let l_type = kind.try_into().map_err(|_| Errno::EINVAL)?;
        let range = libc::flock {
            l_type,
            l_whence: libc::SEEK_SET as _,
            l_start: byte as _,
            l_len: 1,
            l_pid: 0,
            #[cfg(target_os = "freebsd")]
            l_sysid: 0,
        };
        fcntl(&self.file, FcntlArg::F_SETLK(&range))
    }
}

/// Holds bytes until it is dropped.
pub struct Locked {
    locks: Arc<Locks>,
    bytes: Vec<u32>,
}

impl Drop for Locked {
    fn drop(&mut self) {
        // In this order: a thread that has its turn must not have its lock taken back.
        for byte in &self.bytes {
            // It fails only where there is no such lock.
            let _ = self.locks.set(*byte, libc::F_UNLCK);
        }
        let mut taken = self.locks.taken.lock();
        taken.retain(|byte| !self.bytes.contains(byte));
        drop(taken);
        self.locks.given_back.notify_all();
    }
}
