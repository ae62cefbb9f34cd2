//! Forked children of a test, and what they have in common.

use std::io::{Read, Write, pipe};
use std::time::Duration;
use token_manager::store::{Claim, Claimed, Grant, Lease, Secret, TokenName};
use token_manager::{Budget, Store};

pub const HOUR: Duration = Duration::from_secs(3600);
pub const LONG: Duration = Duration::from_secs(60);

/// A forked child; dropping it kills it.
pub struct Child(pub libc::pid_t);

impl Child {
    /// Forks a child that runs this and ends without any of the parent's clean-up; its status says whether it returned.
    pub fn fork(run: impl FnOnce()) -> Child {
        // SAFETY: the child uses what is meant to work after a fork, and leaves through `_exit`.
        match unsafe { libc::fork() } {
            0 => {
                // A child of a child ends with it.
                unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
                let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_ok();
                unsafe { libc::_exit(i32::from(!ran)) }
            }
            pid => Child(pid),
        }
    }

    pub fn signal(&self, signal: libc::c_int) {
        // SAFETY: it is our child, and nobody else waits for it.
        assert_eq!(unsafe { libc::kill(self.0, signal) }, 0);
    }

    /// Waits for its end; true if it ran through.
    pub fn wait(mut self) -> bool {
        let mut status = -1;
        // SAFETY: as above.
        assert_eq!(unsafe { libc::waitpid(self.0, &raw mut status, 0) }, self.0);
        self.0 = 0;
        status == 0
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.0 > 0 {
            // SAFETY: as above.
            unsafe {
                libc::kill(self.0, libc::SIGKILL);
                libc::waitpid(self.0, std::ptr::null_mut(), 0);
            }
        }
    }
}

/// Numbers that children tell their parent, whole or not at all.
pub struct Told(std::io::PipeReader, std::io::PipeWriter);

impl Told {
    pub fn new() -> Told {
        let (reader, writer) = pipe().unwrap();
        Told(reader, writer)
    }

    pub fn tell(&self, number: u64) {
        (&self.1).write_all(&number.to_le_bytes()).unwrap();
    }

    pub fn next(&self) -> u64 {
        let mut number = [0; 8];
        (&self.0).read_exact(&mut number).unwrap();
        u64::from_le_bytes(number)
    }
}

/// A folder in memory, for what does not depend on a disk and would wait for one.
pub fn folder_in_memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap()
}

pub fn name(of: &str) -> TokenName {
    TokenName { namespace: "tm".into(), group: of.into(), name: of.into(), grant: of.into() }
}

pub fn claim(store: &dyn Store, owner: &str, newer_than: u64, lease: Duration) -> Claimed {
    let budget = Some(Budget::per_minute(60).burst(60_000));
    let claim = Claim { owner, attempt: 1, newer_than, lease, budget, egress: "default" };
    store.claim(&name("t"), &claim).unwrap()
}

pub fn lease(owner: &str, generation: u64) -> Lease {
    Lease { owner: owner.into(), attempt: 1, generation }
}

/// A grant that tells its generation in token and carried secret.
pub fn grant(generation: u64, padding: usize) -> Grant {
    let text = format!("{generation} {}", "x".repeat(padding));
    let (value, carry) = (Secret::new(text.clone()), Some(Secret::new(text)));
    Grant { value, left: HOUR, life: HOUR, age: None, carry, carry_lifetime: None }
}

/// Returns the generation that a secret tells.
pub fn told_by(secret: &Secret) -> u64 {
    secret.reveal().split(' ').next().and_then(|word| word.parse().ok()).expect("a whole secret")
}
