//! What goes to standard error: lines of this project's crates, which hold no secret. Other crates' records are not trusted with that.

use log::{LevelFilter, Log, Metadata, Record};

struct Stderr;

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("token_manager") || metadata.target().starts_with("tkm")
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            eprintln!("tkm: {}: {}", record.level().as_str().to_lowercase(), record.args());
        }
    }

    fn flush(&self) {}
}

/// Starts the log: warnings, unless they would be in the way, or what happens too.
pub fn start(verbose: bool, quiet: bool) {
    let unless_asked = if quiet { LevelFilter::Off } else { LevelFilter::Warn };
    if log::set_logger(&Stderr).is_ok() {
        log::set_max_level(if verbose { LevelFilter::Info } else { unless_asked });
    }
}
