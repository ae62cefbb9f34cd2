//! Starts the library's own threads; no other file does. The host's signal handlers never run on them, and those of one
//! manager are counted until they have let go of all they were given.

use crate::locks::{Condvar, Mutex};
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

/// How many threads one manager has in this process.
#[derive(Default)]
pub struct Running {
    count: Mutex<u32>,
    ended: Condvar,
}

impl Running {
    /// Waits until there is none; false if the deadline passes first.
    pub fn wait_until_none(&self, deadline: Instant) -> bool {
        let mut count = self.count.lock();
        while *count > 0 && !self.ended.wait_until(&mut count, deadline).timed_out() {}
        *count == 0
    }
}

/// Counts one thread, or one task of a thread that several managers share, for as long as it lives.
pub struct Ticket(Arc<Running>);

impl Ticket {
    pub fn take(running: &Arc<Running>) -> Ticket {
        *running.count.lock() += 1;
        Ticket(running.clone())
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        *self.0.count.lock() -= 1;
        self.0.ended.notify_all();
    }
}

/// Starts a thread that is counted until `run`, and all that it holds, is gone.
///
/// # Errors
/// When the system has no thread left; `run` is dropped.
pub fn spawn(name: &str, running: &Arc<Running>, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let ticket = Ticket::take(running);
    let counted = move || {
        // Dropped last, by a panic too: the call consumes `run`.
        let _ticket = ticket;
        run();
    };
    without_signals(|| thread::Builder::new().name(name.into()).spawn(counted)).map(drop)
}

/// Runs this with all signals blocked but those that a thread raises by what it does itself; threads started meanwhile
/// inherit that.
pub fn without_signals<T>(run: impl FnOnce() -> T) -> T {
    let _blocked = mask::Blocked::until_dropped();
    run()
}

#[cfg(unix)]
mod mask {
    use nix::sys::signal::{SigSet, SigmaskHow, Signal};

    /// The calling thread's mask from before.
    pub struct Blocked(Option<SigSet>);

    impl Blocked {
        pub fn until_dropped() -> Blocked {
            use Signal::{SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP};
            let mut signals = SigSet::all();
            for synchronous in [SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP] {
                signals.remove(synchronous);
            }
            Blocked(signals.thread_swap_mask(SigmaskHow::SIG_BLOCK).ok())
        }
    }

    impl Drop for Blocked {
        fn drop(&mut self) {
            // Neither call can fail: the set and the request are valid.
            let _ = self.0.as_ref().map(SigSet::thread_set_mask);
        }
    }
}

#[cfg(not(unix))]
mod mask {
    pub struct Blocked;

    impl Blocked {
        pub fn until_dropped() -> Blocked {
            Blocked
        }
    }
}
