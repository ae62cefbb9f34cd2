//! `tkm log`: the audit trail of a token.

use crate::args::Args;
use crate::failure::Failure;
use crate::inspect::when;
use crate::print;
use serde_json::{Map, Value};
use std::thread;
use std::time::Duration;
use token_manager::store::LogEntry;
use token_manager_config::Config;

/// How often it looks for what was added, and how much it reads at a time.
const LOOK: Duration = Duration::from_millis(500);
const AT_ONCE: u64 = 1000;

pub fn run(config: &Config, args: &Args) -> Result<(), Failure> {
    let name = args.name(1)?;
    let (store, place) = (config.trail(name)?, config.token_name(name)?);
    let count = args.number("count")?.unwrap_or(100).min(u32::MAX.into()) as u32;
    let mut entries = store.read_log(&place, count, None)?;
    let mut last = "0-0".to_owned();
    loop {
        let text: String = entries.iter().map(|entry| if args.json() { json(entry) } else { line(entry) }).collect();
        print(&text)?;
        if let Some(entry) = entries.last() {
            last.clone_from(&entry.id);
        }
        if !args.has("follow") {
            return Ok(());
        }
        thread::sleep(LOOK);
        entries = store.read_log(&place, AT_ONCE as u32, Some(&last))?;
    }
}

fn json(entry: &LogEntry) -> String {
    let mut told = Map::new();
    told.insert("id".into(), entry.id.clone().into());
    told.insert("at".into(), when(entry.at).into());
    told.extend(entry.fields.iter().map(|(name, value)| (name.clone(), Value::from(value.clone()))));
    Value::Object(told).to_string() + "\n"
}

fn line(entry: &LogEntry) -> String {
    let of = |name: &str| entry.get(name).unwrap_or("-");
    let took = entry.get("took_ms").map(|took| format!(" in {took} ms")).unwrap_or_default();
    let mark = entry.get("fingerprint").map(|mark| format!(" token {mark}")).unwrap_or_default();
    let what = match entry.get("outcome") {
        Some(outcome) => format!("{outcome}{took}{mark}"),
        None => of("event").to_owned(),
    };
    let (generation, owner, host, pid) = (of("generation"), of("owner"), of("host"), of("pid"));
    format!(
        "{} {generation:<16} {what:<60} owner {owner} host {host} pid {pid} egress {}\n",
        when(entry.at),
        of("egress")
    )
}
