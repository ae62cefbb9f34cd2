//! The agent's metrics, on the socket and in a file for a collector of text files.

use super::served::Served;
use crate::sink::Sink;
use std::collections::BTreeMap;
use std::path::Path;

/// The type of what [`text`] returns (OpenMetrics 1.0).
pub const KIND: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const END: &str = "# EOF\n";
const BEHIND: &str = "token_manager_file_behind";

/// Writes what the managers have counted, and which files are behind.
pub fn text(tokens: &BTreeMap<String, Served>) -> String {
    let mut text = token_manager::openmetrics(tokens.values().map(|served| &served.keeper.manager));
    text.truncate(text.len() - if text.ends_with(END) { END.len() } else { 0 });
    text += &format!("# TYPE {BEHIND} gauge\n# HELP {BEHIND} 1 where a file lacks the newest token, else 0.\n");
    for served in tokens.values() {
        let (place, behind) = (&served.place, served.behind());
        let [namespace, group, token] = [&place.namespace, &place.group, &place.name].map(|word| escaped(word));
        for path in &served.files {
            let (file, is_behind) = (escaped(&path.to_string_lossy()), u8::from(behind.contains(path)));
            text += &format!(
                "{BEHIND}{{namespace=\"{namespace}\",group=\"{group}\",token=\"{token}\",file=\"{file}\"}} {is_behind}\n"
            );
        }
    }
    text + END
}

fn escaped(word: &str) -> String {
    word.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n")
}

/// Writes them into a file.
pub fn write_file(path: &Path, tokens: &BTreeMap<String, Served>) {
    if let Err(failure) = Sink::readable(path.to_owned()).write_text(&text(tokens)) {
        log::warn!("{}", failure.message);
    }
}
