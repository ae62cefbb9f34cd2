//! The agent's metrics, on the socket and in a file for a collector of text files.

use super::Loaded;
use super::served::Served;
use crate::sink::Sink;
use std::collections::BTreeMap;

/// The type of what [`text`] returns (OpenMetrics 1.0).
pub const KIND: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Writes what the managers have counted.
pub fn text(tokens: &BTreeMap<String, Served>) -> String {
    token_manager::openmetrics(tokens.values().map(|served| &served.keeper.manager))
}

/// Writes the file that the settings name, if they name one.
pub fn write_file(loaded: &Loaded) {
    let Some(path) = &loaded.metrics_file else { return };
    let sink = Sink::readable(path.clone());
    if let Err(failure) = sink.write_text(&text(&loaded.tokens)) {
        log::warn!("{}", failure.message);
    }
}
