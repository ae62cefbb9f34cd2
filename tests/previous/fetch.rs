//! A source that several processes share: a file has a line for each fetch, and others beside it hold it up or let it fail.
//! Built with this version and with the one before it.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};
use token_manager::{Attempt, Budget, FetchError, Fetched, TokenManager};

/// Builds the manager of one process.
pub fn manager(redis: &str, log: PathBuf, version: &'static str) -> TokenManager {
    let builder = TokenManager::builder("t").redis(redis).expect("a URL").deadline(Duration::from_secs(60));
    let builder = builder.budget(Budget::per_minute(6_000).burst(1_000));
    builder.source(move |attempt: &Attempt| fetch(attempt, &log, version)).build().expect("settings that agree")
}

/// Each fetch is a line: the version, what it presented, and whether that had been presented before.
fn fetch(attempt: &Attempt, log: &Path, version: &str) -> Result<Fetched, FetchError> {
    let carry = attempt.carry().unwrap_or("-");
    let line = format!("{version} {carry} {}\n", attempt.presented().is_some());
    let mut file = OpenOptions::new().create(true).append(true).open(log).map_err(FetchError::unavailable)?;
    file.write_all(line.as_bytes()).map_err(FetchError::unavailable)?;
    let number = fs::read_to_string(log).map_err(FetchError::unavailable)?.lines().count();
    let start = Instant::now();
    while log.with_extension("hold").exists() && start.elapsed() < Duration::from_secs(9) {
        thread::sleep(Duration::from_millis(5));
    }
    if log.with_extension("throttle").exists() {
        return Err(FetchError::throttled(Some(Duration::from_secs(2))));
    }
    Ok(Fetched::new(format!("token-{number}"), Duration::from_secs(3600)).carry(format!("refresh-{number}")))
}
