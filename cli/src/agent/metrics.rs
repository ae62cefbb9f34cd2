//! The agent's metrics, on the socket and in a file for a collector of text files.

use super::served::Served;
use crate::sink::Sink;
use std::collections::BTreeMap;
use std::path::Path;

/// The type of what [`text`] returns (OpenMetrics 1.0).
pub const KIND: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Writes what the managers have counted.
pub fn text(tokens: &BTreeMap<String, Served>) -> String {
    token_manager::openmetrics(tokens.values().map(|served| &served.keeper.manager))
}

/// Writes them into a file.
pub fn write_file(path: &Path, tokens: &BTreeMap<String, Served>) {
    if let Err(failure) = Sink::readable(path.to_owned()).write_text(&text(tokens)) {
        log::warn!("{}", failure.message);
    }
}
