//! Who this process is in the store: one UUID for all of its managers, and another one in a forked child.

use crate::clock;
use crate::fork::PerProcess;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// The process's name, and what is drawn once for it.
pub struct Identity {
    owner: Arc<str>,
    seed: u64,
    attempts: AtomicU64,
}

static IDENTITY: OnceLock<PerProcess<Identity>> = OnceLock::new();

/// Returns this process's identity.
pub fn identity() -> &'static Identity {
    IDENTITY.get_or_init(|| PerProcess::new(Identity::new())).get(Identity::new)
}

impl Identity {
    fn new() -> Identity {
        let mut random = [0; 16];
        if getrandom::fill(&mut random).is_err() {
            // Without the system's randomness, time and pid still keep two processes apart.
            random[..8].copy_from_slice(&clock::steady_micros().to_le_bytes());
            random[8..12].copy_from_slice(&std::process::id().to_le_bytes());
        }
        Identity {
            owner: uuid::Builder::from_random_bytes(random).into_uuid().to_string().into(),
            seed: u64::from_le_bytes(random[8..].try_into().expect("eight bytes")),
            attempts: AtomicU64::new(0),
        }
    }

    /// Returns the UUID under which the process claims.
    pub fn owner(&self) -> &Arc<str> {
        &self.owner
    }

    /// Returns a number unlike that of any other process, for what is to be spread.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Returns the number of a new flight, unlike that of any other in this process.
    pub fn next_attempt(&self) -> u64 {
        self.attempts.fetch_add(1, Ordering::Relaxed) + 1
    }
}
