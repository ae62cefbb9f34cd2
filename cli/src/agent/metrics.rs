//! The agent's metrics, on the socket and in a file for a collector of text files.

use super::Loaded;
use super::served::Served;
use crate::sink::Sink;
use std::collections::BTreeMap;
use std::fmt::Write;

/// The type of what [`text`] returns (OpenMetrics 1.0).
pub const KIND: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Writes what the managers have done.
pub fn text(tokens: &BTreeMap<String, Served>) -> String {
    let mut text = String::new();
    type Read = fn(&token_manager::Stats) -> u64;
    let counters: [(&str, &str, Read); 6] = [
        ("flights", "Flights started.", |stats| stats.flights),
        ("fetches", "Calls of the source.", |stats| stats.fetches),
        ("failures", "Calls of the source that failed.", |stats| stats.failures),
        ("adopted", "Tokens taken into use.", |stats| stats.adopted),
        ("waits", "Callers that had to wait.", |stats| stats.waits),
        ("timeouts", "Callers whose deadline passed.", |stats| stats.timeouts),
    ];
    for (name, help, read) in counters {
        let _ = write!(text, "# HELP token_manager_{name} {help}\n# TYPE token_manager_{name} counter\n"); // into a text
        for (token, served) in tokens {
            let count = read(&served.keeper.manager.stats());
            let _ = writeln!(text, "token_manager_{name}_total{{token=\"{}\"}} {count}", escaped(token));
        }
    }
    text + "# EOF\n"
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Writes the file that the settings name, if they name one.
pub fn write_file(loaded: &Loaded) {
    let Some(path) = &loaded.metrics_file else { return };
    let sink = Sink::readable(path.clone());
    if let Err(failure) = sink.write_text(&text(&loaded.tokens)) {
        log::warn!("{}", failure.message);
    }
}
